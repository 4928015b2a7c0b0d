"""Where a model's files should go: the neurons that may run it, lack it, and have the room."""

from __future__ import annotations

from collections.abc import Iterator

from helexa.cortex.orchestrator.constraints import why_not_there
from helexa.cortex.orchestrator.fleet import FleetView, NeuronView, Presence
from helexa.cortex.settings import ModelEntry
from helexa.protocol.errors import NoCapacity, RequestRejected
from helexa.protocol.ids import ModelId, NodeId
from helexa.protocol.messages import ModelSource, SourceFile
from helexa.protocol.sources import parse_source
from helexa.protocol.work import ModelState

_COMES: ModelState = ModelState.DOWNLOADING
REASONS_MAX = 5


def best_for(view: FleetView, entry: ModelEntry, copies: int) -> list[NodeId]:
    """The `copies` neurons to pull the model to, those with the most free disk first.

    Raises NoCapacity with the reasons where there are fewer.
    """
    model = ModelId(entry.id)
    size = sum(file.size for file in entry.files)
    fit, reasons = [], []
    for node, neuron in view.neurons.items():
        why = _why_not(neuron, entry, model, size)
        if why:
            reasons.append(f"{neuron.descriptor.name or node[:10]} {why}")
        else:
            fit.append((-_disk_free(neuron), node))
    if len(fit) < copies:
        said = "; ".join(sorted(reasons)[:REASONS_MAX]) or "there are no others"
        raise NoCapacity(f"{len(fit)} of {copies} neurons can take {entry.id!r}: {said}.", 10)
    return [node for _, node in sorted(fit)[:copies]]


def _why_not(neuron: NeuronView, entry: ModelEntry, model: ModelId, size: int) -> str:
    if neuron.presence is not Presence.PRESENT:
        return f"is {neuron.presence.value}"
    if neuron.mark is not None or neuron.draining:
        return f"is {neuron.mark.value if neuron.mark else 'draining'}"
    if why := why_not_there(entry, neuron.descriptor):
        return f"is {why}"
    held = neuron.capabilities.get(model)
    if held is not None and held.state is not ModelState.FAILED:
        return "pulls it already" if held.state is _COMES else "has it already"
    if size and neuron.load is not None and size > _disk_free(neuron):
        return "has too little disk"
    return ""


def _disk_free(neuron: NeuronView) -> int:
    return neuron.load.disk_free_bytes if neuron.load is not None else 0


def source_of(
    entry: ModelEntry,
    *,
    source: str = "",
    files: tuple[SourceFile, ...] = (),
    quantisation: str = "",
) -> ModelSource:
    """What was asked for, else what the catalogue says.

    Raises RequestRejected for neither, and for what is no source.
    """
    if source and source != entry.source:
        try:
            parse_source(source)
        except ValueError as error:
            raise RequestRejected(f"`source`: {error}.", "source") from None
        return ModelSource(source=source, files=files, quantisation=quantisation)
    if not entry.source:
        raise RequestRejected(
            f"The catalogue does not say where {entry.id!r} comes from; give a `source`.", "source"
        )
    return ModelSource(
        source=entry.source,
        files=files or entry.files,
        quantisation=quantisation or entry.quantisation,
    )


def arriving(view: FleetView) -> Iterator[tuple[NodeId, ModelId]]:
    """Every pull that goes on, as its neuron announced it."""
    for node in sorted(view.neurons):
        neuron = view.neurons[node]
        if neuron.presence is not Presence.GONE:
            for model, one in sorted(neuron.capabilities.items()):
                if one.state is _COMES:
                    yield node, model
