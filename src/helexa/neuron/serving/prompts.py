"""The beginnings of prompts that each replica's engine may still hold in its caches.

An engine does not say what it holds, but it holds what it read last, as far as its slots
and its prompt cache go. Cortexes are told, and send what begins alike to where it was
begun. All of it is forgotten with the child that knew it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from helexa.neuron.supervisor.engine import Engine
from helexa.neuron.supervisor.replica import Replica
from helexa.protocol.ids import ModelId
from helexa.protocol.work import ReplicaLoad
from helexa.runtime.contract import ReplicaSpec
from helexa.runtime.llama_cpp import memory

TOLD_MAX: Final = 128
"""Heads in one report, the newest prompts' first: a kilobyte, every second."""
PROMPTS_MAX: Final = 256
"""Remembered for one replica, however short they are."""


@dataclass(slots=True)
class Read:
    """What one engine read, oldest first: by the longest head, all heads and the tokens."""

    room_tokens: int
    prompts: OrderedDict[int, tuple[tuple[int, ...], int]] = field(default_factory=OrderedDict)

    def add(self, heads: Sequence[int], tokens: int) -> None:
        # A prompt that goes on from another one takes its place, also in the engine's slot.
        for head in heads:
            self.prompts.pop(head, None)
        self.prompts[heads[-1]] = (tuple(heads), tokens)
        held = sum(one for _, one in self.prompts.values())
        while len(self.prompts) > 1 and (
            held > self.room_tokens or len(self.prompts) > PROMPTS_MAX
        ):
            _, (_, left) = self.prompts.popitem(last=False)
            held -= left

    def newest(self) -> tuple[int, ...]:
        found: dict[int, None] = {}
        for heads, _ in reversed(self.prompts.values()):
            found.update(dict.fromkeys(heads))
            if len(found) >= TOLD_MAX:
                break
        return tuple(found)[:TOLD_MAX]


def room_tokens(spec: ReplicaSpec) -> int:
    """What slots and prompt cache hold together."""
    per_token = spec.files.kv_bytes_per_token
    cached = memory.prompt_cache_bytes(spec) // per_token if per_token else 0
    return spec.context_tokens * spec.slots + cached


class Prompts:
    """Written by the requests as they end, read by each report."""

    def __init__(self) -> None:
        self._by_model: dict[ModelId, tuple[Replica, Engine, Read]] = {}

    def served(self, replica: Replica, engine: Engine, heads: Sequence[int], tokens: int) -> None:
        """`tokens` with the answer, which the engine keeps behind the prompt."""
        if not heads or replica.engine is not engine:
            return
        model = replica.spec.files.model
        known = self._by_model.get(model)
        if known is None or known[1] is not engine:
            known = replica, engine, Read(room_tokens(engine.spec))
            self._by_model[model] = known
        known[2].add(heads, tokens)

    def beside(self, loads: Sequence[ReplicaLoad]) -> tuple[ReplicaLoad, ...]:
        """The loads with what their engines hold."""
        for model, (replica, engine, _) in list(self._by_model.items()):
            if replica.engine is not engine:
                del self._by_model[model]
        if not self._by_model:
            return tuple(loads)
        return tuple(
            msgspec.structs.replace(load, prefixes=known[2].newest())
            if (known := self._by_model.get(load.model)) is not None
            else load
            for load in loads
        )
