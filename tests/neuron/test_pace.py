"""How fast a model is, told from its answers where they tell it."""

from __future__ import annotations

import pytest

from helexa.neuron.supervisor import pace


@pytest.mark.parametrize(
    ("tokens", "pieces", "seconds"),
    [
        (24, 2, 0.0005),
        (24, 24, 0.0005),
        (4000, 2, 1.0),
        (10, 10, 1.0),
        (0, 0, 0.0),
    ],
)
def test_an_answer_that_came_at_once_tells_nothing(
    tokens: int, pieces: int, seconds: float
) -> None:
    assert pace.of_answer(tokens, pieces, seconds) == 0.0


def test_a_longer_one_tells_the_pace_behind_its_first_token() -> None:
    assert pace.of_answer(241, 100, 0.1) == pytest.approx(2400)
