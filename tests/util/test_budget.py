"""Bytes that many hold: no more at once than there may be, and nothing lost by a refusal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helexa.util.budget import Budget, OverBudget

MOST = 100


@given(st.lists(st.integers(0, 2 * MOST)), st.randoms(use_true_random=False))
def test_what_is_held_is_what_was_taken_and_never_too_much(
    sizes: list[int], chance: object
) -> None:
    budget = Budget(MOST)
    held: list[int] = []
    for size in sizes:
        fits = sum(held) + size <= MOST
        try:
            budget.check(size)
            budget.take(size)
        except OverBudget:
            assert not fits
            if held:
                budget.give(held.pop(chance.randrange(len(held))))  # type: ignore[attr-defined]
        else:
            assert fits
            held.append(size)
        assert budget.held == sum(held) <= MOST


def test_a_check_takes_nothing() -> None:
    budget = Budget(MOST)
    budget.check(MOST)
    assert budget.held == 0
    budget.take(1)
    with pytest.raises(OverBudget):
        budget.check(MOST)
