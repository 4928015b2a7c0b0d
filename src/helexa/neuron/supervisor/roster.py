"""All replicas of this neuron: who runs, who may start, and what is said about them.

A model is loaded when somebody asks for it. Many who ask at once wait for the
same start. Whether it fits is decided before anything starts.
"""

from __future__ import annotations

import logging
import random
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import anyio
from anyio.abc import TaskGroup

from helexa.neuron import budget
from helexa.neuron.settings import ModelSettings, NeuronSettings
from helexa.neuron.supervisor.catalogue import Catalogue
from helexa.neuron.supervisor.engine import Engine, launched
from helexa.neuron.supervisor.replica import Means, Replica
from helexa.neuron.supervisor.step import Phase
from helexa.protocol.errors import CapabilityMissing, Draining, HelexaError
from helexa.protocol.ids import ModelId, is_model_id
from helexa.protocol.messages import ModelConfig
from helexa.protocol.work import ModelCapability, ModelState, ReplicaLoad
from helexa.runtime import adapters
from helexa.runtime.contract import Capabilities, ModelFiles, ReplicaSpec, RuntimeAdapter
from helexa.util.background import background

log = logging.getLogger(__name__)

_SPEED_KEPT: Final = 0.7
"""Of the old estimate when a new measurement comes."""

FindAdapter: TypeAlias = Callable[[ModelFiles], tuple[RuntimeAdapter, Capabilities] | None]
LaunchAny: TypeAlias = Callable[
    [RuntimeAdapter, ReplicaSpec, Path], AbstractAsyncContextManager[Engine]
]

_STATES: Final = {
    Phase.STOPPED: ModelState.UNLOADED,
    Phase.STARTING: ModelState.LOADING,
    Phase.WAITING: ModelState.LOADING,
    Phase.READY: ModelState.LOADED,
    Phase.STOPPING: ModelState.UNLOADING,
    Phase.FAILED: ModelState.FAILED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What the roster takes from outside, so that a test can hand it another."""

    memory: Callable[[], budget.Memory]
    run: Path = Path(tempfile.gettempdir())
    """Where children get their folders; short, because sockets lie in them."""
    threads: int = 0
    clock: Callable[[], float] = time.monotonic
    random: Callable[[], float] = random.random
    find_adapter: FindAdapter = adapters.adapter_for
    launch: LaunchAny = launched


class Roster:
    """Use inside `running()`; at its end no child is left."""

    def __init__(self, store: Catalogue, settings: NeuronSettings, world: World) -> None:
        self.store = store
        self.draining = False
        self._settings = settings
        self._world = world
        self._replicas: dict[ModelId, Replica] = {}
        self._granted: dict[ModelId, int] = {}
        self._leaving: set[ModelId] = set()
        self._configs: dict[ModelId, ModelConfig] = {}
        self._speeds: dict[ModelId, float] = {}
        self._observers: list[Callable[[], None]] = []
        self._tasks: TaskGroup

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with background() as self._tasks:
            self._tasks.start_soon(self.store.watch, self._store_changed, name="models folder")
            yield

    # --- for those who serve

    async def replica(self, model: str) -> Replica:
        """The replica of a model, running or not.

        Raises ModelUnknown, NoCapacity (the file cannot be read), CapabilityMissing
        (no runtime for it) or Draining.
        """
        files, changed = await self.store.find(model)
        if changed:
            self._store_changed()
        if self.draining:
            raise Draining(reason="This neuron is being drained; it takes no new work.")
        if files.model in self._leaving:
            raise Draining(reason=f"{model!r} is being unloaded.")
        known = self._replicas.get(files.model)
        if known is not None and (known.state.holds_memory or known.gate.present_count):
            return known
        adapter, _ = self._adapter(files)
        spec = self._spec(files)
        if known is not None and known.adapter is adapter and known.asked == spec:
            return known
        return self._new_replica(adapter, spec)

    async def engine(self, replica: Replica) -> Engine:
        """Its running child, started where none runs. Raises DoesNotFit or RuntimeExited."""
        if replica.engine is not None:
            return replica.engine
        model = replica.spec.files.model
        self._grant(replica)
        try:
            return await replica.ready()
        finally:
            self._settle(model, replica)

    # --- for those who command

    async def load(self, model: str) -> None:
        """Return when it serves. Raises a HelexaError with the reason when it does not."""
        replica = await self.replica(model)
        self._grant(replica)
        try:
            await replica.load()
        finally:
            self._settle(replica.spec.files.model, replica)

    async def unload(self, model: str, grace_s: float) -> None:
        """Return when it is stopped. Requests in flight end first, at most for `grace_s`."""
        files = self.store.get(model)
        replica = self._replicas.get(files.model)
        if replica is None or replica.state.phase is Phase.STOPPED:
            return
        self._leaving.add(files.model)
        self._changed()
        try:
            with anyio.move_on_after(grace_s):
                await replica.gate.emptied()
            await replica.stop()
        finally:
            self._leaving.discard(files.model)
            self._changed()

    def configure(self, model: str, config: ModelConfig) -> None:
        """How it is to be served from its next load on. Raises ModelUnknown."""
        self._configs[self.store.get(model).model] = config

    def drain(self, *, enabled: bool) -> None:
        self.draining = enabled
        self._changed()

    def measured(self, model: ModelId, tokens_per_s: float) -> None:
        old = self._speeds.get(model)
        new = tokens_per_s if old is None else old * _SPEED_KEPT + tokens_per_s * (1 - _SPEED_KEPT)
        self._speeds[model] = new

    # --- for those who watch

    def observe(self, changed: Callable[[], None]) -> None:
        """`changed` is called after each change of what `capabilities` says; it must not wait."""
        self._observers.append(changed)

    def capabilities(self) -> tuple[ModelCapability, ...]:
        """Every model on disk, the broken ones with their reason."""
        models = self.store.models
        found = [self._capability(files) for _, files in sorted(models.items())]
        found += [
            ModelCapability(model=ModelId(name), state=ModelState.FAILED, reason=reason)
            for name, reason in sorted(self.store.failed.items())
            if is_model_id(name) and name not in models
        ]
        return tuple(found)

    def capability(self, model: str) -> ModelCapability:
        """Raises ModelUnknown or NoCapacity."""
        return self._capability(self.store.get(model))

    def loads(self) -> tuple[ReplicaLoad, ...]:
        return tuple(
            ReplicaLoad(
                model=model,
                running=replica.gate.running,
                waiting=replica.gate.waiting,
                slots=replica.gate.slots,
            )
            for model, replica in sorted(self._replicas.items())
            if replica.state.phase is not Phase.STOPPED or replica.gate.present_count
        )

    @property
    def granted(self) -> Mapping[ModelId, int]:
        return self._granted

    # ---

    def _new_replica(self, adapter: RuntimeAdapter, spec: ReplicaSpec) -> Replica:
        model = spec.files.model

        def changed() -> None:
            if not replica.state.holds_memory:
                self._granted.pop(model, None)
            if replica.state.phase is Phase.READY:
                self._tasks.start_soon(self._compute_digest, model, name="digest")
            self._changed()

        means = Means(
            launch=lambda spec: self._world.launch(adapter, spec, self._world.run),
            clock=self._world.clock,
            random=self._world.random,
            changed=changed,
        )
        replica = Replica(adapter, spec, means, queue_max=self._settings.queue_max)
        old = self._replicas.get(model)
        if old is not None:
            old.retire()
        self._replicas[model] = replica
        self._tasks.start_soon(replica.own, name=f"replica of {model}")
        return replica

    def _grant(self, replica: Replica) -> None:
        model = replica.spec.files.model
        if model in self._granted:
            return
        need = replica.adapter.footprint(replica.spec)
        self._granted[model] = budget.admit(model, need, self._world.memory(), self._granted)

    def _settle(self, model: ModelId, replica: Replica) -> None:
        # A start that was refused, by a cool-down for one, changed no state and so told nobody.
        if not replica.state.holds_memory and not replica.is_asked:
            self._granted.pop(model, None)

    async def _compute_digest(self, model: ModelId) -> None:
        if not self.store.digest(model):
            await self.store.compute_digest(model)
            self._changed()

    def _store_changed(self) -> None:
        for model in self._replicas.keys() - self.store.models.keys():
            self._tasks.start_soon(self._forget, model, name="forget")
        self._changed()

    async def _forget(self, model: ModelId) -> None:
        """Its file is gone: nobody can ask for it any more, so it need not hold memory."""
        replica = self._replicas[model]
        with suppress(HelexaError):
            await replica.gate.emptied()
            await replica.stop()

    def _changed(self) -> None:
        for observer in self._observers:
            observer()

    def _adapter(self, files: ModelFiles) -> tuple[RuntimeAdapter, Capabilities]:
        found = self._world.find_adapter(files)
        if found is None:
            raise CapabilityMissing(model=files.model, capability="any runtime of this neuron")
        return found

    def _spec(self, files: ModelFiles) -> ReplicaSpec:
        settings = self._settings.models.get(files.model, ModelSettings())
        asked = self._configs.get(files.model, ModelConfig())
        trained = files.context_tokens_trained or self._settings.context_tokens
        return ReplicaSpec(
            files=files,
            context_tokens=asked.context_tokens
            or settings.context_tokens
            or min(self._settings.context_tokens, trained),
            slots=asked.slots or settings.slots or self._settings.slots,
            deterministic=bool(
                settings.deterministic if asked.deterministic is None else asked.deterministic
            ),
            threads=self._world.threads,
        )

    def _capability(self, files: ModelFiles) -> ModelCapability:
        found = self._world.find_adapter(files)
        replica = self._replicas.get(files.model)
        state, reason = ModelState.UNLOADED, ""
        if replica is not None:
            state, reason = _STATES[replica.state.phase], replica.state.reason
            if files.model in self._leaving and state is ModelState.LOADED:
                state = ModelState.DRAINING
        if found is None:
            return ModelCapability(
                model=files.model,
                state=ModelState.FAILED,
                architecture=files.architecture,
                reason=f"no runtime of this neuron serves {files.architecture!r}",
            )
        adapter, offered = found
        spec = replica.spec if replica is not None else self._spec(files)
        need = adapter.footprint(spec).total
        return ModelCapability(
            model=files.model,
            state=state,
            digest=self.store.digest(files.model),
            runtime=adapter.name,
            architecture=files.architecture,
            parameters=files.parameters,
            quantisation=files.quantisation,
            classes=offered.classes,
            modalities=offered.modalities,
            context_tokens=spec.context_tokens,
            slots=spec.slots,
            tools=offered.tools,
            structured_output=offered.structured_output,
            reasoning=offered.reasoning,
            memory_bytes=self._granted.get(files.model, need),
            tokens_per_s=round(self._speeds.get(files.model, 0.0), 1),
            reason=reason,
        )
