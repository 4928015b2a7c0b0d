"""What is particular to one kind of work, and what all kinds share: the data of `work.WorkApp`.

Apart from it because that is compiled, which generic dataclasses cannot be.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from helexa.cortex.gateway.dispatch import Dispatch
from helexa.cortex.gateway.envelope import OPENAI, Envelope
from helexa.cortex.gateway.ingress import Ingress
from helexa.cortex.gateway.observe import Observes
from helexa.cortex.gateway.receipts import Receipts
from helexa.cortex.gateway.seams import Door, Fleet
from helexa.cortex.gateway.surface import Surface
from helexa.protocol.openai.requests import Head
from helexa.protocol.work import WorkloadClass
from helexa.util.budget import Budget

JUDGED_INLINE_BYTES_MAX: Final = 256 * 1024
"""A larger body is looked at by another thread, since all other requests wait meanwhile."""

H = TypeVar("H", bound=Head)


@dataclass(frozen=True, slots=True)
class Judge:
    """Of what a head does not show. Nobody loads a model for a body that no neuron could take."""

    doubts: Callable[[bytes], bool]
    """Quick: most bodies are not looked at any further."""
    check: Callable[[bytes], None]
    """Raises HelexaError."""

    async def hear(self, body: bytes, beside: asyncio.Semaphore) -> None:
        """Of a body that it `doubts`."""
        if len(body) <= JUDGED_INLINE_BYTES_MAX:
            self.check(body)
        else:
            async with beside:
                await asyncio.to_thread(self.check, body)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkEndpoint(Generic[H]):
    """What a file in `endpoints/` says about one kind of work."""

    path: str
    head: type[H]
    classify: Callable[[H, bytes, Ingress], WorkloadClass]
    check: Callable[[H], None]
    """Raises BodyMalformed for what the types cannot say."""
    judge: Judge | None = None
    prompt: str = ""
    """The member of the body that engines keep in their caches; empty where they keep none."""
    surface: Surface | None = None
    """Where clients ask in other words: `head` and all the rest are those of the chat completion
    that it is served as."""
    envelope: Envelope = OPENAI
    for_clients: bool = True
    for_peers: bool = True
    """Whether other cortexes may ask this; they translate for their own clients themselves."""
    upstream_path: str = ""
    """What a neuron is asked by, where that is not `path`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What all work endpoints behind one door share."""

    fleet: Fleet
    door: Door
    dispatch: Dispatch
    observer: Observes
    now: Callable[[], float]
    body_bytes_max: int
    body_timeout_s: float
    bodies: Budget
    """What all bodies under way may take together, those of other doors included."""
    receipts: Receipts | None = None
    """Where what became of a request is kept for its client."""
