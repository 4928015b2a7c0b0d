"""Which models a name leads to."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from helexa.cortex.orchestrator.catalogue import Catalogue, catalogue
from helexa.cortex.orchestrator.choices import choices, reachable
from helexa.cortex.settings import Alias, ModelEntry
from helexa.protocol.ids import ModelId


def weighted(**weights: float) -> Catalogue:
    """One alias, `any`, of these models."""
    return catalogue(
        ModelEntry(id=model, aliases=(Alias(name="any", weight=weight),))
        for model, weight in weights.items()
    )


def led(made: Catalogue, name: str, session: str = "", seed: int = 0) -> tuple[ModelId, ...]:
    return choices(made, ModelId(name), session, random.Random(seed).random)


def test_a_name_that_the_catalogue_does_not_know_leads_to_itself() -> None:
    assert led(Catalogue(), "m") == ("m",)
    assert led(weighted(a=1), "m") == ("m",)


def test_fallbacks_stand_behind_the_model_in_their_order_and_have_none_of_their_own() -> None:
    made = catalogue(
        [
            ModelEntry(id="a", fallbacks=("b", "c", "a")),
            ModelEntry(id="b", fallbacks=("d",)),
        ]
    )
    assert led(made, "a") == ("a", "b", "c")


def test_fallbacks_of_an_alias_stand_behind_all_of_its_models() -> None:
    made = catalogue(
        [
            ModelEntry(id="a", aliases=(Alias(name="any"),), fallbacks=("x", "b")),
            ModelEntry(id="b", aliases=(Alias(name="any"),), fallbacks=("y", "x")),
        ]
    )
    found = led(made, "any")
    assert set(found[:2]) == {"a", "b"}
    assert set(found[2:]) == {"x", "y"}
    assert set(reachable(made, ModelId("any"))) == {"a", "b", "x", "y"}


def test_a_fallback_may_be_an_alias() -> None:
    made = catalogue(
        [ModelEntry(id="a", fallbacks=("any",)), ModelEntry(id="b", aliases=(Alias(name="any"),))]
    )
    assert led(made, "a") == ("a", "b")


def test_models_of_an_alias_come_first_as_often_as_their_weights_say() -> None:
    made = weighted(a=6, b=3, c=1)
    draw = random.Random(7).random
    found = [choices(made, ModelId("any"), "", draw) for _ in range(4000)]
    first = Counter(one[0] for one in found)
    # Within four standard deviations of the binomial; the draws are the same on every run.
    for model, share in (("a", 0.6), ("b", 0.3), ("c", 0.1)):
        assert abs(first[ModelId(model)] - 4000 * share) < 4 * (4000 * share * (1 - share)) ** 0.5
    # Where `a` is out, the rest goes by weight, too.
    second = Counter(one[1] for one in found if one[0] == "a")
    assert 2.2 < second[ModelId("b")] / second[ModelId("c")] < 4.0


def test_a_session_stays_with_its_model_and_sessions_spread_by_weight() -> None:
    made = weighted(a=3, b=1)
    for session in ("s1", "s2", "s3"):
        assert len({led(made, "any", session, seed) for seed in range(20)}) == 1
    first = Counter(led(made, "any", f"session {number}")[0] for number in range(2000))
    assert 1400 < first[ModelId("a")] < 1600


NAMES = st.sampled_from("abcdef")


@given(
    st.dictionaries(
        NAMES, st.tuples(st.floats(1e-3, 1e6), st.lists(NAMES, max_size=4)), min_size=1
    ),
    st.text(max_size=8),
    st.integers(0, 2**32),
)
def test_every_model_is_named_once_whatever_the_catalogue_says(
    entries: dict[str, tuple[float, list[str]]], session: str, seed: int
) -> None:
    made = catalogue(
        ModelEntry(id=name, aliases=(Alias(name="any", weight=weight),), fallbacks=tuple(others))
        for name, (weight, others) in entries.items()
    )
    found = led(made, "any", session, seed)
    assert len(found) == len(set(found))
    assert set(found[: len(entries)]) == set(entries)
    assert set(found) == set(reachable(made, ModelId("any")))
