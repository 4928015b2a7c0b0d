"""Requests that come at once begin a few each turn, in order, and none is forgotten."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from helexa.util.starts import STARTS_A_TURN, Starts


@given(st.lists(st.one_of(st.booleans(), st.none()), max_size=120))
def test_each_begins_once_in_order_and_few_are_under_way_to_their_first_step(
    news: list[bool | None],
) -> None:
    """True: a request; False: one whose client leaves before its turn; None: a first step."""
    starts = Starts()
    begun: list[int] = []
    unstepped: deque[int] = deque()

    def begin(number: int, *, stays: bool) -> Callable[[], bool]:
        def now() -> bool:
            begun.append(number)
            if stays:
                unstepped.append(number)
            return stays

        return now

    came = 0
    for one in news:
        if one is not None:
            starts(begin(came, stays=one))
            came += 1
        elif unstepped:
            unstepped.popleft()
            starts.stepped()
        assert len(unstepped) <= STARTS_A_TURN
        assert len(begun) == came or len(unstepped) == STARTS_A_TURN
    while unstepped:
        unstepped.popleft()
        starts.stepped()
    assert begun == list(range(came))
