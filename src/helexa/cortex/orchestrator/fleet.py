"""What this cortex believes about its neurons: `apply(view, event) -> view`, and nothing else.

The view is immutable, so a routing decision works on one consistent state and a
test writes a fleet down as the events that made it. Times are seconds of one
monotonic clock, passed in with the events.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final, TypeAlias, assert_never

from helexa.protocol.ids import ModelId, NodeId
from helexa.protocol.work import (
    Load,
    ModelCapability,
    ModelState,
    NeuronDescriptor,
    ReplicaLoad,
)

NEURONS_MAX: Final = 16_384
"""Registered or remembered; the next one is refused. Far above what one cortex is meant for."""


class Presence(enum.Enum):
    PRESENT = "present"
    SILENT = "silent"
    """The link stands but no health came in time: no new work until one does."""
    GONE = "gone"
    """The link ended. Remembered, so that a refusal can say so and since when."""


class Mark(enum.Enum):
    """What an operator said about a neuron; it outlives the neuron's links and this process."""

    CORDONED = "cordoned"
    """Nothing new is placed there; what is loaded goes on serving."""
    DRAINED = "drained"
    """Nothing new is placed or asked there; running work ends, then its models are unloaded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NeuronView:
    descriptor: NeuronDescriptor
    presence: Presence
    since_s: float
    """When `presence` last changed."""
    heard_s: float
    reason: str = ""
    load: Load | None = None
    capabilities: Mapping[ModelId, ModelCapability] = field(
        default_factory=lambda: MappingProxyType({})
    )

    replicas: Mapping[ModelId, ReplicaLoad] = field(default_factory=lambda: MappingProxyType({}))
    """What `load` says of each model."""
    elsewhere: Mapping[ModelId, int] = field(default_factory=lambda: MappingProxyType({}))
    """Requests on it as of its last report that were not this cortex' own."""
    mark: Mark | None = None
    ticket: str = ""
    """Where other neurons can dial it."""

    @property
    def draining(self) -> bool:
        """Whether it takes no new requests."""
        return self.mark is Mark.DRAINED or (self.load is not None and self.load.draining)


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetView:
    neurons: Mapping[NodeId, NeuronView] = field(default_factory=lambda: MappingProxyType({}))
    holders: Mapping[ModelId, tuple[NodeId, ...]] = field(
        default_factory=lambda: MappingProxyType({})
    )
    """For each model the neurons that list it, in node id order, gone ones included."""
    loaded: Mapping[ModelId, tuple[NodeId, ...]] = field(
        default_factory=lambda: MappingProxyType({})
    )
    """Of those, the ones where it is loaded, gone ones left out."""
    marks: Mapping[NodeId, Mark] = field(default_factory=lambda: MappingProxyType({}))
    """Also of neurons that are not here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NeuronRegistered:
    descriptor: NeuronDescriptor
    capabilities: tuple[ModelCapability, ...]
    now_s: float
    ticket: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CapabilitiesAnnounced:
    node: NodeId
    capabilities: tuple[ModelCapability, ...]
    now_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthReported:
    node: NodeId
    load: Load
    now_s: float
    own: Mapping[ModelId, int] = field(default_factory=lambda: MappingProxyType({}))
    """Requests that this cortex had on it when the report came."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NeuronLeft:
    node: NodeId
    reason: str
    now_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NeuronMarked:
    node: NodeId
    mark: Mark | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TimePassed:
    """Marks the silent and forgets those gone for long."""

    now_s: float
    lost_after_s: float
    forget_after_s: float


FleetEvent: TypeAlias = (
    NeuronRegistered
    | CapabilitiesAnnounced
    | HealthReported
    | NeuronLeft
    | NeuronMarked
    | TimePassed
)


def apply(view: FleetView, event: FleetEvent) -> FleetView:
    """The view after `event`. What an unknown neuron says changes nothing, nor what one says
    that is gone: only a registration brings it back, and a late frame of a dead link must not.
    """
    match event:
        case NeuronRegistered():
            neuron = NeuronView(
                descriptor=event.descriptor,
                presence=Presence.PRESENT,
                since_s=event.now_s,
                heard_s=event.now_s,
                capabilities=_by_model(event.capabilities),
                mark=view.marks.get(event.descriptor.node),
                ticket=event.ticket,
            )
            return _with(view, event.descriptor.node, neuron)
        case CapabilitiesAnnounced():
            known = view.neurons.get(event.node)
            if known is None or known.presence is Presence.GONE:
                return view
            heard = _heard(known, event.now_s)
            return _with(
                view, event.node, replace(heard, capabilities=_by_model(event.capabilities))
            )
        case HealthReported():
            known = view.neurons.get(event.node)
            if known is None or known.presence is Presence.GONE:
                return view
            if known.load is not None and event.load.sequence <= known.load.sequence:
                return view
            heard = _reporting(_heard(known, event.now_s), event)
            return replace(view, neurons=_put(view.neurons, event.node, heard))
        case NeuronLeft():
            known = view.neurons.get(event.node)
            if known is None or known.presence is Presence.GONE:
                return view
            return _with(view, event.node, _gone(known, event))
        case NeuronMarked():
            return _marked(view, event)
        case TimePassed():
            return _age(view, event)
        case _:
            assert_never(event)


def _by_model(capabilities: tuple[ModelCapability, ...]) -> Mapping[ModelId, ModelCapability]:
    return MappingProxyType({one.model: one for one in capabilities})


def _heard(neuron: NeuronView, now_s: float) -> NeuronView:
    if neuron.presence is Presence.SILENT:
        return replace(neuron, heard_s=now_s, presence=Presence.PRESENT, since_s=now_s, reason="")
    return replace(neuron, heard_s=now_s)


def _reporting(neuron: NeuronView, event: HealthReported) -> NeuronView:
    replicas = {one.model: one for one in event.load.replicas}
    # What this cortex sent it knows better than any report: by the next one it is history.
    elsewhere = {
        model: others
        for model, one in replicas.items()
        if (others := one.running + one.waiting - event.own.get(model, 0)) > 0
    }
    return replace(
        neuron,
        load=event.load,
        replicas=MappingProxyType(replicas),
        elsewhere=MappingProxyType(elsewhere),
    )


def _gone(neuron: NeuronView, event: NeuronLeft) -> NeuronView:
    return replace(
        neuron,
        presence=Presence.GONE,
        since_s=event.now_s,
        reason=event.reason,
        load=None,
        replicas=MappingProxyType({}),
        elsewhere=MappingProxyType({}),
    )


def _marked(view: FleetView, event: NeuronMarked) -> FleetView:
    marks = {node: mark for node, mark in view.marks.items() if node != event.node}
    if event.mark is not None:
        marks[event.node] = event.mark
    neurons = view.neurons
    known = neurons.get(event.node)
    if known is not None:
        neurons = _put(neurons, event.node, replace(known, mark=event.mark))
    return replace(view, neurons=neurons, marks=MappingProxyType(marks))


def _age(view: FleetView, event: TimePassed) -> FleetView:
    neurons = dict(view.neurons)
    forgotten = False
    changed = False
    for node, neuron in view.neurons.items():
        silent_s = event.now_s - neuron.heard_s
        if neuron.presence is Presence.PRESENT and silent_s > event.lost_after_s:
            reason = f"no health report for {silent_s:.1f} s"
            neurons[node] = replace(
                neuron, presence=Presence.SILENT, since_s=event.now_s, reason=reason
            )
            changed = True
        elif (
            neuron.presence is Presence.GONE and event.now_s - neuron.since_s > event.forget_after_s
        ):
            del neurons[node]
            forgotten = True
    if forgotten:
        return replace(view, neurons=MappingProxyType(neurons), holders=_holders(neurons))
    return replace(view, neurons=MappingProxyType(neurons)) if changed else view


def _put(
    neurons: Mapping[NodeId, NeuronView], node: NodeId, neuron: NeuronView
) -> Mapping[NodeId, NeuronView]:
    return MappingProxyType({**neurons, node: neuron})


def _with(view: FleetView, node: NodeId, neuron: NeuronView) -> FleetView:
    """Put the neuron, and touch the indexes only for the models that came or went."""
    before = view.neurons.get(node)
    listed = before.capabilities.keys() if before else frozenset[ModelId]()
    return replace(
        view,
        neurons=_put(view.neurons, node, neuron),
        holders=_moved(view.holders, node, listed, neuron.capabilities.keys()),
        loaded=_moved(view.loaded, node, _loaded_on(before), _loaded_on(neuron)),
    )


def _loaded_on(neuron: NeuronView | None) -> AbstractSet[ModelId]:
    if neuron is None or neuron.presence is Presence.GONE:
        return frozenset()
    loaded = ModelState.LOADED
    return {model for model, one in neuron.capabilities.items() if one.state is loaded}


def _moved(
    index: Mapping[ModelId, tuple[NodeId, ...]],
    node: NodeId,
    old: AbstractSet[ModelId],
    new: AbstractSet[ModelId],
) -> Mapping[ModelId, tuple[NodeId, ...]]:
    if old == new:
        return index
    found = dict(index)
    for model in old - new:
        rest = tuple(one for one in found[model] if one != node)
        if rest:
            found[model] = rest
        else:
            del found[model]
    for model in new - old:
        found[model] = tuple(sorted({*found.get(model, ()), node}))
    return MappingProxyType(found)


def _holders(neurons: Mapping[NodeId, NeuronView]) -> Mapping[ModelId, tuple[NodeId, ...]]:
    found: dict[ModelId, list[NodeId]] = {}
    for node in sorted(neurons):
        for model in neurons[node].capabilities:
            found.setdefault(model, []).append(node)
    return MappingProxyType({model: tuple(nodes) for model, nodes in found.items()})
