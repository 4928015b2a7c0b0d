"""A moment to plan in, in few words: neurons as they say they are, demand, catalogue, time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from helexa.cortex.orchestrator.catalogue import catalogue
from helexa.cortex.orchestrator.fleet import (
    FleetView,
    HealthReported,
    Mark,
    NeuronLeft,
    NeuronMarked,
    NeuronRegistered,
    TimePassed,
    apply,
)
from helexa.cortex.orchestrator.provisioning.given import Given
from helexa.cortex.orchestrator.provisioning.plan import (
    Action,
    Kind,
    Memory,
    Pending,
    Plan,
    Setback,
    Want,
)
from helexa.cortex.orchestrator.provisioning.planner import plan
from helexa.cortex.settings import ModelEntry, OrchestratorSettings
from helexa.protocol.ids import ModelId, NodeId, OperatorId
from helexa.protocol.work import (
    Fingerprint,
    Load,
    ModelCapability,
    ModelProgress,
    ModelState,
    NeuronDescriptor,
    ReplicaLoad,
)

GIB: Final = 1 << 30
STAYING: Final = OrchestratorSettings(idle_timeout_s=0, swap_after_s=2, stay_s=1)
"""Nothing leaves because nobody asks."""
LONG_S: Final = 1_000.0
"""How long neurons are here and models loaded, where nothing else is said."""


def node(number: int) -> NodeId:
    return NodeId(f"{number:064x}")


def named(name: str) -> NodeId:
    """The id of the neuron of this name, as `neuron` makes it."""
    return NodeId(name.encode().hex().ljust(64, "0"))


@dataclass(frozen=True, kw_only=True)
class Copy:
    """A model on a neuron."""

    model: str
    state: ModelState = ModelState.UNLOADED
    gib: float = 1.0
    load_s: float = 2.0
    runtime: str = "r"
    reason: str = ""
    running: int = 0
    waiting: int = 0
    slots: int = 2
    idle_s: float = LONG_S
    queue_s: float = 0.0
    named: bool = True
    """Whether the neuron's report names it, where it holds memory."""

    @property
    def capability(self) -> ModelCapability:
        return ModelCapability(
            model=ModelId(self.model),
            state=self.state,
            memory_bytes=int(self.gib * GIB),
            load_s=self.load_s,
            runtime=self.runtime,
            reason=self.reason,
            slots=self.slots,
        )

    @property
    def replica(self) -> ReplicaLoad:
        return ReplicaLoad(
            model=ModelId(self.model),
            running=self.running,
            waiting=self.waiting,
            slots=self.slots,
            idle_s=0.0 if self.running or self.waiting else self.idle_s,
            queue_s=self.queue_s,
        )


def on_disk(model: str, **more: Any) -> Copy:
    return Copy(model=model, **more)


def loaded(model: str, **more: Any) -> Copy:
    return Copy(model=model, state=ModelState.LOADED, **more)


def loading(model: str, **more: Any) -> Copy:
    return Copy(model=model, state=ModelState.LOADING, **more)


@dataclass(frozen=True, kw_only=True)
class Neuron:
    name: str
    copies: tuple[Copy, ...] = ()
    free_gib: float = 0.0
    disk_gib: float = 100.0
    labels: dict[str, str] = field(default_factory=dict)
    region: str = ""
    mark: Mark | None = None
    silent: bool = False
    gone_s: float | None = None
    reported: bool = True
    progress: tuple[ModelProgress, ...] = ()
    sequence: int = 1

    def put(self, view: FleetView, now_s: float) -> FleetView:
        here = named(self.name)
        view = apply(
            view,
            NeuronRegistered(
                descriptor=NeuronDescriptor(
                    node=here,
                    operator=OperatorId(here),
                    version="0",
                    hardware=Fingerprint(machine="x", system="y"),
                    name=self.name,
                    region=self.region,
                    labels=self.labels,
                ),
                capabilities=tuple(one.capability for one in self.copies),
                now_s=now_s - LONG_S,
            ),
        )
        if self.reported:
            view = apply(view, HealthReported(node=here, load=self.load, now_s=self._heard(now_s)))
        if self.mark is not None:
            view = apply(view, NeuronMarked(node=here, mark=self.mark))
        if self.gone_s is not None:
            view = apply(view, NeuronLeft(node=here, reason="cut", now_s=now_s - self.gone_s))
        return view

    def _heard(self, now_s: float) -> float:
        return now_s - (60 if self.silent else 0)

    @property
    def load(self) -> Load:
        return Load(
            sequence=self.sequence,
            memory_free_bytes=int(self.free_gib * GIB),
            disk_free_bytes=int(self.disk_gib * GIB),
            progress=self.progress,
            replicas=tuple(
                one.replica
                for one in self.copies
                if one.named and one.state is not ModelState.UNLOADED
            ),
        )


def neuron(name: str, *copies: Copy, **more: Any) -> Neuron:
    return Neuron(name=name, copies=copies, **more)


def waits(count: int = 1, oldest_s: float = 0.0, rate_per_s: float = 0.0) -> Want:
    return Want(waiting=count, oldest_s=oldest_s, rate_per_s=rate_per_s)


def pending(kind: Kind, name: str, model: str, given_s: float = LONG_S) -> Pending:
    action = Action(kind=kind, node=named(name), model=ModelId(model), reason="")
    return Pending(action=action, given_s=given_s)


@dataclass(frozen=True, kw_only=True)
class Moment:
    neurons: tuple[Neuron, ...] = ()
    entries: tuple[ModelEntry, ...] = ()
    wants: Mapping[str, Want] = field(default_factory=dict)
    pending: tuple[Pending, ...] = ()
    setbacks: Mapping[tuple[str, str, Kind], Setback] = field(default_factory=dict)
    in_flight: Mapping[tuple[str, str], int] = field(default_factory=dict)
    settings: OrchestratorSettings = STAYING
    now_s: float = LONG_S
    settled: bool = True

    def given(self) -> Given:
        view = FleetView()
        for one in self.neurons:
            view = one.put(view, self.now_s)
        view = apply(view, TimePassed(now_s=self.now_s, lost_after_s=4, forget_after_s=LONG_S))
        return Given(
            view=view,
            catalogue=catalogue(self.entries),
            wants={ModelId(model): want for model, want in self.wants.items()},
            settings=self.settings,
            now_s=self.now_s,
            pending=self.pending,
            setbacks={
                (named(name), ModelId(model), kind): one
                for (name, model, kind), one in self.setbacks.items()
            },
            in_flight={
                (named(name), ModelId(model)): count
                for (name, model), count in self.in_flight.items()
            },
            settled=self.settled,
        )

    def plan(self, memory: Memory | None = None) -> tuple[Plan, Memory]:
        """With what a plan of long ago remembered, where nothing else is."""
        return plan(self.given(), self._long_known() if memory is None else memory)

    def _long_known(self) -> Memory:
        quiet = replace(
            self, wants={}, pending=(), setbacks={}, now_s=self.now_s - LONG_S / 2, settled=False
        )
        return plan(quiet.given(), Memory())[1]


def actions(made: Plan) -> list[str]:
    """`load a on left`, in order."""
    return [f"{one.kind.value} {one.model} on {_name(one.node)}" for one in made.actions]


def yields(made: Plan) -> set[str]:
    return {f"{model} on {_name(at)}" for at, model in made.yielding}


def _name(at: NodeId) -> str:
    return bytes.fromhex(at).rstrip(b"\0").decode()


def decided(**moment: Any) -> list[str]:
    """What the plan for a moment does, with nothing remembered."""
    return actions(Moment(**moment).plan()[0])
