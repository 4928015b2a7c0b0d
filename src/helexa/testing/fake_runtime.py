"""An adapter for `runtime_child`, so that a test decides per model how its runtime fails.

It plans another program and reads that program's answers as llama.cpp's, whose
dialect the child speaks.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from helexa.protocol.errors import HelexaError, ModelUnknown
from helexa.protocol.ids import ModelId
from helexa.protocol.openai import usage
from helexa.protocol.work import Modality, Usage, WorkloadClass
from helexa.runtime.contract import (
    Ability,
    Capabilities,
    ChildRequest,
    DeviceWish,
    Endpoint,
    Exit,
    Footprint,
    Grant,
    LaunchPlan,
    ModelFiles,
    ReplicaSpec,
)
from helexa.runtime.llama_cpp import refusal
from helexa.runtime.openai import requests

OFFERED = Capabilities(
    classes=(
        WorkloadClass.CHAT_INTERACTIVE,
        WorkloadClass.COMPLETION,
        WorkloadClass.EMBEDDING,
        WorkloadClass.RERANK,
    ),
    modalities=(Modality.TEXT,),
    abilities=frozenset(Ability),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeRuntime:
    """`flags` by model; see `runtime_child --help`."""

    flags: Mapping[str, Sequence[str]] = field(default_factory=dict)
    journal: Path | None = None
    ready_within_s: float = 30.0
    stop_grace_s: float = 5.0
    live_every_s: float = 10.0
    live_within_s: float = 30.0
    bytes_per_slot: int = 0
    """Of memory that it claims for each slot, besides the size of its model."""
    wish: DeviceWish | None = None
    """For devices, which then hold all that a model needs."""
    name: str = "fake"
    offered: Capabilities = OFFERED

    def serves(self, files: ModelFiles) -> Capabilities | None:
        return self.offered if files.format == "fake" else None

    def footprint(self, spec: ReplicaSpec) -> Footprint:
        return Footprint(
            weights=spec.files.weights_bytes,
            kv_cache=spec.slots * self.bytes_per_slot,
            overhead=0,
            on_devices=spec.files.weights_bytes + spec.slots * self.bytes_per_slot,
        )

    def devices(self, spec: ReplicaSpec) -> DeviceWish | None:
        del spec
        return self.wish

    def plan(self, spec: ReplicaSpec, grant: Grant) -> LaunchPlan:
        journal = ("--journal", str(self.journal)) if self.journal else ()
        return LaunchPlan(
            argv=(
                *(sys.executable, "-I", "-m", "helexa.testing.runtime_child"),
                *("--socket", str(grant.socket), *journal),
                *self.flags.get(spec.files.model, ()),
            ),
            ready_within_s=self.ready_within_s,
            stop_grace_s=self.stop_grace_s,
            live_every_s=self.live_every_s,
            live_within_s=self.live_within_s,
        )

    def chat(self, body: bytes, spec: ReplicaSpec) -> ChildRequest:
        raw = requests.chat(body, spec, self.offered, runtime=self.name)
        return requests.streamed(Endpoint.CHAT, raw, requests.generation(raw, spec))

    def text(self, body: bytes, spec: ReplicaSpec) -> ChildRequest:
        raw = requests.text(body, spec, self.offered, runtime=self.name)
        return requests.streamed(Endpoint.COMPLETIONS, raw, requests.generation(raw, spec))

    def embedding(self, body: bytes, spec: ReplicaSpec) -> ChildRequest:
        requests.embedding(body, spec, self.offered, runtime=self.name)
        return requests.whole(Endpoint.EMBEDDINGS, body)

    def rerank(self, body: bytes, spec: ReplicaSpec) -> ChildRequest:
        requests.rerank(body, spec, self.offered, runtime=self.name)
        return requests.whole(Endpoint.RERANK, body)

    def refusal(self, status: int, body: bytes, spec: ReplicaSpec) -> HelexaError:
        return refusal.meaning(status, body, spec)

    def usage(self, event: bytes) -> Usage | None:
        return usage.read(event)

    def explain_exit(self, status: int, log_tail: str) -> Exit:
        return refusal.exit_of(status, log_tail)


class Shelf:
    """A catalogue of fake models: name -> bytes that it claims to need."""

    def __init__(self, sizes: Mapping[str, int]) -> None:
        self.models = {ModelId(name): fake_files(name, size) for name, size in sizes.items()}
        self.failed: dict[str, str] = {}
        self._changed: Callable[[], None] | None = None

    def get(self, model: str) -> ModelFiles:
        found = self.models.get(ModelId(model))
        if found is None:
            raise ModelUnknown(model=model)
        return found

    async def find(self, model: str) -> tuple[ModelFiles, bool]:
        return self.get(model), False

    def remove(self, model: str) -> None:
        """As if its file was deleted."""
        del self.models[ModelId(model)]
        if self._changed is not None:
            self._changed()

    async def watch(self, changed: Callable[[], None]) -> None:
        """Nothing on this shelf changes by itself."""
        self._changed = changed

    def digest(self, model: ModelId) -> str:
        return f"sha256:{model.encode().hex():0<64}"

    async def compute_digest(self, model: ModelId) -> None:
        """It is known from the beginning."""


def fake_files(name: str, size: int = 1024) -> ModelFiles:
    return ModelFiles(
        model=ModelId(name),
        weights=Path(f"/nowhere/{name}.fake"),
        format="fake",
        architecture="fake",
        weights_bytes=size,
        context_tokens_trained=4096,
    )
