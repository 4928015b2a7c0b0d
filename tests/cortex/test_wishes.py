"""What requests ask of their way, read from header and body into one form, and written again."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helexa.cortex.orchestrator.federation.wish import (
    HEADER,
    PARTS,
    both,
    canonical,
    parse,
    policy_id,
)
from helexa.cortex.orchestrator.federation.wish_bodies import asked, first_model
from helexa.protocol.errors import BodyMalformed, RequestRejected
from helexa.protocol.ids import ModelId
from helexa.protocol.openai.requests import ChatHead
from helexa.protocol.routing import Wish

_words = st.sampled_from(["ben", "local", "ab" * 4, "eu cortex"])
_decimals = st.none() | st.integers(1, 10**9).map(lambda n: n / 10**6)
_nano = st.none() | st.integers(0, 10**12)


def _several(words: Any) -> Any:
    return st.lists(words, max_size=3).map(tuple)


wishes = st.builds(
    Wish,
    only=_several(_words),
    without=_several(_words),
    prefer=_several(_words),
    fallbacks=st.booleans(),
    regions=_several(st.sampled_from(["eu-*", "!us"])),
    federation=st.booleans(),
    models=_several(st.sampled_from(["team/qwen", "m:7b"]).map(ModelId)),
    quantisations=_several(st.sampled_from(["fp8", "Q4_K_M", "unknown"])),
    quantisation_min=st.sampled_from(["", "Q8_0", "fp8"]),
    price_max=_nano,
    prompt_price_max=_nano,
    completion_price_max=_nano,
    first_token_max_s=_decimals,
    speed_min=_decimals,
    first_token_wanted_s=_decimals,
    speed_wanted=_decimals,
    order=st.sampled_from(["", "cheapest", "fastest", "local_first", "quickest"]),
    resume=st.booleans(),
)


def head(**members: Any) -> ChatHead:
    body = {"model": "m", "messages": [], **members}
    return msgspec.json.decode(msgspec.json.encode(body), type=ChatHead)


def test_every_field_of_a_wish_has_its_part() -> None:
    assert {part.field for part in PARTS.values()} == set(Wish.__struct_fields__)


@given(wishes)
def test_the_canonical_form_is_read_back_and_is_the_same_then(wish: Wish) -> None:
    said = canonical(wish)
    if not said:
        assert wish == Wish()
        return
    again = parse(said.encode())
    assert canonical(again) == said
    assert policy_id(again, "t") == policy_id(wish, "t")
    for field in ("prefer", "models", "price_max", "speed_min", "order", "fallbacks", "resume"):
        assert getattr(again, field) == getattr(wish, field)
    assert set(again.only) == set(wish.only)


def _as_body(wish: Wish) -> dict[str, Any]:
    names = {"regions": "region", "quantisations": "quantisation", "without": "not"}
    own = {}
    for part in PARTS.values():
        value = getattr(wish, part.field)
        if value != getattr(Wish(), part.field) and part.field != "models":
            own[part.name.removeprefix("no-").replace("-", "_")] = value
    assert not names.keys() & own.keys()
    return {"helexa": own, "models": list(wish.models)}


@given(wishes)
def test_header_and_body_say_the_same(wish: Wish) -> None:
    by_body = asked(head(**_as_body(wish)), None)
    assert by_body == wish
    if said := canonical(wish):
        assert canonical(by_body) == canonical(parse(said.encode()))
        # Both at once hold, and agree.
        assert asked(head(**_as_body(wish)), wish) == wish


def test_the_mark_of_a_policy_changes_with_what_is_asked_and_with_the_rules() -> None:
    marks = {
        policy_id(None, "1"),
        policy_id(None, "2"),
        policy_id(Wish(only=("a",)), "1"),
        policy_id(Wish(without=("a",)), "1"),
    }
    assert len(marks) == 4
    assert policy_id(Wish(), "1") == policy_id(None, "1")
    assert policy_id(Wish(only=("a", "b")), "1") == policy_id(Wish(only=("b", "a", "b")), "1")


PROVIDER = [
    ({"order": ["ben", "cas"]}, Wish(prefer=("ben", "cas"))),
    ({"only": ["ben"]}, Wish(only=("ben",))),
    ({"ignore": ["ben"]}, Wish(without=("ben",))),
    ({"allow_fallbacks": False}, Wish(fallbacks=False)),
    ({"allow_fallbacks": True}, Wish()),
    ({"quantizations": ["fp8", "int4"]}, Wish(quantisations=("fp8", "int4"))),
    ({"sort": "price"}, Wish(order="cheapest")),
    ({"sort": "throughput"}, Wish(order="fastest")),
    ({"sort": {"by": "latency", "partition": "model"}}, Wish(order="quickest")),
    ({"max_price": {"prompt": 0.5, "completion": "1.25"}},
     Wish(prompt_price_max=500, completion_price_max=1250)),
    ({"max_price": {"request": 0, "image": 0.1}}, Wish()),
    ({"preferred_max_latency": 0.5}, Wish(first_token_wanted_s=0.5)),
    ({"preferred_min_throughput": {"p50": 20}}, Wish(speed_wanted=20.0)),
    ({"require_parameters": True, "data_collection": "allow", "zdr": False}, Wish()),
    ({"order": None, "only": None, "sort": None, "max_price": None}, Wish()),
]  # fmt: skip


@pytest.mark.parametrize(("provider", "wish"), PROVIDER)
def test_members_of_openrouters_provider(provider: dict[str, Any], wish: Wish) -> None:
    assert asked(head(provider=provider), None) == wish


REFUSED = [
    ({"provider": {"data_collection": "deny"}}, "provider.data_collection"),
    ({"provider": {"zdr": True}}, "provider.zdr"),
    ({"provider": {"enforce_distillable_text": True}}, "provider.enforce_distillable_text"),
    ({"provider": {"sort": "beauty"}}, "provider.sort"),
    ({"provider": {"sort": {"by": "price", "partition": "none"}}}, "provider.sort.partition"),
    ({"provider": {"preferred_max_latency": {"p90": 1}}}, None),
    ({"provider": {"only": ["a,b"]}}, "provider.only"),
    ({"provider": {"only": ["<b>"]}}, "provider.only"),
    ({"provider": {"only": "ben"}}, "provider.only"),
    ({"provider": {"quantizations": ["fine"]}}, "provider.quantizations"),
    ({"provider": {"max_price": {"prompt": -1}}}, "provider.max_price.prompt"),
    ({"provider": {"max_price": {"image": "dear"}}}, "provider.max_price.image"),
    ({"provider": {"max_price": {"video": 1}}}, "provider.max_price.video"),
    ({"provider": {"colour": "red"}}, "provider.colour"),
    ({"provider": []}, "provider"),
    ({"helexa": {"min_quantisation": "fine"}}, "helexa.min_quantisation"),
    ({"helexa": {"region": ["eu west"]}}, "helexa.region"),
    ({"helexa": {"order": "random"}}, "helexa.order"),
    ({"helexa": {"max_price": -1}}, "helexa.max_price"),
    ({"helexa": {"max_first_token": 0}}, "helexa.max_first_token"),
    ({"helexa": {"federation": "no"}}, "helexa.federation"),
    ({"helexa": {"without": ["ben"]}}, "helexa.without"),
    ({"models": ["../etc"]}, "models"),
    ({"models": "m"}, "models"),
    ({"models": ["m"] * 17}, "models"),
    ({"route": "sideways"}, "route"),
    ({"transforms": ["middle-out"]}, "transforms"),
    ({"helexa": {"only": ["a"]}, "provider": {"only": ["b"]}}, "provider.only"),
]  # fmt: skip


@pytest.mark.parametrize(("members", "param"), REFUSED)
def test_what_cannot_be_honoured_is_refused_by_its_name(
    members: dict[str, Any], param: str | None
) -> None:
    with pytest.raises(RequestRejected) as refusal:
        asked(head(**members), None)
    assert refusal.value.param is not None
    if param is not None:
        assert refusal.value.param == param
    assert len(refusal.value.message) < 400


def test_what_may_say_only_what_is_so_anyway() -> None:
    assert asked(head(route="fallback", transforms=[], provider={}), None) == Wish()
    nothing = {"route": None, "transforms": None, "provider": None, "helexa": None, "models": None}
    assert asked(head(**nothing), None) is None
    assert not head().asks_way
    assert head(provider=None).asks_way


def test_header_and_body_hold_both_and_may_not_differ() -> None:
    wish = asked(head(provider={"ignore": ["cas"]}), parse(b"only=ben; no-resume"))
    assert wish == Wish(only=("ben",), without=("cas",), resume=False)
    with pytest.raises(RequestRejected) as refusal:
        asked(head(helexa={"max_price": 3}), parse(b"max-price=4"))
    assert refusal.value.param == "helexa.max_price"
    assert HEADER in refusal.value.message
    assert both(Wish(price_max=3), Wish(price_max=3), {}) == Wish(price_max=3)


def test_models_alone_name_the_model() -> None:
    wish = Wish(models=(ModelId("a"), ModelId("b")))
    assert first_model(wish) == ("a", Wish(models=(ModelId("b"),)))
    for none in (None, Wish()):
        with pytest.raises(BodyMalformed) as refusal:
            first_model(none)
        assert refusal.value.param == "model"


@given(st.recursive(st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=5),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
                        st.sampled_from(["only", "order", "sort", "p50", "by", "max_price",
                                         "prompt", "region", "resume", "zdr"]),
                        inner, max_size=3), max_leaves=8),
       st.sampled_from(["provider", "helexa", "models", "route", "transforms"]))  # fmt: skip
def test_any_member_is_a_wish_or_a_refusal_that_names_it(value: Any, name: str) -> None:
    said: object
    try:
        said = asked(head(**{name: value}), None)
    except RequestRejected as refusal:
        said = refusal.param
        assert str(said).startswith(name)
    assert said is None or isinstance(said, Wish | str)
