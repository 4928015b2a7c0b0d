"""Amounts are read, shown and divided without losing a nano-credit."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helexa.cortex.billing.money import AMOUNT_MAX, MILLION, NANO, divided, nano, shown


@pytest.mark.parametrize(
    ("text", "amount"),
    [("12", 12 * NANO), ("0.000000015", 15), ("-1.5", -1_500_000_000), ("1000000000", AMOUNT_MAX)],
)
def test_what_people_write(text: str, amount: int) -> None:
    assert nano(text) == amount
    assert shown(amount) == text


@pytest.mark.parametrize(
    "text", ["", "1,5", "1.", ".5", "1e3", "0.0000000001", "1000000000.1", "٣"]
)
def test_what_is_no_amount(text: str) -> None:
    with pytest.raises(ValueError, match=r"no amount|is more than"):
        nano(text)


@given(st.integers(-AMOUNT_MAX, AMOUNT_MAX))
def test_what_is_shown_is_read_as_the_same(amount: int) -> None:
    assert nano(shown(amount)) == amount


@given(st.integers(0, AMOUNT_MAX), st.lists(st.integers(0, MILLION), max_size=5))
def test_a_divided_amount_comes_to_itself_and_each_part_is_off_by_less_than_one(
    amount: int, cuts: list[int]
) -> None:
    borders = [0, *sorted(cuts), MILLION]
    parts = [after - before for before, after in itertools.pairwise(borders)]
    found = divided(amount, parts)
    assert sum(found) == amount
    for part, got in zip(parts, found, strict=True):
        assert abs(got * MILLION - amount * part) < MILLION


@pytest.mark.parametrize("parts", [[], [MILLION - 1], [MILLION + 1, -1]])
def test_parts_that_are_not_all_of_it(parts: list[int]) -> None:
    with pytest.raises(ValueError, match="cannot be divided"):
        divided(10, parts)
