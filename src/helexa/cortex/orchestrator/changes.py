"""What is new between two views of the fleet: a pure function of both and of what came between."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from helexa.cortex.orchestrator.catalogue import Catalogue
from helexa.cortex.orchestrator.fleet import (
    CapabilitiesAnnounced,
    FleetEvent,
    FleetView,
    HealthReported,
    NeuronLeft,
    NeuronMarked,
    NeuronRegistered,
    NeuronView,
    Presence,
    TimePassed,
)
from helexa.cortex.orchestrator.news import (
    CatalogueChanged,
    LoadProgress,
    MarkChanged,
    ModelStateChanged,
    NeuronCame,
    NeuronHeartbeat,
    NeuronWent,
    News,
    PresenceChanged,
    PullProgress,
)
from helexa.protocol.ids import NodeId
from helexa.protocol.work import Load, Phase

ABSENT = "absent"


def changes(before: FleetView, after: FleetView, event: FleetEvent) -> Iterator[News]:
    """In the order in which they are to be told. `after` is `apply(before, event)`."""
    match event:
        case NeuronRegistered(descriptor=descriptor):
            node = descriptor.node
            yield NeuronCame(node=node, name=descriptor.name, descriptor=descriptor)
            yield from _models(before.neurons.get(node), after.neurons[node])
        case CapabilitiesAnnounced(node=node) | HealthReported(node=node):
            known = after.neurons.get(node)
            if known is not None:
                yield from _presence(before.neurons.get(node), known)
                yield from _models(before.neurons.get(node), known)
        case NeuronLeft(node=node):
            known = after.neurons.get(node)
            if known is not None and known is not before.neurons.get(node):
                yield NeuronWent(node=node, name=known.descriptor.name, reason=known.reason)
        case NeuronMarked(node=node, mark=mark):
            if before.marks.get(node) is not mark:
                word = mark.value if mark is not None else ""
                yield MarkChanged(node=node, name=_name(after, node), mark=word)
        case TimePassed():
            if after is not before:
                for node, neuron in after.neurons.items():
                    yield from _presence(before.neurons.get(node), neuron)


def passing(before: FleetView, after: FleetView, event: HealthReported) -> Iterator[News]:
    """What only those who listen now are told of a health report: it is repeated soon."""
    was, now = before.neurons.get(event.node), after.neurons.get(event.node)
    if now is None or now.load is None or now is was:
        return
    node, name = event.node, now.descriptor.name
    yield NeuronHeartbeat(node=node, name=name, load=_brief(now.load))
    reported = {} if was is None or was.load is None else {p.model: p for p in was.load.progress}
    for one in now.load.progress:
        if one == reported.get(one.model):
            continue
        if one.progress.phase is Phase.DOWNLOADING:
            yield PullProgress(
                node=node,
                name=name,
                model=one.model,
                progress=one.progress,
                bytes_from_peers=one.bytes_from_peers,
            )
        else:
            yield LoadProgress(node=node, name=name, model=one.model, progress=one.progress)


def catalogue_change(before: Catalogue, after: Catalogue) -> CatalogueChanged:
    """Which entries came, went or differ."""
    both = before.entries.keys() | after.entries.keys()
    changed = (one for one in both if before.entries.get(one) != after.entries.get(one))
    return CatalogueChanged(changed=tuple(sorted(changed)), entries=len(after.entries))


def _presence(was: NeuronView | None, now: NeuronView) -> Iterator[News]:
    if was is not None and was.presence is not now.presence and now.presence is not Presence.GONE:
        yield PresenceChanged(
            node=now.descriptor.node,
            name=now.descriptor.name,
            presence=now.presence.value,
            reason=now.reason,
        )


def _models(was: NeuronView | None, now: NeuronView) -> Iterator[News]:
    # A neuron that was gone served nothing, whatever is remembered of it.
    old = was.capabilities if was is not None and was.presence is not Presence.GONE else {}
    if old is now.capabilities:
        return
    node, name = now.descriptor.node, now.descriptor.name
    for model, capability in now.capabilities.items():
        known = old.get(model)
        if known is None or known.state is not capability.state:
            yield ModelStateChanged(
                node=node,
                name=name,
                model=model,
                state=capability.state.value,
                before=known.state.value if known is not None else ABSENT,
                reason=capability.reason,
            )
    for model, known in old.items():
        if model not in now.capabilities:
            yield ModelStateChanged(
                node=node, name=name, model=model, state=ABSENT, before=known.state.value
            )


def _brief(load: Load) -> Load:
    """Without what only the scheduler reads, which is most of a report's bytes."""
    if not any(replica.prefixes for replica in load.replicas):
        return load
    replicas = tuple(msgspec.structs.replace(one, prefixes=()) for one in load.replicas)
    return msgspec.structs.replace(load, replicas=replicas)


def _name(view: FleetView, node: NodeId) -> str:
    neuron = view.neurons.get(node)
    return neuron.descriptor.name if neuron is not None else ""
