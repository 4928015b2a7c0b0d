"""All replicas of this neuron: who runs, who may start, who leaves.

A model is loaded when somebody asks for it. Many who ask at once wait for the
same start. Whether it fits is decided before anything starts. What was begun,
a load or a departure, goes on when whoever asked for it is gone.
"""

from __future__ import annotations

import math
import random
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias

import anyio
from anyio.abc import TaskGroup

from helexa.neuron import budget, cores, devices
from helexa.neuron.settings import NeuronSettings
from helexa.neuron.supervisor.catalogue import Catalogue
from helexa.neuron.supervisor.departure import Departure
from helexa.neuron.supervisor.engine import Engine, Lent, launched
from helexa.neuron.supervisor.events import Happened, Tell, Unloaded, Why
from helexa.neuron.supervisor.evictions import Evictions
from helexa.neuron.supervisor.grants import Grants, Machine
from helexa.neuron.supervisor.launches import LaunchAny, Launches
from helexa.neuron.supervisor.load_times import LoadTimes
from helexa.neuron.supervisor.recipe import FindAdapter, Recipe, Recipes
from helexa.neuron.supervisor.replica import Means, Replica
from helexa.neuron.supervisor.room import Resident
from helexa.neuron.supervisor.standing import Standing
from helexa.neuron.supervisor.step import Phase
from helexa.neuron.supervisor.weighing import Scales
from helexa.protocol.errors import Busy, Draining
from helexa.protocol.ids import ModelId
from helexa.protocol.messages import ModelConfig
from helexa.protocol.work import DeviceLoad, ModelCapability, ModelProgress, ReplicaLoad
from helexa.runtime import adapters, installed
from helexa.runtime.contract import ModelFiles, ReplicaSpec
from helexa.util.background import background

KEPT_AS_IT_IS: Final = (
    "it serves requests with its former configuration; the new one holds from its next load on"
)

LOOK_EVERY_S: Final = 15.0
"""At what others took of the devices; it is looked at before every load, too."""

Complete: TypeAlias = Callable[[tuple[ModelCapability, ...]], tuple[ModelCapability, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What the roster takes from outside, so that a test can hand it another."""

    memory: Callable[[], budget.Memory]
    run: Path = Path(tempfile.gettempdir())
    """Where children get their folders; short, because sockets lie in them."""
    machine: Machine = field(default_factory=Machine)
    """Devices and CPUs."""
    threads: int = 0
    clock: Callable[[], float] = time.monotonic
    random: Callable[[], float] = random.random
    find_adapter: FindAdapter = adapters.adapter_for
    keys: Mapping[str, str] = field(default_factory=dict)
    """That servers are shown, by the servers' names."""
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
        self._leaving: dict[ModelId, Departure] = {}
        self._grants = Grants(world.memory, world.machine)
        self._recipes = Recipes(
            settings,
            world.find_adapter,
            threads=world.threads,
            keys=world.keys,
            machine=world.machine.cores,
        )
        self._scales = Scales(self._replicas)
        self._launches = Launches(
            world.launch, world.run, world.load_times, clock=world.clock, tell=self._tell
        )
        self._standing = Standing(
            store,
            self._recipes,
            self._replicas,
            self._leaving,
            grants=self._grants,
            times=world.load_times,
            scales=self._scales,
        )
        self._evictions = Evictions(
            self._grants, self._residents, self._evicted, stay_s=settings.stay_s
        )
        self._observers: list[Callable[[], None]] = []
        self._witnesses: list[Tell] = []
        self._tasks: TaskGroup

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with background() as self._tasks:
            self._tasks.start_soon(self.store.watch, self._store_changed, name="models folder")
            self._tasks.start_soon(self._scales.weigh, name="memory of replicas")
            if self._world.machine.devices:
                self._tasks.start_soon(self._look_at_devices, name="memory of devices")
            if self._settings.idle_timeout_s:
                sweep, timeout_s = self._evictions.sweep, self._settings.idle_timeout_s
                self._tasks.start_soon(sweep, timeout_s, name="idle models")
            yield

    # --- for those who serve

    async def replica(self, model: str) -> Replica:
        """The replica of a model, running or not.

        Raises ModelUnknown, NoCapacity (the file cannot be read), CapabilityMissing
        (no runtime for it) or Draining.
        """
        return self._replica_of(await self._found(model))

    async def engine(self, replica: Replica, *, displacing: bool = False) -> Engine:
        """Its running child, started where none runs.

        `displacing` lets idle models leave for it, where the operator allows that; else
        it has to fit beside them. Raises DoesNotFit, RuntimeExited, NoCapacity or Draining.
        """
        if replica.engine is not None:
            return replica.engine
        self._check_not_leaving(replica.spec.files)
        try:
            await self._grant(replica, displacing=displacing)
            return await replica.ready()
        finally:
            self._asked_no_more(replica)

    # --- for those who command

    async def load(
        self, model: str, config: ModelConfig | None = None, *, displacing: bool = False
    ) -> str:
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
        try:
            await self._grant(replica, displacing=displacing)
            await replica.load()
        finally:
            self._asked_no_more(replica)
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
        await self._sent_off(replica, Why.ASKED, grace_s).over()

    def configure(self, model: str, config: ModelConfig) -> None:
        """How it is to be served from its next load on.

        Raises ModelUnknown, or RequestRejected for what its runtime does not take.
        """
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

    def witness(self, tell: Tell) -> None:
        """`tell` hears what happens, once each; it must not wait."""
        self._witnesses.append(tell)

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

    def device_loads(self) -> tuple[DeviceLoad, ...]:
        return self._grants.loads()

    def free_bytes(self) -> int:
        """For one more model, where models of this neuron go.

        One figure for two kinds of memory: that of the devices, if any model would go there.
        """
        if self._standing.uses_devices():
            return sum(one.free_bytes for one in self._grants.loads())
        return budget.free(self._world.memory(), self._grants.by_model)

    def progress(self) -> tuple[ModelProgress, ...]:
        """Of the models that are being loaded, or wait for room."""
        return (*self._launches.progress(), *self._evictions.progress())

    @property
    def granted(self) -> Mapping[ModelId, int]:
        return self._grants.by_model

    @property
    def footprint_errors(self) -> Mapping[ModelId, float]:
        """Of the models that serve: how far their estimate is from what was measured."""
        return self._scales.errors()

    # --- models that may be asked for

    async def _found(self, model: str) -> ModelFiles:
        """The files of a model that may be asked for now."""
        files, changed = await self.store.find(model)
        if changed:
            self._store_changed()
        # Who left to make room or to come back otherwise is back when somebody asks for it.
        while (departure := self._leaving.get(files.model)) and departure.is_short:
            await departure.over()
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
        recipe = self._recipes.of(files)
        if known is not None and _is_as(known, recipe):
            return known
        return self._new_replica(recipe)

    def _new_replica(self, recipe: Recipe) -> Replica:
        adapter, spec = recipe.adapter, recipe.spec
        model = spec.files.model

        def changed() -> None:
            self._grants.settle(replica)
            if replica.state.phase is Phase.READY:
                self._tasks.start_soon(self._launches.ready, model, name="load time")
                self._tasks.start_soon(self._compute_digest, model, name="digest")
                self._scales.soon()
            self._changed()

        means = Means(
            launch=lambda spec: self._launches.launched(adapter, spec, self._lent(spec)),
            clock=self._world.clock,
            random=self._world.random,
            changed=changed,
            idle=self._evictions.stir,
        )
        replica = Replica(adapter, spec, means, queue_max=self._settings.queue_max)
        old = self._replicas.get(model)
        if old is not None:
            old.retire()
        self._replicas[model] = replica
        self._tasks.start_soon(replica.own, name=f"replica of {model}")
        return replica

    async def _renewed(self, files: ModelFiles) -> str:
        """Stop what runs in another way than it is wanted, or say why not."""
        known = self._replicas.get(files.model)
        if known is None or not known.state.holds_memory:
            return ""
        recipe = self._recipes.of(files)
        if _is_as(known, recipe):
            return ""
        try:
            _check_idle(known)
        except Busy:
            return KEPT_AS_IT_IS
        gone = next((one for one in self._residents() if one.model == files.model), None)
        if gone is not None:
            self._grants.check(recipe.adapter, recipe.spec, gone)
        await self._sent_off(known, Why.RENEWED, 0.0).over()
        return ""

    # --- memory

    async def _grant(self, replica: Replica, *, displacing: bool) -> None:
        if installed.missing(replica.adapter, replica.spec.installation) is not None:
            # Its start says so: nobody has to leave for it, and no device would help.
            return
        if displacing and self._settings.make_room:
            await self._evictions.grant(replica)
        elif not self._grants.has(replica.spec.files.model):
            await self._grants.look()
            self._grants.give(replica)

    def _asked_no_more(self, replica: Replica) -> None:
        self._grants.settle(replica)
        self._evictions.stir()

    def _residents(self) -> Sequence[Resident]:
        return [
            Resident(
                model=model,
                holds=self._holds(replica),
                idle_s=replica.idle_s,
                stayed_s=replica.gate.open_s,
                is_idle=replica.is_idle and model not in self._leaving,
            )
            for model in self._grants.by_model
            if (replica := self._replicas.get(model)) is not None
        ]

    def _holds(self, replica: Replica) -> int:
        """What becomes available when it is gone."""
        model = replica.spec.files.model
        if replica.engine is None:
            return 0
        return self._scales.bytes_of(model) or self._grants.by_model.get(model, 0)

    def _lent(self, spec: ReplicaSpec) -> Lent:
        granted = self._grants.of(spec.files.model)
        given = self._grants.lent(spec)
        lent = {share.device: share.lent for share in granted.lease.shares}
        return Lent(
            devices=given,
            shares=tuple(lent.get(devices.key(one), 0) / (one.memory_bytes or 1) for one in given),
            memory_bytes=granted.memory,
            cpus=granted.cpus,
            threads=cores.threads(granted.cpus, self._world.machine.cores),
        )

    async def _look_at_devices(self) -> None:
        while True:
            await anyio.sleep(LOOK_EVERY_S)
            await self._grants.look()

    # --- departures

    def _evicted(self, model: ModelId, why: Why) -> Departure:
        return self._sent_off(self._replicas[model], why, 0.0)

    def _sent_off(self, replica: Replica, why: Why, grace_s: float) -> Departure:
        model = replica.spec.files.model
        departure = self._leaving.get(model)
        if departure is None:
            departure = self._leaving[model] = Departure(replica, why)
            self._tasks.start_soon(self._see_off, model, departure, name=f"departure of {model}")
            self._changed()
        departure.within(grace_s)
        return departure

    async def _see_off(self, model: ModelId, departure: Departure) -> None:
        try:
            await departure.take_place()
        finally:
            del self._leaving[model]
            self._tell(Unloaded(model, departure.why))
            if departure.why is Why.GONE:
                self._store_changed()
            else:
                self._changed()

    # --- what changes on disk

    async def _compute_digest(self, model: ModelId) -> None:
        if not self.store.digest(model):
            await self.store.compute_digest(model)
            self._changed()

    def _store_changed(self) -> None:
        for model in self._replicas.keys() - self.store.models.keys():
            # Nobody can ask for it any more, so it need not hold memory.
            replica = self._replicas[model]
            if replica.state.holds_memory or replica.gate.present_count:
                self._sent_off(replica, Why.GONE, math.inf)
            else:
                replica.retire()
                del self._replicas[model]
        self._recipes.keep(self.store.models)
        self._changed()

    # ---

    def _changed(self) -> None:
        self._evictions.stir()
        for observer in self._observers:
            observer()

    def _tell(self, happened: Happened) -> None:
        for tell in self._witnesses:
            tell(happened)


def _is_as(replica: Replica, recipe: Recipe) -> bool:
    return replica.adapter is recipe.adapter and replica.asked == recipe.spec


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
