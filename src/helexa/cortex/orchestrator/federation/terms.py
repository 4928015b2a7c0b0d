"""What this operator lends to others and borrows of them: the rules, and what they say.

Pure. A rule that forbids says so in words, as the rest of a sentence about the cortex
that it forbids or that keeps it, and with the name of the setting: those words are what
an operator reads when a request went nowhere.

Rules are about other operators. A cortex of the same operator needs the trust level
that `lend_to` and `borrow_from` name, and is asked in the regions that
`borrow_regions` allows; classes, models and prices are not held against it.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

import msgspec

from helexa.cortex.orchestrator.federation.patterns import Patterns, in_region
from helexa.cortex.orchestrator.federation.wanted import Server, dearest, first_token_s, forbids
from helexa.cortex.settings import FederationSettings
from helexa.mesh.trust import Standing, Trust
from helexa.protocol.errors import RequestRejected
from helexa.protocol.ids import ModelId
from helexa.protocol.records import Offer
from helexa.protocol.routing import Wish
from helexa.protocol.work import Price, WorkloadClass

ORDERS: Final = ("local_first", "cheapest", "fastest")
NOBODY: Final = "nobody"


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """The federation settings, ready to be asked. `lend_to` and `borrow_from` None are nobody."""

    lend_to: Trust | None
    lend_classes: Patterns
    lend_models: Patterns
    lend_regions: Patterns
    lend_concurrency: int
    lend_rate_per_minute: int
    price: Price | None
    """None: what the models themselves ask."""
    borrow_from: Trust | None
    borrow_classes: Patterns
    borrow_models: Patterns
    borrow_regions: Patterns
    borrow_price_max: int | None
    order: str
    hops_max: int
    version: str = ""
    """A mark of all these rules together: other rules have another one."""

    @classmethod
    def of(cls, settings: FederationSettings) -> Terms:
        """Raises RequestRejected naming the setting and the words that it takes."""
        if settings.order not in ORDERS:
            raise RequestRejected(
                f"order: {settings.order!r} is none of {', '.join(ORDERS)}.", "order"
            )
        prompt, completion = settings.price_prompt, settings.price_completion
        price = Price(
            prompt_uncached=prompt,
            prompt_cached=prompt,
            completion=completion,
            reasoning=completion,
        )
        return cls(
            lend_to=_level("lend_to", settings.lend_to),
            lend_classes=Patterns(settings.lend_classes),
            lend_models=Patterns(settings.lend_models),
            lend_regions=Patterns(settings.lend_regions),
            lend_concurrency=settings.lend_concurrency,
            lend_rate_per_minute=settings.lend_rate_per_minute,
            price=price if prompt or completion else None,
            borrow_from=_level("borrow_from", settings.borrow_from),
            borrow_classes=Patterns(settings.borrow_classes),
            borrow_models=Patterns(settings.borrow_models),
            borrow_regions=Patterns(settings.borrow_regions),
            borrow_price_max=settings.borrow_price_max,
            order=settings.order,
            hops_max=settings.hops_max,
            version=blake2b(msgspec.json.encode(settings), digest_size=8).hexdigest(),
        )


def lends_to(terms: Terms, asker: Standing) -> str:
    """Why nothing at all is lent to this cortex; empty when something may be."""
    if asker.trust is Trust.DENIED:
        return "denies this cortex"
    if terms.lend_to is None:
        return "lends to nobody (lend_to)"
    if asker.trust < terms.lend_to:
        return f"lends to {_and_above(terms.lend_to)}, not to {asker.trust.word} (lend_to)"
    if asker.trust is not Trust.OWN and not terms.lend_regions.take(asker.region):
        return f"lends nothing {_to_region(asker.region)} (lend_regions)"
    return ""


def lends_model(terms: Terms, asker: Standing, model: ModelId) -> str:
    """Why this model is not lent to a cortex that `lends_to` lets pass."""
    if asker.trust is Trust.OWN or terms.lend_models.take(model):
        return ""
    return "does not lend this model to other operators (lend_models)"


def lends_class(terms: Terms, asker: Standing, workload: WorkloadClass) -> str:
    """Why this kind of work is not done for a cortex that `lends_to` lets pass."""
    # Counting tokens belongs to whatever work is lent.
    if asker.trust is Trust.OWN or workload is WorkloadClass.OTHER:
        return ""
    if terms.lend_classes.take(workload.value):
        return ""
    return f"lends no {workload.value} to other operators (lend_classes)"


def lends(terms: Terms, asker: Standing, model: ModelId, workload: WorkloadClass) -> str:
    """Why this request of another cortex is not served; empty when it may be."""
    return (
        lends_to(terms, asker)
        or lends_model(terms, asker, model)
        or lends_class(terms, asker, workload)
    )


def borrows(
    terms: Terms,
    offer: Offer,
    peer: Standing,
    workload: WorkloadClass,
    wish: Wish | None = None,
) -> str:
    """Why a request does not go to this peer for this offer; empty when it may."""
    return (
        _borrows_from(terms, peer)
        or ("" if peer.trust is Trust.OWN else _borrows_offer(terms, offer, workload))
        or (forbids(wish, offering(peer, offer)) if wish is not None else "")
        or _offer_lacks(offer, workload)
    )


def offering(peer: Standing, offer: Offer) -> Server:
    """A cortex with what it offers, as wishes see it."""
    return Server(
        standing=peer,
        price=offer.price,
        quantisation=offer.quantisation,
        first_token_s=first_token_s(offer.first_token_s, load_s=0.0 if offer.ready else None),
        tokens_per_s=offer.tokens_per_s,
    )


def _borrows_from(terms: Terms, peer: Standing) -> str:
    if terms.hops_max == 0:
        return "is not asked: this cortex borrows nothing (hops_max)"
    if peer.trust is Trust.DENIED:
        return "is denied here"
    if terms.borrow_from is None:
        return "is not asked: this cortex borrows of nobody (borrow_from)"
    if peer.trust < terms.borrow_from:
        needed = _and_above(terms.borrow_from)
        return f"is {peer.trust.word} here, and requests go to {needed} alone (borrow_from)"
    if not terms.borrow_regions.take(peer.region):
        return f"is {in_region(peer.region)}, where no request may go (borrow_regions)"
    return ""


def _borrows_offer(terms: Terms, offer: Offer, workload: WorkloadClass) -> str:
    is_work = workload is not WorkloadClass.OTHER
    if is_work and not terms.borrow_classes.take(workload.value):
        return f"is not asked for {workload.value} (borrow_classes)"
    if not terms.borrow_models.take(offer.model):
        return f"is not asked for {offer.model} (borrow_models)"
    price, price_max = dearest(offer.price), terms.borrow_price_max
    if price_max is not None and price > price_max:
        return f"asks {price} nano-credits a token, over {price_max} (borrow_price_max)"
    return ""


def _offer_lacks(offer: Offer, workload: WorkloadClass) -> str:
    if not offer.classes or workload in offer.classes or workload is WorkloadClass.OTHER:
        return ""
    return f"offers {', '.join(one.value for one in offer.classes)}, not {workload.value}"


def _level(setting: str, word: str) -> Trust | None:
    if word == NOBODY:
        return None
    try:
        level = Trust.of(word)
    except ValueError:
        level = Trust.DENIED
    if level is Trust.DENIED:
        words = ", ".join(one.word for one in Trust if one is not Trust.DENIED)
        raise RequestRejected(f"{setting}: {word!r} is none of {words}, {NOBODY}.", setting)
    return level


def _and_above(level: Trust) -> str:
    return " or ".join(one.word for one in Trust if one >= level)


def _to_region(region: str) -> str:
    return f"to region {region}" if region else "to a cortex that names no region"
