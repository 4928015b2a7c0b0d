"""The own neurons of a cortex as a request's wishes see them. Pure."""

from __future__ import annotations

from dataclasses import replace

from helexa.cortex.orchestrator.catalogue import Catalogue
from helexa.cortex.orchestrator.federation.wanted import Server, first_token_s, forbids_who
from helexa.cortex.orchestrator.fleet import FleetView, NeuronView
from helexa.mesh.trust import Standing, Trust
from helexa.protocol import quantisation
from helexa.protocol.ids import ModelId
from helexa.protocol.routing import Wish
from helexa.protocol.work import ModelCapability, ModelState, Price


def neuron_server(
    own: Standing, neuron: NeuronView, capability: ModelCapability, price: Price, busy: int
) -> Server:
    """`own` is this cortex; `busy` are its requests for the model there."""
    replica = neuron.replicas.get(capability.model)
    waits = replica is not None and busy >= max(capability.slots, 1)
    return Server(
        standing=_where(own, neuron),
        price=price,
        quantisation=capability.quantisation,
        first_token_s=first_token_s(
            capability.first_token_s,
            queue_s=replica.queue_s if waits and replica is not None else 0.0,
            load_s=0.0 if capability.state is ModelState.LOADED else capability.load_s or None,
        ),
        tokens_per_s=capability.tokens_per_s,
        neuron=_itself(neuron),
    )


def hopeful_choices(
    wish: Wish,
    own: Standing,
    choices: tuple[ModelId, ...],
    catalogue: Catalogue,
    view: FleetView,
) -> tuple[ModelId, ...]:
    """Those that the request would take from some neuron here, as far as can be told before it
    has them.
    """
    if all(_rules_out(wish, own, one) for one in view.neurons.values()):
        return ()
    return tuple(one for one in choices if _would_do(wish, one, catalogue))


def _rules_out(wish: Wish, own: Standing, neuron: NeuronView) -> bool:
    server = Server(standing=_where(own, neuron), price=Price(), neuron=_itself(neuron))
    return bool(forbids_who(wish, server))


def _would_do(wish: Wish, model: ModelId, catalogue: Catalogue) -> bool:
    entry = catalogue.entries.get(model)
    said = entry.quantisation if entry is not None else ""
    if wish.quantisations and not quantisation.is_one_of(said, wish.quantisations):
        return False
    return not wish.quantisation_min or quantisation.is_at_least(said, wish.quantisation_min)


def _where(own: Standing, neuron: NeuronView) -> Standing:
    return replace(own, region=neuron.descriptor.region or own.region)


def _itself(neuron: NeuronView) -> Standing:
    about = neuron.descriptor
    return Standing(node=about.node, operator=about.operator, trust=Trust.OWN, name=about.name)
