"""The fleet as a planner sees it: what each neuron holds, what it has room for, what is coming.

Made anew for each plan and changed by it: an action that is decided takes its memory here
at once, so that the next decision of the same plan cannot take it again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from helexa.cortex.orchestrator.catalogue import Catalogue
from helexa.cortex.orchestrator.constraints import why_not_there
from helexa.cortex.orchestrator.fleet import FleetView, Mark, NeuronView, Presence
from helexa.cortex.orchestrator.provisioning.plan import Copy, Kind, Pending
from helexa.cortex.settings import ModelEntry
from helexa.protocol.ids import ModelId, NodeId
from helexa.protocol.work import ModelCapability, ModelState, ReplicaLoad

UNKNOWN_NEED_BYTES: Final = 0
"""Where nothing says what a model needs, its neuron is asked and refuses with the numbers."""
FILES_FACTOR: Final = 1.2
"""From the bytes of its files to what a model needs, working memory and context included."""
PROCESS_BYTES: Final = 64 << 20
RUNS: Final = frozenset((ModelState.LOADED, ModelState.LOADING))
HOLDS: Final = frozenset(
    (ModelState.LOADED, ModelState.LOADING, ModelState.DRAINING, ModelState.UNLOADING)
)


@dataclass(slots=True, kw_only=True)
class Replica:
    """A copy that runs, or will in a moment."""

    node: NodeId
    model: ModelId
    state: ModelState
    memory_bytes: int
    running: int = 0
    waiting: int = 0
    slots: int = 1
    idle_s: float = 0.0
    queue_s: float = 0.0
    leaving: bool = False
    """Being unloaded, or told to be."""

    @property
    def busy(self) -> int:
        return self.running + self.waiting

    @property
    def copy(self) -> Copy:
        return self.node, self.model


@dataclass(slots=True, kw_only=True)
class Site:
    """A neuron that is present and reported its health."""

    node: NodeId
    neuron: NeuronView
    free_bytes: int
    replicas: dict[ModelId, Replica] = field(default_factory=dict)
    promised: set[ModelId] = field(default_factory=set)
    """Models with a command under way there."""

    @property
    def is_open(self) -> bool:
        """Whether something new may be placed there."""
        return self.neuron.mark is None and not self.neuron.draining

    @property
    def takes_requests(self) -> bool:
        return not self.neuron.draining

    @property
    def room_bytes(self) -> int:
        """What one model could have if everything else left."""
        return self.free_bytes + sum(one.memory_bytes for one in self.replicas.values())

    @property
    def called(self) -> str:
        return self.neuron.descriptor.name or str(self.node)[:10]


class Ground:
    """`sites` by node id. `entry`, `need_bytes` and `allowed` answer for one model there."""

    def __init__(
        self,
        view: FleetView,
        catalogue: Catalogue,
        pending: Collection[Pending],
        in_flight: Mapping[Copy, int],
    ) -> None:
        self.view = view
        self.catalogue = catalogue
        self.sites: dict[NodeId, Site] = {}
        self._by_model: dict[ModelId, list[Replica]] = {}
        self._needs: dict[ModelId, int] = {}
        orders: dict[NodeId, list[Pending]] = {}
        for one in pending:
            orders.setdefault(one.action.node, []).append(one)
        for node, neuron in view.neurons.items():
            if neuron.presence is Presence.PRESENT and neuron.load is not None:
                site = _site(node, neuron, in_flight)
                for given in orders.get(node, ()):
                    self._count(site, given)
                self.sites[node] = site
                for replica in site.replicas.values():
                    self._by_model.setdefault(replica.model, []).append(replica)

    def _count(self, site: Site, given: Pending) -> None:
        """A command that was given, as far as the neuron's own words do not show it yet."""
        model = given.action.model
        site.promised.add(model)
        replica = site.replicas.get(model)
        match given.action.kind:
            case Kind.LOAD if replica is None:
                need = self.need_bytes(site, model)
                site.replicas[model] = _coming(site, model, need)
                site.free_bytes -= need
            case Kind.UNLOAD if replica is not None:
                # Its memory is free when the neuron says so, not before.
                replica.leaving = True
            case _:
                pass

    def entry(self, model: ModelId) -> ModelEntry:
        return self.catalogue.entry(model)

    def replicas(self, model: ModelId) -> list[Replica]:
        """Those that run or are coming, and do not leave."""
        return [one for one in self._by_model.get(model, ()) if not one.leaving]

    def models(self) -> Collection[ModelId]:
        """With a replica somewhere."""
        return self._by_model.keys()

    def serving(self, model: ModelId) -> list[Replica]:
        """Those that requests are sent to."""
        return [
            one
            for one in self.replicas(model)
            if one.state is ModelState.LOADED
            and self.sites[one.node].takes_requests
            and self.allowed(self.sites[one.node], model)
        ]

    def coming(self, model: ModelId) -> list[Replica]:
        return [
            one
            for one in self.replicas(model)
            if one.state is ModelState.LOADING and self.sites[one.node].takes_requests
        ]

    def holders(self, model: ModelId) -> Iterator[tuple[Site, ModelCapability]]:
        """Sites that list the model, in whatever state."""
        for node in self.view.holders.get(model, ()):
            site = self.sites.get(node)
            if site is not None:
                yield site, site.neuron.capabilities[model]

    def allowed(self, site: Site, model: ModelId) -> bool:
        entry = self.catalogue.entries.get(model)
        return entry is None or not why_not_there(entry, site.neuron.descriptor)

    def need_bytes(self, site: Site, model: ModelId) -> int:
        """By this neuron's word, another's, the entry's, or the size of its files."""
        capability = site.neuron.capabilities.get(model)
        if capability is not None and capability.memory_bytes:
            return capability.memory_bytes
        if model not in self._needs:
            self._needs[model] = self._need_elsewhere(model)
        return self._needs[model]

    def _need_elsewhere(self, model: ModelId) -> int:
        told = (
            self.view.neurons[node].capabilities[model].memory_bytes
            for node in self.view.holders.get(model, ())
        )
        entry = self.entry(model)
        files = self.files_bytes(model)
        by_files = int(files * FILES_FACTOR) + PROCESS_BYTES if files else UNKNOWN_NEED_BYTES
        return max(told, default=0) or entry.memory_bytes or by_files

    def files_bytes(self, model: ModelId) -> int:
        """0 where nobody knows."""
        sizes = [file.size for file in self.entry(model).files]
        if sizes and all(sizes):
            return sum(sizes)
        holders = self.view.holders.get(model, ())
        return max(
            (self.view.neurons[one].capabilities[model].disk_bytes for one in holders), default=0
        )

    def take(self, site: Site, model: ModelId) -> None:
        """A load was decided."""
        need = self.need_bytes(site, model)
        site.free_bytes -= need
        site.promised.add(model)
        replica = site.replicas[model] = _coming(site, model, need)
        self._by_model.setdefault(model, []).append(replica)

    def leave(self, replica: Replica) -> None:
        """An unload was decided."""
        replica.leaving = True
        self.sites[replica.node].promised.add(replica.model)


def _site(node: NodeId, neuron: NeuronView, in_flight: Mapping[Copy, int]) -> Site:
    load = neuron.load
    assert load is not None
    site = Site(node=node, neuron=neuron, free_bytes=load.memory_free_bytes)
    reported: dict[ModelId, ReplicaLoad] = {one.model: one for one in load.replicas}
    for model, capability in neuron.capabilities.items():
        if capability.state in HOLDS:
            told = reported.get(model)
            here = in_flight.get((node, model), 0)
            site.replicas[model] = Replica(
                node=node,
                model=model,
                state=capability.state,
                memory_bytes=capability.memory_bytes,
                running=max(told.running if told else 0, here),
                waiting=told.waiting if told else 0,
                slots=max(capability.slots, 1),
                idle_s=told.idle_s if told and not here else 0.0,
                queue_s=told.queue_s if told else 0.0,
                leaving=capability.state not in RUNS,
            )
    return site


def _coming(site: Site, model: ModelId, need_bytes: int) -> Replica:
    capability = site.neuron.capabilities.get(model)
    return Replica(
        node=site.node,
        model=model,
        state=ModelState.LOADING,
        memory_bytes=need_bytes,
        slots=max(capability.slots if capability else 1, 1),
    )


def is_drained(site: Site) -> bool:
    return site.neuron.mark is Mark.DRAINED
