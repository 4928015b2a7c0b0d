"""What each neuron holds and has room for: bytes now, and bytes when what was begun is done.

A neuron tells how it stands in two messages that come apart: its models' states at every
change, its free memory with its health. A model that runs by the first and that the second
does not name yet will still take its memory; one that left by the first and is still named
by the second has given it back. What is not certain counts as taken.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from helexa.cortex.orchestrator.fleet import NeuronView, Presence
from helexa.cortex.orchestrator.provisioning.given import Given
from helexa.cortex.orchestrator.provisioning.needs import Needs
from helexa.cortex.orchestrator.provisioning.plan import (
    Copy,
    Kind,
    Listed,
    Memory,
    Pending,
    Seen,
    Told,
)
from helexa.protocol.ids import ModelId, NodeId
from helexa.protocol.work import ModelCapability, ModelState

LOADS_PER_SITE_MAX: Final = 2
"""At once: more only make each other slow."""

_UNLOADED: Final = ModelState.UNLOADED
_LOADING: Final = ModelState.LOADING
_LOADED: Final = ModelState.LOADED
_FAILED: Final = ModelState.FAILED
_DOWNLOADING: Final = ModelState.DOWNLOADING


@dataclass(slots=True, kw_only=True, eq=False)
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
    load_s: float = 0.0
    """What its load takes there; 0 where nobody knows."""
    leaving: bool = False
    """Being unloaded, or told to be."""

    @property
    def copy(self) -> Copy:
        return self.node, self.model


@dataclass(slots=True, kw_only=True, eq=False)
class Site:
    """A neuron that is present."""

    node: NodeId
    neuron: NeuronView
    is_open: bool
    """Whether something new may be placed there: no mark, and it said how much room it has."""
    takes_requests: bool
    free_bytes: int = 0
    """What may be taken now."""
    soon_bytes: int = 0
    """The same when what leaves has left and what waits for room has taken it."""
    replicas: dict[ModelId, Replica] = field(default_factory=dict)
    orders: dict[ModelId, Kind] = field(default_factory=dict)
    """Commands under way or decided."""
    loads: int = 0
    """Under way."""
    in_use: int = 0
    """Models there that work on requests."""

    @property
    def called(self) -> str:
        return self.neuron.descriptor.name or self.node[:10]

    def has_now(self, need_bytes: int) -> bool:
        """Whether so much may be loaded at once."""
        return (
            need_bytes <= self.free_bytes
            and need_bytes <= self.soon_bytes
            and self.loads < LOADS_PER_SITE_MAX
        )


class Survey:
    """Every present neuron, and what the next survey has to know of this one."""

    def __init__(self, given: Given, memory: Memory, needs: Needs) -> None:
        self.sites: dict[NodeId, Site] = {}
        self.arriving: dict[ModelId, list[Site]] = {}
        """Where models are being pulled to."""
        self.listed: dict[NodeId, Listed] = {}
        self.seen: dict[Copy, Seen] = {}
        self.freed: dict[Copy, Told] = {}
        self.uncounted: dict[Copy, int] = {}
        self._given = given
        self._memory = memory
        self._needs = needs
        for node, neuron in given.view.neurons.items():
            if neuron.presence is Presence.PRESENT:
                self._add(node, neuron)
        for order in given.pending:
            site = self.sites.get(order.action.node)
            if site is not None:
                self._under_way(site, order)
        self._give_back()
        for site in self.sites.values():
            leaving = (one.memory_bytes for one in site.replicas.values() if one.leaving)
            site.soon_bytes = site.free_bytes + sum(leaving)

    def _add(self, node: NodeId, neuron: NeuronView) -> None:
        load = neuron.load
        draining = neuron.draining
        site = self.sites[node] = Site(
            node=node,
            neuron=neuron,
            is_open=neuron.mark is None and load is not None and not draining,
            takes_requests=not draining,
            free_bytes=load.memory_free_bytes if load is not None else 0,
        )
        for capability in self._in_use(node, neuron):
            if capability.state is _DOWNLOADING:
                self.arriving.setdefault(capability.model, []).append(site)
            elif capability.state is not _FAILED:
                self._holds(site, capability)
            elif load is not None and capability.model in neuron.replicas:
                self.uncounted[node, capability.model] = load.sequence

    def _in_use(self, node: NodeId, neuron: NeuronView) -> tuple[ModelCapability, ...]:
        known = self._memory.listed.get(node)
        if known is None or known.capabilities is not neuron.capabilities:
            found = [one for one in neuron.capabilities.values() if one.state is not _UNLOADED]
            known = Listed(neuron.capabilities, tuple(found))
        self.listed[node] = known
        return known.in_use

    def _holds(self, site: Site, capability: ModelCapability) -> None:
        model, state = capability.model, capability.state
        copy = site.node, model
        told = site.neuron.replicas.get(model)
        busy = self._given.in_flight.get(copy, 0)
        need = self._needs.memory_bytes(capability, model)
        before = self._memory.seen.get(copy)
        if before is None or before.state is not state or before.memory_bytes != need:
            since_s = self._given.now_s
            if before is None and told is not None and state is _LOADED:
                since_s -= told.idle_s
            elif before is not None and before.state is state:
                since_s = before.since_s
            before = Seen(state=state, since_s=since_s, memory_bytes=need)
        self.seen[copy] = before
        replica = site.replicas[model] = Replica(
            node=site.node,
            model=model,
            state=state,
            memory_bytes=need,
            since_s=before.since_s,
            slots=capability.slots or 1,
            busy=busy,
            load_s=capability.load_s,
            leaving=state is not _LOADED and state is not _LOADING,
        )
        site.loads += state is _LOADING
        if told is not None:
            replica.busy = busy = max(told.running + told.waiting, busy)
            replica.queued = told.waiting
            replica.queue_s = told.queue_s
            replica.idle_s = 0.0 if busy else told.idle_s
        site.in_use += busy > 0
        self._count(site, copy, need)

    def _count(self, site: Site, copy: Copy, need: int) -> None:
        """Take its memory off where the neuron's report does not count it yet."""
        load = site.neuron.load
        if load is None:
            return
        named = copy[1] in site.neuron.replicas
        if named and self._memory.uncounted.get(copy) != load.sequence:
            return
        site.free_bytes -= need
        if named:
            self.uncounted[copy] = load.sequence

    def _under_way(self, site: Site, order: Pending) -> None:
        """A command that was given, as far as the neuron's own words do not show it yet."""
        model = order.action.model
        site.orders[model] = order.action.kind
        replica = site.replicas.get(model)
        match order.action.kind:
            case Kind.LOAD if replica is None:
                capability = site.neuron.capabilities.get(model)
                need = self._needs.memory_bytes(capability, model)
                site.free_bytes -= need
                site.loads += 1
                site.replicas[model] = coming(site, model, need, order.given_s)
            case Kind.UNLOAD if replica is not None:
                replica.leaving = True
            case Kind.PULL if site not in self.arriving.get(model, ()):
                self.arriving.setdefault(model, []).append(site)
            case _:
                pass

    def _give_back(self) -> None:
        """What left since the last report is free, although the report does not know it."""
        for copy, before in self._memory.seen.items():
            if copy not in self.seen:
                self._credit(copy, before.memory_bytes)
        for copy, told in self._memory.freed.items():
            site = self.sites.get(copy[0])
            load = site.neuron.load if site is not None else None
            if load is not None and load.sequence == told.sequence:
                self._credit(copy, told.memory_bytes)

    def _credit(self, copy: Copy, count: int) -> None:
        node, model = copy
        site = self.sites.get(node)
        load = site.neuron.load if site is not None else None
        if site is None or load is None or copy in self.freed or copy in self.seen:
            return
        capability = site.neuron.capabilities.get(model)
        left = capability is None or capability.state is _UNLOADED
        if left and model in site.neuron.replicas:
            self.freed[copy] = Told(sequence=load.sequence, memory_bytes=count)
            site.free_bytes += count


def coming(site: Site, model: ModelId, need_bytes: int, since_s: float) -> Replica:
    """A replica of which no more is known than that it was asked for."""
    capability = site.neuron.capabilities.get(model)
    return Replica(
        node=site.node,
        model=model,
        state=_LOADING,
        memory_bytes=need_bytes,
        since_s=since_s,
        slots=max(capability.slots if capability is not None else 1, 1),
    )
