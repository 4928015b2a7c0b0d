"""What is lent, borrowed and offered: rules without any network."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.cortex.fleets import fleet, node

from helexa.cortex.orchestrator.federation import limits as limits_module
from helexa.cortex.orchestrator.federation.limits import Limits
from helexa.cortex.orchestrator.federation.offers import (
    OFFERS_BYTES_MAX,
    is_sound,
    offers_for,
    public_offers,
)
from helexa.cortex.orchestrator.federation.patterns import Patterns
from helexa.cortex.orchestrator.federation.peer import told_by
from helexa.cortex.orchestrator.federation.terms import Terms, borrows, lends, offering
from helexa.cortex.orchestrator.federation.wanted import forbids
from helexa.cortex.orchestrator.federation.wish import HEADER, onward, parse
from helexa.cortex.orchestrator.fleet import FleetEvent, HealthReported, NeuronLeft, apply
from helexa.cortex.settings import FederationSettings
from helexa.mesh.trust import Standing, Trust
from helexa.protocol.errors import RateLimited, RequestRejected
from helexa.protocol.ids import ModelId, NodeId, OperatorId
from helexa.protocol.messages import ReportOffers, Withheld
from helexa.protocol.records import OFFERS_PER_RECORD_MAX, Offer
from helexa.protocol.routing import Wish
from helexa.protocol.work import (
    Load,
    ModelCapability,
    ModelState,
    Price,
    ReplicaLoad,
    WorkloadClass,
)

CHAT, BULK, EMBED = (
    WorkloadClass.CHAT_INTERACTIVE,
    WorkloadClass.CHAT_BULK,
    WorkloadClass.EMBEDDING,
)
M = ModelId("team/m")
PEER = Standing(
    node=NodeId("ab" * 32),
    operator=OperatorId("cd" * 32),
    trust=Trust.TRUSTED,
    name="ben",
    region="eu-west",
)
OFFER = Offer(model=M, classes=(CHAT,), slots=1, price=Price(prompt_uncached=2, completion=7))


def terms(**settings: Any) -> Terms:
    return Terms.of(FederationSettings(**settings))


# --- patterns


@pytest.mark.parametrize(
    ("patterns", "taken", "left"),
    [
        ((), ["anything", ""], []),
        (("team/*",), ["team/m"], ["m", "other/m"]),
        (("!team/*",), ["m"], ["team/m"]),
        (("team/*", "!team/secret-?"), ["team/m"], ["team/secret-1", "m"]),
        (("a", "b"), ["a", "b"], ["ab", ""]),
        (("m.1",), ["m.1"], ["mx1"]),
    ],
)
def test_patterns_take_and_leave(
    patterns: tuple[str, ...], taken: list[str], left: list[str]
) -> None:
    for text in taken:
        assert Patterns(patterns).take(text)
    for text in left:
        assert not Patterns(patterns).take(text)


words = st.text("ab/*?!-", min_size=1, max_size=6)


@given(st.lists(words, max_size=4), st.text("ab/-", max_size=6))
def test_what_is_excluded_is_out_whatever_else_is_said(patterns: list[str], text: str) -> None:
    out = [one[1:] for one in patterns if one.startswith("!")]
    inward = [one for one in patterns if not one.startswith("!")]
    expected = not any(fnmatchcase(text, one) for one in out) and (
        not inward or any(fnmatchcase(text, one) for one in inward)
    )
    assert Patterns(tuple(patterns)).take(text) is expected
    assert not Patterns((*patterns, "!*")).take(text)


# --- lending and borrowing


@pytest.mark.parametrize(
    ("settings", "asker", "rule"),
    [
        ({}, {}, ""),
        ({}, {"trust": Trust.KNOWN}, "lend_to"),
        ({}, {"trust": Trust.OWN}, ""),
        ({"lend_to": "known"}, {"trust": Trust.KNOWN}, ""),
        ({"lend_to": "stranger"}, {"trust": Trust.STRANGER}, ""),
        ({"lend_to": "stranger"}, {"trust": Trust.DENIED}, "denies"),
        ({"lend_to": "nobody"}, {"trust": Trust.OWN}, "lend_to"),
        ({"lend_to": "own"}, {}, "lend_to"),
        ({"lend_classes": ("embedding",)}, {}, "lend_classes"),
        ({"lend_classes": ("!chat_*",)}, {}, "lend_classes"),
        ({"lend_classes": ("!chat_*",)}, {"trust": Trust.OWN}, ""),
        ({"lend_models": ("!team/*",)}, {}, "lend_models"),
        ({"lend_regions": ("us-*",)}, {}, "lend_regions"),
        ({"lend_regions": ("us-*",)}, {"region": ""}, "lend_regions"),
        ({"lend_regions": ("eu-*",)}, {}, ""),
    ],
)
def test_what_is_lent(settings: Any, asker: Any, rule: str) -> None:
    reason = lends(terms(**settings), replace(PEER, **asker), M, CHAT)
    assert rule in reason
    assert bool(rule) is bool(reason)


@pytest.mark.parametrize(
    ("settings", "peer", "rule"),
    [
        ({}, {}, ""),
        ({"hops_max": 0}, {}, "hops_max"),
        ({"hops_max": 0}, {"trust": Trust.OWN}, "hops_max"),
        ({"borrow_from": "nobody"}, {"trust": Trust.OWN}, "borrow_from"),
        ({}, {"trust": Trust.KNOWN}, "borrow_from"),
        ({"borrow_from": "known"}, {"trust": Trust.KNOWN}, ""),
        ({"borrow_from": "stranger"}, {"trust": Trust.DENIED}, "denied"),
        ({"borrow_classes": ("!chat_*",)}, {}, "borrow_classes"),
        ({"borrow_models": ("!team/*",)}, {}, "borrow_models"),
        ({"borrow_models": ("!team/*",)}, {"trust": Trust.OWN}, ""),
        ({"borrow_regions": ("us",)}, {}, "borrow_regions"),
        ({"borrow_regions": ("us",)}, {"trust": Trust.OWN}, "borrow_regions"),
        ({"borrow_regions": ("us",)}, {"region": ""}, "borrow_regions"),
        ({"borrow_price_max": 6}, {}, "borrow_price_max"),
        ({"borrow_price_max": 7}, {}, ""),
    ],
)
def test_what_is_borrowed(settings: Any, peer: Any, rule: str) -> None:
    reason = borrows(terms(**settings), OFFER, replace(PEER, **peer), CHAT)
    assert rule in reason
    assert bool(rule) is bool(reason)


def test_work_that_is_not_offered_is_not_borrowed() -> None:
    assert borrows(terms(), OFFER, PEER, EMBED) == "offers chat_interactive, not embedding"
    anything = msgspec.structs.replace(OFFER, classes=())
    assert borrows(terms(), anything, PEER, EMBED) == ""


@pytest.mark.parametrize(
    ("setting", "word"), [("lend_to", "denied"), ("borrow_from", "friends"), ("order", "best")]
)
def test_a_word_that_does_not_exist_is_refused_with_those_that_do(setting: str, word: str) -> None:
    with pytest.raises(RequestRejected) as refusal:
        terms(**{setting: word})
    assert refusal.value.field == setting
    assert word in refusal.value.message
    assert ("fastest" if setting == "order" else "nobody") in refusal.value.message


wishes = st.builds(
    Wish,
    only=st.lists(st.sampled_from(["ben", "local", "ab" * 4, "other"]), max_size=2).map(tuple),
    without=st.lists(st.sampled_from(["ben", "local", "cd" * 6, "other"]), max_size=2).map(tuple),
    regions=st.lists(st.sampled_from(["eu-*", "!eu-*", "us"]), max_size=2).map(tuple),
    price_max=st.none() | st.integers(0, 10),
    federation=st.booleans(),
    order=st.sampled_from(["", "cheapest", "fastest", "local_first"]),
)


@given(
    st.sampled_from(list(Trust)),
    st.sampled_from(["nobody", "known", "trusted", "own"]),
    st.none() | st.integers(0, 10),
    wishes,
)
def test_a_wish_can_only_forbid_more(
    trust: Trust, level: str, price_max: int | None, wish: Wish
) -> None:
    rules = terms(borrow_from=level, borrow_price_max=price_max)
    peer = replace(PEER, trust=trust)
    if borrows(rules, OFFER, peer, CHAT):
        assert borrows(rules, OFFER, peer, CHAT, wish)
    elif not borrows(rules, OFFER, peer, CHAT, wish):
        assert wish.federation
        assert forbids(wish, offering(peer, OFFER)) == ""


# --- the header


def test_every_part_of_the_header_is_read() -> None:
    text = (
        b" only = ben, abcdef01 ;not=local; region=eu-*,!us;max-price=40;"
        b" no-federation;order=cheapest"
    )
    assert parse(text) == Wish(
        only=("ben", "abcdef01"),
        without=("local",),
        regions=("eu-*", "!us"),
        price_max=40,
        federation=False,
        order="cheapest",
    )


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (b"", "a part ''"),
        (b" ", "a part ''"),
        (b"only=ben;", "a part ''"),
        (b"only", "after only="),
        (b"only=", "after only="),
        (b"only=ben,,cas", "after only="),
        (b"only=b\xc3\xa9n", "ASCII"),
        (b"only=<ben>", "after only="),
        (b"only=" + b",".join([b"a"] * 65), "more than 64"),
        (b"ONLY=ben", "a part 'ONLY'"),
        (b"only=a;only=b", "only twice"),
        (b"region=eu west", "after region="),
        (b"max-price=1.5", "nano-credits"),
        (b"max-price=-1", "nano-credits"),
        (b"max-price=" + b"9" * 19, "nano-credits"),
        (b"order=", "one of"),
        (b"order=random", "one of"),
        (b"no-federation=yes", "no value"),
        (b"x" * 3000, "2048"),
    ],
)
def test_a_header_that_cannot_be_read_is_refused_by_its_part(text: bytes, word: str) -> None:
    with pytest.raises(RequestRejected) as refusal:
        parse(text)
    assert word in refusal.value.message
    assert refusal.value.param == HEADER


@given(st.binary(max_size=200))
def test_any_header_is_a_wish_or_a_refusal(text: bytes) -> None:
    with suppress(RequestRejected):
        assert isinstance(parse(text), Wish)


@given(wishes)
def test_what_goes_on_narrows_the_next_cortex_as_it_narrowed_this_one(wish: Wish) -> None:
    own = PEER.node
    text = onward(wish, own)
    there = parse(text) if text else Wish()
    assert set(there.without) == {own if word == "local" else word for word in wish.without}
    assert set(there.only) == {own if word == "local" else word for word in wish.only}
    assert set(there.regions) == set(wish.regions)
    assert there.price_max is None
    assert there.order == ""


# --- offers


def capability(model: str = "m", **more: Any) -> ModelCapability:
    fields: dict[str, Any] = {"state": ModelState.LOADED, "slots": 4, "classes": (CHAT,), **more}
    return ModelCapability(model=ModelId(model), **fields)


def test_the_neurons_of_a_model_are_one_offer() -> None:
    view = fleet(
        (1, (capability(digest="sha256:1", tokens_per_s=10.0, tools=True, context_tokens=4096),)),
        (2, (capability(digest="sha256:1", tokens_per_s=30.0, context_tokens=2048),)),
        (3, (capability(state=ModelState.FAILED),)),
        (4, (capability(),)),
    )
    view = apply(view, NeuronLeft(node=node(4), reason="", now_s=1))
    load = Load(sequence=1, replicas=(ReplicaLoad(model=ModelId("m"), running=1, waiting=1),))
    view = apply(view, HealthReported(node=node(1), load=load, now_s=1))
    (offer,) = offers_for(terms(), PEER, view, {(node(2), ModelId("m")): 1}).offers
    assert (offer.slots, offer.free, offer.ready) == (8, 5, True)
    assert (offer.digest, offer.tokens_per_s) == ("sha256:1", 30.0)
    assert (offer.context_tokens, offer.tools) == (2048, False)
    # Chat is chat whoever waits for it; a picture is not for every model that talks.
    assert set(offer.classes) == {CHAT, BULK}


def test_a_digest_is_told_only_where_all_copies_have_it() -> None:
    view = fleet((1, (capability(digest="sha256:1"),)), (2, (capability(digest="sha256:2"),)))
    (offer,) = offers_for(terms(), PEER, view, {}).offers
    assert offer.digest == ""


@pytest.mark.parametrize(
    "event",
    [
        HealthReported(node=node(1), load=Load(sequence=1, draining=True), now_s=1),
        NeuronLeft(node=node(1), reason="off", now_s=1),
    ],
    ids=["drains", "left"],
)
def test_a_model_whose_neuron_cannot_now_is_not_offered_and_not_unknown(event: FleetEvent) -> None:
    view = apply(fleet((1, (capability("m"), capability("secret")))), event)
    rules = terms(lend_models=("!secret",))
    assert offers_for(rules, PEER, view, {}) == ReportOffers(
        withheld=(
            Withheld(reason="has no neuron that could serve it now", models=(ModelId("m"),)),
            Withheld(
                reason="does not lend this model to other operators (lend_models)",
                models=(ModelId("secret"),),
            ),
        )
    )
    nothing = offers_for(rules, replace(PEER, trust=Trust.KNOWN), view, {})
    assert [(row.models, row.classes) for row in nothing.withheld] == [((), ())]


def test_what_is_kept_back_is_told_with_its_rule_to_whom_something_is_lent() -> None:
    view = fleet((1, (capability("m"), capability("secret"), capability("e", classes=(EMBED,)))))
    rules = terms(lend_classes=("!chat_*", "!vision"), lend_models=("!secret",))
    report = offers_for(rules, PEER, view, {})
    assert [one.model for one in report.offers] == ["e"]
    assert {(row.reason.rpartition("(")[2], row.models) for row in report.withheld} == {
        ("lend_classes)", ("m",)),
        ("lend_models)", ("secret",)),
    }
    nothing = offers_for(rules, replace(PEER, trust=Trust.KNOWN), view, {})
    assert nothing.offers == ()
    assert [(row.models, row.classes) for row in nothing.withheld] == [((), ())]


def test_prices_are_the_operators_or_the_models_own() -> None:
    own = Price(prompt_uncached=1, completion=2)
    view = fleet((1, (capability(price=own),)), (2, (capability(),)))

    def price(rules: Terms, asker: Standing = PEER) -> Price:
        return offers_for(rules, asker, view, {}).offers[0].price

    assert price(terms()) == own
    asked = price(terms(price_prompt=5, price_completion=9))
    assert (asked.prompt_uncached, asked.prompt_cached) == (5, 5)
    assert (asked.completion, asked.reasoning) == (9, 9)
    assert price(terms(price_prompt=5), replace(PEER, trust=Trust.OWN)) == own


def test_a_record_holds_what_it_has_room_for_and_the_ready_ones_first() -> None:
    many = tuple(
        capability(f"model-{n:04}", digest="sha256:" + "0" * 64, state=state)
        for n in range(OFFERS_PER_RECORD_MAX)
        for state in [ModelState.LOADED if n % 2 else ModelState.UNLOADED]
    )
    view = fleet((1, (*many, capability("more"), capability("most"))))
    assert len(offers_for(terms(), PEER, view, {}).offers) == OFFERS_PER_RECORD_MAX
    offers = public_offers(terms(), view, {})
    assert sum(len(msgspec.msgpack.encode(one)) for one in offers) <= OFFERS_BYTES_MAX
    assert 64 <= len(offers) < OFFERS_PER_RECORD_MAX
    assert offers[0].ready


def test_a_record_is_coarse_and_knows_no_regions() -> None:
    view = fleet((1, (capability(slots=7, tokens_per_s=123.4),)))
    (offer,) = public_offers(terms(lend_regions=("eu",)), view, {})
    assert (offer.slots, offer.free, offer.tokens_per_s) == (7, 4, 120.0)
    assert public_offers(terms(lend_to="own"), view, {}) == ()
    assert public_offers(terms(lend_to="nobody"), view, {}) == ()


states = st.sampled_from(list(ModelState))
classes = st.lists(st.sampled_from(list(WorkloadClass)), max_size=3).map(tuple)
copies = st.builds(
    ModelCapability,
    model=st.sampled_from([ModelId("m"), ModelId("n"), ModelId("team/m")]),
    state=states,
    slots=st.integers(0, 4),
    classes=classes,
)
patterns = st.lists(st.sampled_from(["chat_*", "!embedding", "!vision", "*"]), max_size=2).map(
    tuple
)


@given(
    st.lists(copies, max_size=4),
    patterns,
    st.sampled_from([("m",), (), ("!m",)]),
    st.sampled_from(list(Trust)),
)
def test_what_is_offered_is_lent_and_what_is_lent_is_offered(
    found: list[ModelCapability], lend_classes: Any, lend_models: Any, trust: Trust
) -> None:
    view = fleet(*((number, (one,)) for number, one in enumerate(found)))
    rules = terms(lend_classes=lend_classes, lend_models=lend_models)
    asker = replace(PEER, trust=trust)
    report = offers_for(rules, asker, view, {})
    for offer in report.offers:
        assert offer.free <= offer.slots
        assert offer.classes
        assert is_sound(offer)
        for workload in WorkloadClass:
            if workload in offer.classes:
                assert lends(rules, asker, offer.model, workload) == ""
    told = told_by(report)
    for one in found:
        for workload in one.classes:
            rule = lends(rules, asker, one.model, workload)
            if rule and told.offers.get(one.model) and workload in told.offers[one.model].classes:
                raise AssertionError(f"offered in spite of: {rule}")


@pytest.mark.parametrize(
    "offer",
    [
        Offer(model=ModelId("../etc")),
        Offer(model=M, slots=-1),
        Offer(model=M, free=-1),
        Offer(model=M, tokens_per_s=float("nan")),
        Offer(model=M, tokens_per_s=float("inf")),
        Offer(model=M, price=Price(completion=-5)),
        Offer(model=M, context_tokens=2**60),
    ],
)
def test_an_offer_with_senseless_numbers_is_not_heard(offer: Offer) -> None:
    assert told_by(ReportOffers(offers=(offer, OFFER))).offers == {M: OFFER}


def test_a_peer_that_says_too_much_is_refused_and_its_words_are_made_harmless() -> None:
    with pytest.raises(RequestRejected):
        told_by(ReportOffers(offers=(OFFER,) * (OFFERS_PER_RECORD_MAX + 1)))
    with pytest.raises(RequestRejected):
        told_by(ReportOffers(withheld=(Withheld(reason="x"),) * 65))
    with pytest.raises(RequestRejected):
        told_by(ReportOffers(withheld=(Withheld(reason="x", models=(M,) * 10_000),)))
    told = told_by(
        ReportOffers(
            withheld=(
                Withheld(reason="a\r\nb\x1b[31m" + "c" * 500, models=(M,)),
                Withheld(reason="nonsense", models=(ModelId("../x"),)),
            )
        )
    )
    assert told.rule(M, CHAT).startswith("a  b [31mccc")
    assert len(told.rule(M, CHAT)) <= 200
    assert told.rule(ModelId("other"), CHAT) == ""


# --- limits


def test_a_bucket_holds_a_minutes_requests_and_fills_within_one() -> None:
    clock = [0.0]
    limits = Limits(lambda: clock[0])
    ann, ben = OperatorId("a"), OperatorId("b")
    for _ in range(3):
        limits.take(ann, 3)
    with pytest.raises(RateLimited) as refusal:
        limits.take(ann, 3)
    assert refusal.value.retry_after_s == 20
    limits.take(ben, 3)
    limits.take(ann, 0)
    clock[0] = 20
    limits.take(ann, 3)
    with pytest.raises(RateLimited):
        limits.take(ann, 3)
    clock[0] = 1e6
    for _ in range(3):
        limits.take(ann, 3)
    # A lower limit holds at once, whatever was left of the higher one.
    clock[0] = 2e6
    limits.take(ann, 1)
    with pytest.raises(RateLimited):
        limits.take(ann, 1)


def test_requests_at_once_are_counted_by_operator() -> None:
    limits = Limits(lambda: 0.0)
    ann, ben = OperatorId("a"), OperatorId("b")
    limits.enter(ann, 1)
    limits.enter(ben, 1)
    with pytest.raises(RateLimited):
        limits.enter(ann, 1)
    assert limits.under_way == 2
    limits.leave(ann)
    limits.enter(ann, 1)
    limits.leave(ann)
    limits.leave(ben)
    assert limits.under_way == 0


def test_the_operator_that_asked_longest_ago_is_forgotten_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits_module, "OPERATORS_MAX", 2)
    limits = Limits(lambda: 0.0)
    for name in ("a", "b", "a", "c"):
        limits.take(OperatorId(name), 2)
    with pytest.raises(RateLimited):
        limits.take(OperatorId("a"), 2)
    assert len(limits._buckets) == 2
