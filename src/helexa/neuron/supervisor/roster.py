"""All replicas of this neuron: who runs, who may start, who leaves.

A model is loaded when somebody asks for it. Many who ask at once wait for the
same start. Whether it fits is decided before anything starts. What was begun,
a load or a departure, goes on when whoever asked for it is gone.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias

import anyio.to_thread
from anyio.abc import TaskGroup

from helexa.neuron import budget
from helexa.neuron.settings import NeuronSettings
from helexa.neuron.supervisor.catalogue import Catalogue
from helexa.neuron.supervisor.departure import Departure
from helexa.neuron.supervisor.engine import Engine, launched
from helexa.neuron.supervisor.load_times import LoadTimes
from helexa.neuron.supervisor.loading import Loading, how, warm_share, work_of
from helexa.neuron.supervisor.recipe import FindAdapter, Recipes
from helexa.neuron.supervisor.replica import Means, Replica
from helexa.neuron.supervisor.standing import Standing
from helexa.neuron.supervisor.step import Phase
from helexa.protocol.errors import Busy, Draining, HelexaError
from helexa.protocol.ids import ModelId
from helexa.protocol.messages import ModelConfig
from helexa.protocol.work import ModelCapability, ModelProgress, ReplicaLoad
from helexa.runtime import adapters
from helexa.runtime.contract import ModelFiles, ReplicaSpec, RuntimeAdapter
from helexa.util.background import background

KEPT_AS_IT_IS: Final = (
    "it serves requests with its former configuration; the new one holds from its next load on"
)

Complete: TypeAlias = Callable[[tuple[ModelCapability, ...]], tuple[ModelCapability, ...]]
LaunchAny: TypeAlias = Callable[
    [RuntimeAdapter, ReplicaSpec, Path], AbstractAsyncContextManager[Engine]
]


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
    load_times: LoadTimes = field(default_factory=LoadTimes)
    completed: Complete = tuple
    """Adds to what is said of models on disk what is known of those on their way there."""


class Roster:
    """Use inside `running()`; at its end no child is left."""

    def __init__(self, store: Catalogue, settings: NeuronSettings, world: World) -> None:
        self.store = store
        self.draining = False
        self._settings = settings
        self._world = world
        self._replicas: dict[ModelId, Replica] = {}
        self._granted: dict[ModelId, int] = {}
        self._leaving: dict[ModelId, Departure] = {}
        self._loading: dict[ModelId, Loading] = {}
        self._recipes = Recipes(settings, world.find_adapter, threads=world.threads)
        self._standing = Standing(
            store,
            self._recipes,
            self._replicas,
            self._granted,
            self._leaving,
            world.load_times,
        )
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
        return self._replica_of(await self._found(model))

    async def engine(self, replica: Replica) -> Engine:
        """Its running child, started where none runs.

        Raises DoesNotFit, RuntimeExited or Draining.
        """
        if replica.engine is not None:
            return replica.engine
        self._check_not_leaving(replica.spec.files)
        self._grant(replica)
        try:
            return await replica.ready()
        finally:
            self._settle(replica)

    # --- for those who command

    async def load(self, model: str, config: ModelConfig | None = None) -> str:
        """Return when it serves, with a remark where that is not as it was asked.

        `config` holds from this load on. A replica that runs with another is started
        anew where it is idle, and stays as it is where it is not. Raises a HelexaError
        with the reason when it does not serve; what ran before then still does.
        """
        files = await self._found(model)
        if config is not None:
            self._recipes.ask(files, config)
        remark = await self._renewed(files)
        self._check_not_leaving(files)
        replica = self._replica_of(files)
        self._grant(replica)
        try:
            await replica.load()
        finally:
            self._settle(replica)
        return remark

    async def unload(self, model: str, grace_s: float, *, if_idle: bool = False) -> None:
        """Return when it is stopped. Requests in flight end first, at most for `grace_s`.

        With `if_idle` raises Busy where there are any, or where it is being loaded for somebody.
        """
        files = self.store.get(model)
        replica = self._replicas.get(files.model)
        if replica is None or replica.state.phase is Phase.STOPPED:
            return
        if if_idle:
            _check_idle(replica)
        await self._sent_off(replica, grace_s).over()

    def configure(self, model: str, config: ModelConfig) -> None:
        """How it is to be served from its next load on. Raises ModelUnknown."""
        self._recipes.ask(self.store.get(model), config)

    def drain(self, *, enabled: bool) -> None:
        self.draining = enabled
        self._changed()

    def measured(self, model: ModelId, *, tokens_per_s: float, first_token_s: float) -> None:
        """What a request showed; 0 is what it did not show."""
        standing = self._standing
        news = tokens_per_s > 0 and standing.tokens_per_s.measured(model, tokens_per_s)
        news |= first_token_s > 0 and standing.first_token_s.measured(model, first_token_s)
        if news:
            self._changed()

    # --- for those who watch

    def observe(self, changed: Callable[[], None]) -> None:
        """`changed` is called after each change of what `capabilities` says; it must not wait."""
        self._observers.append(changed)

    def capabilities(self) -> tuple[ModelCapability, ...]:
        """Every model on disk, the broken ones with their reason."""
        return self._world.completed(self._standing.capabilities())

    def capability(self, model: str) -> ModelCapability:
        """Raises what `Catalogue.get` raises."""
        said = self._standing.capability(self.store.get(model))
        return next(one for one in self._world.completed((said,)) if one.model == said.model)

    def is_in_use(self, model: ModelId) -> bool:
        """Whether it is loaded, on its way to or from that, or asked for."""
        replica = self._replicas.get(model)
        return replica is not None and (
            replica.state.holds_memory or replica.is_asked or replica.gate.present_count > 0
        )

    def loads(self) -> tuple[ReplicaLoad, ...]:
        return self._standing.loads()

    def progress(self) -> tuple[ModelProgress, ...]:
        """Of the loads that go on now."""
        return tuple(
            ModelProgress(model=model, progress=loading.progress())
            for model, loading in sorted(self._loading.items())
        )

    @property
    def granted(self) -> Mapping[ModelId, int]:
        return self._granted

    # ---

    async def _found(self, model: str) -> ModelFiles:
        """The files of a model that may be asked for now."""
        files, changed = await self.store.find(model)
        if changed:
            self._store_changed()
        if self.draining:
            raise Draining(reason="This neuron is being drained; it takes no new work.")
        self._check_not_leaving(files)
        return files

    def _check_not_leaving(self, files: ModelFiles) -> None:
        if files.model in self._leaving:
            raise Draining(reason=f"{files.model!r} is being unloaded.")

    def _replica_of(self, files: ModelFiles) -> Replica:
        # Nothing may wait between the check of `_found` and the caller's place in the gate.
        known = self._replicas.get(files.model)
        if known is not None and (known.state.holds_memory or known.gate.present_count):
            return known
        adapter, spec = self._recipes.adapter(files), self._recipes.spec(files)
        if known is not None and known.adapter is adapter and known.asked == spec:
            return known
        return self._new_replica(adapter, spec)

    async def _renewed(self, files: ModelFiles) -> str:
        """Stop what runs in another way than it is wanted, or say why not."""
        known = self._replicas.get(files.model)
        if known is None or not known.state.holds_memory:
            return ""
        adapter, spec = self._recipes.adapter(files), self._recipes.spec(files)
        if known.adapter is adapter and known.asked == spec:
            return ""
        try:
            _check_idle(known)
        except Busy:
            return KEPT_AS_IT_IS
        others = {model: size for model, size in self._granted.items() if model != files.model}
        freed = self._granted.get(files.model, 0) if known.engine is not None else 0
        memory = budget.returned(self._world.memory(), freed)
        budget.admit(files.model, adapter.footprint(spec), memory, others)
        await self._sent_off(known, 0.0).over()
        return ""

    def _new_replica(self, adapter: RuntimeAdapter, spec: ReplicaSpec) -> Replica:
        model = spec.files.model

        def changed() -> None:
            if not replica.state.holds_memory:
                self._granted.pop(model, None)
            if replica.state.phase is Phase.READY:
                self._loaded(model)
            self._changed()

        means = Means(
            launch=lambda spec: self._launched(adapter, spec),
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

    @asynccontextmanager
    async def _launched(self, adapter: RuntimeAdapter, spec: ReplicaSpec) -> AsyncIterator[Engine]:
        """A child in the making, and how far it is."""
        model = spec.files.model
        begun_at = self._world.clock()
        warm = await anyio.to_thread.run_sync(warm_share, spec.files.weights)
        loading = self._loading[model] = Loading(
            model=model,
            how=how(adapter.name, spec),
            work=work_of(spec, adapter.footprint(spec), warm),
            times=self._world.load_times,
            clock=self._world.clock,
            begun_at=begun_at,
        )
        try:
            async with self._world.launch(adapter, spec, self._world.run) as engine:
                loading.pid = engine.process.pid
                yield engine
        finally:
            self._loading.pop(model, None)

    def _loaded(self, model: ModelId) -> None:
        loading = self._loading.pop(model, None)
        if loading is not None:
            times = self._world.load_times
            self._tasks.start_soon(times.note, loading.ended(), name="load time")
        self._tasks.start_soon(self._compute_digest, model, name="digest")

    def _sent_off(self, replica: Replica, grace_s: float) -> Departure:
        model = replica.spec.files.model
        departure = self._leaving.get(model)
        if departure is None:
            departure = self._leaving[model] = Departure(replica)
            self._tasks.start_soon(self._see_off, model, departure, name=f"departure of {model}")
            self._changed()
        departure.within(grace_s)
        return departure

    async def _see_off(self, model: ModelId, departure: Departure) -> None:
        try:
            await departure.take_place()
        finally:
            del self._leaving[model]
            self._changed()

    def _grant(self, replica: Replica) -> None:
        model = replica.spec.files.model
        if model in self._granted:
            return
        need = replica.adapter.footprint(replica.spec)
        self._granted[model] = budget.admit(model, need, self._world.memory(), self._granted)

    def _settle(self, replica: Replica) -> None:
        # A start that was refused, by a cool-down for one, changed no state and so told nobody.
        if not replica.state.holds_memory and not replica.is_asked:
            self._granted.pop(replica.spec.files.model, None)

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


def _check_idle(replica: Replica) -> None:
    """Raises Busy. Nothing may wait between this and what makes it leave."""
    model = replica.spec.files.model
    if replica.gate.present_count:
        raise Busy(
            reason=f"{model!r} has {replica.gate.running} requests running and "
            f"{replica.gate.waiting} waiting."
        )
    if replica.is_asked:
        raise Busy(reason=f"{model!r} is being loaded for somebody who waits for it.")
