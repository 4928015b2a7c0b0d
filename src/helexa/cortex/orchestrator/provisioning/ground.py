"""The fleet as a planner sees it: who holds what, what there is room for, what is on its way.

Made anew for each plan and changed by it: what is decided takes its memory here at once, so
that the next decision of the same plan cannot take it again.

A neuron tells how it stands in two messages that come apart: its models' states at every
change, its free memory with its health. A model that runs by the first and that the second
does not name yet will still take its memory; one that left by the first and is still named
by the second has given it back. What is not certain counts as taken.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from helexa.cortex.orchestrator.constraints import is_bound, why_not_there
from helexa.cortex.orchestrator.fleet import NeuronView, Presence
from helexa.cortex.orchestrator.provisioning.given import Given
from helexa.cortex.orchestrator.provisioning.plan import Copy, Kind, Memory, Pending, Seen, Told
from helexa.cortex.settings import ModelEntry
from helexa.protocol.ids import ModelId, NodeId
from helexa.protocol.work import ModelCapability, ModelState

FILES_FACTOR: Final = 1.2
"""From the bytes of its files to what a model needs, working memory and context included."""
PROCESS_BYTES: Final = 64 << 20
LOADS_PER_SITE_MAX: Final = 2
"""At once: more only make each other slow."""

_UNLOADED: Final = ModelState.UNLOADED
_LOADING: Final = ModelState.LOADING
_LOADED: Final = ModelState.LOADED
_FAILED: Final = ModelState.FAILED
_DOWNLOADING: Final = ModelState.DOWNLOADING
_NO_REPLICAS: Final[Mapping[ModelId, int]] = MappingProxyType({})


@dataclass(slots=True, kw_only=True)
class Replica:
    """A copy that holds memory, or will in a moment."""

    node: NodeId
    model: ModelId
    state: ModelState
    memory_bytes: int
    since_s: float
    """When it came into this state."""
    busy: int = 0
    """Requests that run or wait there."""
    queued: int = 0
    slots: int = 1
    idle_s: float = 0.0
    queue_s: float = 0.0
    leaving: bool = False
    """Being unloaded, or told to be."""

    @property
    def copy(self) -> Copy:
        return self.node, self.model


@dataclass(slots=True, kw_only=True)
class Site:
    """A neuron that is present."""

    node: NodeId
    neuron: NeuronView
    free_bytes: int = 0
    """What may be taken now."""
    soon_bytes: int = 0
    """More, when what leaves has left and what waits for room has taken it."""
    replicas: dict[ModelId, Replica] = field(default_factory=dict)
    orders: dict[ModelId, Kind] = field(default_factory=dict)
    """Commands under way or decided."""
    loads: int = 0

    @property
    def is_known(self) -> bool:
        """Whether it has said how much memory it has."""
        return self.neuron.load is not None

    @property
    def is_open(self) -> bool:
        """Whether something new may be placed there."""
        return self.neuron.mark is None and not self.neuron.draining and self.is_known

    @property
    def takes_requests(self) -> bool:
        return not self.neuron.draining

    @property
    def called(self) -> str:
        return self.neuron.descriptor.name or self.node[:10]

    def has_now(self, need_bytes: int) -> bool:
        return (
            need_bytes <= self.free_bytes
            and need_bytes <= self.soon_bytes
            and self.loads < LOADS_PER_SITE_MAX
        )


class Ground:
    """What the plan stands on. `sites` are the neurons that are present, by node id."""

    def __init__(self, given: Given, memory: Memory) -> None:
        self.given = given
        self.sites: dict[NodeId, Site] = {}
        self.replicas: dict[ModelId, list[Replica]] = {}
        """Those that do not leave, by model."""
        self.arriving: dict[ModelId, list[Site]] = {}
        """Where it is being pulled to."""
        self.memory = memory
        self._needs: dict[ModelId, int] = {}
        self._load_times: dict[ModelId, float] = {}
        self._allowed: dict[ModelId, frozenset[NodeId] | None] = {}
        seen: dict[Copy, Seen] = {}
        freed: dict[Copy, Told] = {}
        uncounted: dict[Copy, int] = {}
        orders: dict[NodeId, list[Pending]] = {}
        for one in given.pending:
            orders.setdefault(one.action.node, []).append(one)
        # Of the copies seen before, those whose neuron is here and calls them unloaded.
        self._was = memory.seen
        for node, neuron in given.view.neurons.items():
            if neuron.presence is Presence.PRESENT:
                site = self._site(node, neuron, seen, uncounted)
                for order in orders.get(node, ()):
                    self._under_way(site, order)
                self.sites[node] = site
        self._give_back(freed)
        for site in self.sites.values():
            site.soon_bytes += site.free_bytes
            for replica in site.replicas.values():
                if replica.leaving:
                    site.soon_bytes += replica.memory_bytes
                else:
                    self.replicas.setdefault(replica.model, []).append(replica)
        self.seen, self.freed, self.uncounted = seen, freed, uncounted

    # --- how it is made

    def _site(
        self,
        node: NodeId,
        neuron: NeuronView,
        seen: dict[Copy, Seen],
        uncounted: dict[Copy, int],
    ) -> Site:
        load = neuron.load
        site = Site(node=node, neuron=neuron)
        if load is not None:
            site.free_bytes = load.memory_free_bytes
        for model, capability in neuron.capabilities.items():
            state = capability.state
            if state is _UNLOADED:
                continue
            if state is _DOWNLOADING:
                self.arriving.setdefault(model, []).append(site)
            elif state is _FAILED:
                if load is not None and model in neuron.replicas:
                    uncounted[node, model] = load.sequence
            else:
                self._holds(site, capability, seen, uncounted)
        return site

    def _holds(
        self,
        site: Site,
        capability: ModelCapability,
        seen: dict[Copy, Seen],
        uncounted: dict[Copy, int],
    ) -> None:
        copy = site.node, capability.model
        told = site.neuron.replicas.get(capability.model)
        here = self.given.in_flight.get(copy, 0)
        before = self._was.get(copy)
        now_s = self.given.now_s
        since_s = now_s
        if before is not None and before.state is capability.state:
            since_s = before.since_s
        elif before is None and told is not None and capability.state is _LOADED:
            since_s -= told.idle_s
        need = capability.memory_bytes or self.need_bytes(site, capability.model)
        replica = Replica(
            node=site.node,
            model=capability.model,
            state=capability.state,
            memory_bytes=need,
            since_s=since_s,
            slots=max(capability.slots, 1),
            busy=here,
            leaving=capability.state not in (_LOADED, _LOADING),
        )
        if told is not None:
            replica.busy = max(told.running + told.waiting, here)
            replica.queued = told.waiting
            replica.queue_s = told.queue_s
            replica.idle_s = 0.0 if replica.busy else told.idle_s
        site.replicas[capability.model] = replica
        seen[copy] = Seen(state=capability.state, since_s=since_s, memory_bytes=need)
        site.loads += capability.state is _LOADING
        load = site.neuron.load
        if load is not None and (told is None or self.memory.uncounted.get(copy) == load.sequence):
            site.free_bytes -= need
            if told is not None:
                uncounted[copy] = load.sequence

    def _under_way(self, site: Site, order: Pending) -> None:
        """A command that was given, as far as the neuron's own words do not show it yet."""
        model = order.action.model
        site.orders[model] = order.action.kind
        replica = site.replicas.get(model)
        match order.action.kind:
            case Kind.LOAD if replica is None:
                need = self.need_bytes(site, model)
                site.free_bytes -= need
                site.loads += 1
                site.replicas[model] = self._coming(site, model, need, order.given_s)
            case Kind.UNLOAD if replica is not None:
                replica.leaving = True
            case Kind.PULL if site not in self.arriving.get(model, ()):
                self.arriving.setdefault(model, []).append(site)
            case _:
                pass

    def _give_back(self, freed: dict[Copy, Told]) -> None:
        """What left since the last report is free, although the report does not know it."""
        for copy, before in self._was.items():
            site = self.sites.get(copy[0])
            if site is not None and copy[1] not in site.replicas:
                self._credit(site, copy, before.memory_bytes, freed)
        for copy, told in self.memory.freed.items():
            site = self.sites.get(copy[0])
            load = site.neuron.load if site is not None else None
            if site is not None and load is not None and load.sequence == told.sequence:
                self._credit(site, copy, told.memory_bytes, freed)

    def _credit(self, site: Site, copy: Copy, count: int, freed: dict[Copy, Told]) -> None:
        capability = site.neuron.capabilities.get(copy[1])
        load = site.neuron.load
        left = capability is None or capability.state is _UNLOADED
        if copy in freed or load is None or not left or copy[1] not in site.neuron.replicas:
            return
        freed[copy] = Told(sequence=load.sequence, memory_bytes=count)
        site.free_bytes += count

    def _coming(self, site: Site, model: ModelId, need: int, since_s: float) -> Replica:
        capability = site.neuron.capabilities.get(model)
        return Replica(
            node=site.node,
            model=model,
            state=_LOADING,
            memory_bytes=need,
            since_s=since_s,
            slots=max(capability.slots if capability else 1, 1),
        )

    # --- what is asked of it

    def entry(self, model: ModelId) -> ModelEntry:
        return self.given.catalogue.entry(model)

    def of(self, model: ModelId) -> list[Replica]:
        """Its replicas that serve or will, without those that leave."""
        return self.replicas.get(model, [])

    def serving(self, model: ModelId) -> list[Replica]:
        """Those that requests may be sent to."""
        return [
            one
            for one in self.of(model)
            if one.state is _LOADED and self._counts(one) and one.copy not in self.memory.yielding
        ]

    def coming(self, model: ModelId) -> list[Replica]:
        """Those that will serve. A load that takes too long is not waited for."""
        limit_s = self.given.settings.load_timeout_s
        return [
            one
            for one in self.of(model)
            if one.state is _LOADING
            and self._counts(one)
            and self.given.now_s - one.since_s < limit_s
        ]

    def count(self, model: ModelId) -> int:
        """Replicas that serve or will, towards `replicas_min` and `replicas_max`."""
        return sum(self._counts(one) for one in self.of(model))

    def _counts(self, one: Replica) -> bool:
        site = self.sites[one.node]
        return site.takes_requests and self.allowed(site, one.model)

    def holders(self, model: ModelId) -> Iterator[tuple[Site, ModelCapability]]:
        """Present neurons that list the model, in whatever state."""
        sites = self.sites
        for node in self.given.view.holders.get(model, ()):
            site = sites.get(node)
            if site is not None:
                yield site, site.neuron.capabilities[model]

    def allowed(self, site: Site, model: ModelId) -> bool:
        """Whether the catalogue lets it run there."""
        if model not in self._allowed:
            entry = self.given.catalogue.entries.get(model)
            self._allowed[model] = (
                None
                if entry is None or not is_bound(entry)
                else frozenset(
                    node
                    for node, one in self.sites.items()
                    if not why_not_there(entry, one.neuron.descriptor)
                )
            )
        found = self._allowed[model]
        return found is None or site.node in found

    def need_bytes(self, site: Site, model: ModelId) -> int:
        """By this neuron's word, another's, the entry's, or the size of its files.

        0 where nobody knows: then the neuron is asked, and refuses with the numbers.
        """
        capability = site.neuron.capabilities.get(model)
        if capability is not None and capability.memory_bytes:
            return capability.memory_bytes
        if model not in self._needs:
            self._needs[model] = self._need_elsewhere(model)
        return self._needs[model]

    def _need_elsewhere(self, model: ModelId) -> int:
        neurons = self.given.view.neurons
        told = (
            neurons[node].capabilities[model].memory_bytes
            for node in self.given.view.holders.get(model, ())
        )
        files = self.files_bytes(model)
        by_files = int(files * FILES_FACTOR) + PROCESS_BYTES if files else 0
        return max(told, default=0) or self.entry(model).memory_bytes or by_files

    def files_bytes(self, model: ModelId) -> int:
        """0 where nobody knows."""
        sizes = [file.size for file in self.entry(model).files]
        if sizes and all(sizes):
            return sum(sizes)
        neurons = self.given.view.neurons
        return max(
            (
                neurons[one].capabilities[model].disk_bytes
                for one in self.given.view.holders.get(model, ())
            ),
            default=0,
        )

    def load_s(self, site: Site | None, model: ModelId) -> float:
        """How long it loads: there, else the longest elsewhere; 0 where nobody knows."""
        capability = site.neuron.capabilities.get(model) if site is not None else None
        if capability is not None and capability.load_s:
            return capability.load_s
        if model not in self._load_times:
            self._load_times[model] = max((one.load_s for _, one in self.holders(model)), default=0)
        return self._load_times[model]

    def could_have_bytes(self, site: Site, model: ModelId) -> int:
        """What the model could have there if all that may ever leave for it left."""
        return site.free_bytes + sum(
            one.memory_bytes
            for one in site.replicas.values()
            if one.leaving or self.may_ever_leave(one, model)
        )

    def may_ever_leave(self, one: Replica, model: ModelId) -> bool:
        """Whether it gives way to the model, or leaves by itself one day."""
        entry, wanting = self.entry(one.model), self.entry(model)
        if one.model == model:
            return True
        protected = self.is_least(one) and entry.priority >= wanting.priority
        if protected:
            return False
        if entry.priority <= wanting.priority:
            return True
        return not entry.keep_warm and self.given.idle_timeout_s(one.model) > 0

    def is_least(self, one: Replica) -> bool:
        """Whether its model would have fewer than `replicas_min` without it."""
        least = self.entry(one.model).replicas_min
        return least > 0 and self._counts(one) and self.count(one.model) <= least

    # --- what the plan does to it

    def take(self, site: Site, model: ModelId) -> None:
        """A load was decided."""
        need = self.need_bytes(site, model)
        site.free_bytes -= need
        site.soon_bytes -= need
        site.loads += 1
        site.orders[model] = Kind.LOAD
        replica = self._coming(site, model, need, self.given.now_s)
        site.replicas[model] = replica
        self.replicas.setdefault(model, []).append(replica)

    def reserve(self, site: Site, model: ModelId) -> None:
        """The room that is being made there is for this model."""
        site.soon_bytes -= self.need_bytes(site, model)

    def leave(self, one: Replica) -> None:
        """It was told to leave, or will be as soon as it is idle."""
        one.leaving = True
        self.replicas[one.model].remove(one)
        self.sites[one.node].soon_bytes += one.memory_bytes

    def expect(self, site: Site, model: ModelId) -> None:
        """A pull was decided."""
        site.orders[model] = Kind.PULL
        self.arriving.setdefault(model, []).append(site)
