"""A request that comes back to where it was is not sent round again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helexa.protocol import via
from helexa.protocol.errors import LoopDetected

A, B = b"0" * 16, b"1" * 16


def test_each_neuron_adds_its_mark() -> None:
    assert via.onward(None, A) == A
    assert via.onward(A, B) == A + b"," + B


def test_marks_differ() -> None:
    marks = {via.new_mark() for _ in range(100)}
    assert len(marks) == 100
    assert all(via.is_sound(mark) for mark in marks)


@pytest.mark.parametrize("passed", [A, B + b"," + A, A + b"," + B])
def test_who_finds_its_own_mark_refuses(passed: bytes) -> None:
    with pytest.raises(LoopDetected, match="already"):
        via.onward(passed, A)


def test_too_long_a_way_is_refused_though_nobody_is_met_twice() -> None:
    passed = b",".join(b"%016x" % number for number in range(via.PASSED_MAX + 1))
    with pytest.raises(LoopDetected, match="at most 4"):
        via.onward(passed, b"f" * 16)


@given(st.binary(max_size=200))
def test_nonsense_neither_breaks_it_nor_goes_on(text: bytes) -> None:
    if not via.is_sound(text):
        assert via.onward(text, A) == A
