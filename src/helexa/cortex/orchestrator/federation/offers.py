"""What this cortex can offer to others: its neurons' models, each once, as its terms allow.

Pure. An offer is a hint that ages on its way; what counts is what the door says when a
request comes, by the same terms.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final, TypeAlias

import msgspec

from helexa.cortex.orchestrator.catalogue import EMPTY, Catalogue
from helexa.cortex.orchestrator.constraints import why_not_there
from helexa.cortex.orchestrator.federation.patterns import Patterns
from helexa.cortex.orchestrator.federation.terms import (
    Terms,
    lends_class,
    lends_model,
    lends_to,
)
from helexa.cortex.orchestrator.fleet import FleetView, NeuronView, Presence
from helexa.cortex.orchestrator.scheduler import offers as does
from helexa.cortex.orchestrator.scheduler import price_of
from helexa.cortex.settings import ModelEntry
from helexa.mesh.trust import Standing, Trust
from helexa.protocol.ids import ModelId, NodeId, OperatorId, is_model_id
from helexa.protocol.messages import ReportOffers, Withheld
from helexa.protocol.records import OFFERS_PER_RECORD_MAX, RECORD_BYTES_MAX, Offer
from helexa.protocol.work import ModelCapability, ModelState, Price, WorkloadClass
from helexa.util.logs import every

OFFERS_BYTES_MAX: Final = RECORD_BYTES_MAX * 3 // 4
"""Of a record; the rest is for certificates, revocations and addresses."""
UNSERVED: Final = "has no neuron that could serve it now"
ABILITIES_MAX: Final = 64
ABILITY_CHARS_MAX: Final = 40
QUANTISATION_CHARS_MAX: Final = 40
NUMBER_MAX: Final = 2**53
"""What a float holds exactly: nobody has more slots or tokens, or asks for more credits."""

InFlight: TypeAlias = Mapping[tuple[NodeId, ModelId], int]

_SERVING: Final = (
    ModelState.LOADED,
    ModelState.LOADING,
    ModelState.UNLOADED,
    ModelState.DOWNLOADING,
)
_ANYBODY: Final = Standing(node=NodeId(""), operator=OperatorId(""), trust=Trust.TRUSTED)

_seldom: Final = every(60.0)
_log = logging.getLogger(__name__)


def offers_for(
    terms: Terms,
    asker: Standing,
    view: FleetView,
    in_flight: InFlight,
    catalogue: Catalogue = EMPTY,
) -> ReportOffers:
    """All that would be served for this one cortex, and what is kept from it, with the rules.

    `in_flight` counts requests by neuron and model, whoever asked for them.
    """
    if refused := lends_to(terms, asker):
        # Nothing else: whoever gets nothing learns nothing of what there is.
        return ReportOffers(withheld=(Withheld(reason=refused),))
    offers: list[Offer] = []
    withheld: dict[tuple[str, tuple[WorkloadClass, ...]], list[ModelId]] = {}
    for model, copies in _models(view, catalogue):
        if reason := lends_model(terms, asker, model):
            withheld.setdefault((reason, ()), []).append(model)
            continue
        if not copies:
            # A model that is away for a moment is not one that nobody knows.
            withheld.setdefault((UNSERVED, ()), []).append(model)
            continue
        offer = summed(model, copies, in_flight, catalogue.entries.get(model))
        lent = []
        for workload in offer.classes:
            if reason := lends_class(terms, asker, workload):
                withheld.setdefault((reason, (workload,)), []).append(model)
            else:
                lent.append(workload)
        if lent:
            price = offer.price if terms.price is None or asker.trust is Trust.OWN else terms.price
            offers.append(msgspec.structs.replace(offer, classes=tuple(lent), price=price))
    # The ready ones first: they are what the reader wants most, should not all be told.
    offers.sort(key=lambda one: (not one.ready, one.model))
    if len(offers) > OFFERS_PER_RECORD_MAX:
        _note_cut(len(offers), OFFERS_PER_RECORD_MAX)
    return ReportOffers(
        offers=tuple(offers[:OFFERS_PER_RECORD_MAX]),
        withheld=tuple(
            Withheld(reason=reason, models=tuple(models[:OFFERS_PER_RECORD_MAX]), classes=classes)
            for (reason, classes), models in withheld.items()
        ),
    )


def public_offers(
    terms: Terms, view: FleetView, in_flight: InFlight, catalogue: Catalogue = EMPTY
) -> tuple[Offer, ...]:
    """What the record says to everybody: what a trusted cortex of any region would get.

    Coarse, because every change of a record travels through the whole mesh, and no larger
    than a record has room for.
    """
    anywhere = replace(terms, lend_regions=Patterns())
    offers = offers_for(anywhere, _ANYBODY, view, in_flight, catalogue).offers
    room = OFFERS_BYTES_MAX
    found: list[Offer] = []
    for offer in map(_coarse, offers):
        room -= len(msgspec.msgpack.encode(offer))
        if room < 0:
            _note_cut(len(offers), len(found))
            break
        found.append(offer)
    return tuple(found)


def is_sound(offer: Offer) -> bool:
    """Whether what a stranger offers can be reckoned with: a name, and sane numbers and words."""
    price = offer.price
    numbers = (
        offer.context_tokens,
        offer.slots,
        offer.free,
        offer.tokens_per_s,
        offer.first_token_s,
        price.prompt_uncached,
        price.prompt_cached,
        price.completion,
        price.reasoning,
    )
    # Not a number is not between the two either.
    words = len(offer.abilities) <= ABILITIES_MAX and all(
        one.isidentifier() and len(one) <= ABILITY_CHARS_MAX for one in offer.abilities
    )
    stored = offer.quantisation
    words = words and len(stored) <= QUANTISATION_CHARS_MAX and stored.isascii()
    return (
        is_model_id(offer.model) and words and all(0 <= number <= NUMBER_MAX for number in numbers)
    )


Copy: TypeAlias = tuple[NeuronView, ModelCapability]


def _models(view: FleetView, catalogue: Catalogue) -> Iterator[tuple[ModelId, list[Copy]]]:
    """Each model with the copies of it that could take a request now, which may be none."""
    for model in sorted(view.holders):
        yield model, copies_of(view, catalogue, model)


def copies_of(view: FleetView, catalogue: Catalogue, model: ModelId) -> list[Copy]:
    """The copies of a model that could take a request now."""
    copies = []
    entry = catalogue.entries.get(model)
    for node in view.holders.get(model, ()):
        neuron = view.neurons[node]
        if neuron.presence is Presence.PRESENT and not neuron.draining:
            capability = neuron.capabilities[model]
            if capability.state in _SERVING and (
                entry is None or not why_not_there(entry, neuron.descriptor)
            ):
                copies.append((neuron, capability))
    return copies


def summed(
    model: ModelId, copies: Sequence[Copy], in_flight: InFlight, entry: ModelEntry | None
) -> Offer:
    """What is true of every copy, and of all of them together where it adds up."""
    all_of = [capability for _, capability in copies]
    prices = [price_of(one, entry) for one in all_of]
    first = all_of[0]
    return Offer(
        model=model,
        digest=first.digest if all(one.digest == first.digest for one in all_of) else "",
        classes=tuple(
            workload
            for workload in WorkloadClass
            # Goes without saying, and older cortexes would list it.
            if workload is not WorkloadClass.OTHER
            and any(does(one, workload, entry) for one in all_of)
        ),
        modalities=tuple(
            one for one in first.modalities if all(one in other.modalities for other in all_of)
        ),
        context_tokens=min((one.context_tokens for one in all_of if one.context_tokens), default=0),
        slots=sum(one.slots for one in all_of),
        free=sum(_free(neuron, one, in_flight) for neuron, one in copies),
        ready=any(one.state is ModelState.LOADED for one in all_of),
        tokens_per_s=max(one.tokens_per_s for one in all_of),
        first_token_s=min((one.first_token_s for one in all_of if one.first_token_s), default=0.0),
        quantisation=first.quantisation[:QUANTISATION_CHARS_MAX]
        if all(one.quantisation == first.quantisation for one in all_of)
        and first.quantisation.isascii()
        else "",
        tools=all(one.tools for one in all_of),
        structured_output=all(one.structured_output for one in all_of),
        reasoning=all(one.reasoning for one in all_of),
        abilities=tuple(
            one for one in first.abilities if all(one in other.abilities for other in all_of)
        ),
        price=Price(
            prompt_uncached=max(one.prompt_uncached for one in prices),
            prompt_cached=max(one.prompt_cached for one in prices),
            completion=max(one.completion for one in prices),
            reasoning=max(one.reasoning for one in prices),
        ),
    )


def _free(neuron: NeuronView, capability: ModelCapability, in_flight: InFlight) -> int:
    busy = in_flight.get((neuron.descriptor.node, capability.model), 0)
    if neuron.load is not None:
        for replica in neuron.load.replicas:
            if replica.model == capability.model:
                busy = max(busy, replica.running + replica.waiting)
    return max(capability.slots - busy, 0)


def _coarse(offer: Offer) -> Offer:
    """The free slots to a power of two, what was measured to two digits, no abilities."""
    free = 1 << (offer.free.bit_length() - 1) if offer.free else 0
    return msgspec.structs.replace(
        offer,
        free=free,
        tokens_per_s=_two_digits(offer.tokens_per_s),
        first_token_s=_two_digits(offer.first_token_s),
        abilities=(),
    )


def _two_digits(value: float) -> float:
    return round(value, 1 - math.floor(math.log10(value))) if value > 0 else value


def _note_cut(there_are: int, told: int) -> None:
    if _seldom():
        _log.warning("offers_cut", extra={"models": there_are, "told": told})
