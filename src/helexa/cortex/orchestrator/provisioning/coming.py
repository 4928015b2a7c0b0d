"""Which model of a request that nobody can take now will be served by and by: pure."""

from __future__ import annotations

from collections.abc import Callable

from helexa.cortex.orchestrator.catalogue import Catalogue
from helexa.cortex.orchestrator.constraints import why_not_there
from helexa.cortex.orchestrator.fleet import FleetView, NeuronView, Presence
from helexa.cortex.orchestrator.provisioning.plan import Copy
from helexa.cortex.settings import ModelEntry
from helexa.protocol.ids import ModelId
from helexa.protocol.routing import RoutingDecision


def coming(
    view: FleetView,
    catalogue: Catalogue,
    hopeless: Callable[[ModelId], str],
    decision: RoutingDecision,
    yielding: frozenset[Copy],
) -> ModelId | None:
    """The first of the decision's models that gives way only for a moment, or that some neuron
    may pull. None where waiting is in vain.
    """
    for model in decision.choices or (decision.model,):
        if hopeless(model):
            continue
        if any((node, model) in yielding for node in view.holders.get(model, ())):
            return model
        entry = catalogue.entries.get(model)
        if entry is not None and may_be_pulled(view, entry):
            return model
    return None


def may_be_pulled(view: FleetView, entry: ModelEntry) -> bool:
    """Whether some neuron may bring it from its source."""
    return bool(entry.source) and any(
        _is_open(neuron) and not why_not_there(entry, neuron.descriptor)
        for neuron in view.neurons.values()
    )


def _is_open(neuron: NeuronView) -> bool:
    return neuron.presence is Presence.PRESENT and neuron.mark is None and not neuron.draining
