"""Who serves a model, as a client may see it: the words are those that its policies go by.

Pure. Neurons of this cortex that have the same weights of the same operator are one row.
"""

from __future__ import annotations

from typing import Final

import msgspec

from helexa.cortex.orchestrator.catalogue import Catalogue
from helexa.cortex.orchestrator.federation.offers import Copy, InFlight, copies_of, summed
from helexa.cortex.orchestrator.fleet import FleetView
from helexa.cortex.orchestrator.labels import OPERATOR_DIGITS, safe_name
from helexa.mesh.trust import Standing
from helexa.protocol.ids import ModelId
from helexa.protocol.openai.models import ServedBy
from helexa.protocol.records import Offer

LOCAL: Final = "local"
ROWS_MAX: Final = 32


def served_here(
    own: Standing, view: FleetView, in_flight: InFlight, catalogue: Catalogue, model: ModelId
) -> list[ServedBy]:
    """By neurons of this cortex, which is `own`."""
    groups: dict[tuple[str, str, str, str], list[Copy]] = {}
    for neuron, capability in copies_of(view, catalogue, model):
        about = neuron.descriptor
        region = about.region or own.region
        key = (about.operator, region, capability.quantisation, capability.digest)
        groups.setdefault(key, []).append((neuron, capability))
    entry = catalogue.entries.get(model)
    found = []
    for (operator, region, _, _), copies in groups.items():
        offer = summed(model, copies, in_flight, entry)
        row = _row(offer, LOCAL, operator, region)
        found.append(msgspec.structs.replace(row, neurons=len(copies)))
    return found[:ROWS_MAX]


def served_there(called: str, peer: Standing, offer: Offer) -> ServedBy:
    """By another cortex, by its own word."""
    return _row(offer, safe_name(called), peer.operator, peer.region)


def _row(offer: Offer, cortex: str, operator: str, region: str) -> ServedBy:
    return ServedBy(
        cortex=cortex,
        operator=operator[:OPERATOR_DIGITS],
        region=region,
        quantisation=offer.quantisation,
        digest=offer.digest,
        context_length=offer.context_tokens,
        ready=offer.ready,
        slots=offer.slots,
        free=offer.free,
        tokens_per_s=offer.tokens_per_s,
        first_token_s=offer.first_token_s,
        price=offer.price,
    )
