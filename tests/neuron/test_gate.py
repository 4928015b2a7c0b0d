"""Who waits, who works, how long they waited, and since when nobody came."""

from __future__ import annotations

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helexa.neuron.supervisor.gate import WAITS_KEPT_S, Gate, Waits
from helexa.protocol.errors import Draining, QueueFull

pytestmark = pytest.mark.anyio


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


async def test_it_is_idle_since_the_last_one_left_and_never_while_there_are_any() -> None:
    clock = Clock()
    gate = Gate(1, 4, clock=clock)
    gate.opened()
    clock.now += 5
    assert gate.idle_s == 5
    async with gate.present():
        clock.now += 7
        assert gate.idle_s == 0
    assert gate.idle_s == 0
    clock.now += 3
    assert gate.idle_s == 3


async def test_a_wait_is_measured_until_the_slot_is_free() -> None:
    clock = Clock()
    gate = Gate(1, 4, clock=clock)

    async def second() -> None:
        async with gate.present(), gate.slot():
            pass

    async with anyio.create_task_group() as tasks, gate.present(), gate.slot():
        tasks.start_soon(second)
        while not gate.waiting:
            await anyio.lowlevel.checkpoint()
        clock.now += 6
    assert gate.queue_s == pytest.approx(3, rel=0.1)  # One waited 6 s, one not at all.
    clock.now += WAITS_KEPT_S * 10
    assert gate.queue_s < 0.01


async def test_a_load_is_no_wait_for_a_slot() -> None:
    """Else a model looks crowded each time that it was loaded for somebody."""
    clock = Clock()
    gate = Gate(1, 4, clock=clock)

    async def second() -> None:
        async with gate.present(), gate.slot():
            pass

    async with anyio.create_task_group() as tasks, gate.present(), gate.slot():
        tasks.start_soon(second)
        while not gate.waiting:
            await anyio.lowlevel.checkpoint()
        clock.now += 60  # It loads.
        gate.opened()
        clock.now += 2
    assert 0 < gate.queue_s <= 2


async def test_who_waits_while_it_is_closed_is_sent_away_and_who_comes_later_is_not() -> None:
    gate = Gate(1, 4)
    told: list[Draining] = []

    async def second() -> None:
        try:
            async with gate.present(), gate.slot():
                raise AssertionError("let in after all")
        except Draining as error:
            told.append(error)

    async with anyio.create_task_group() as tasks, gate.present(), gate.slot():
        tasks.start_soon(second)
        while not gate.waiting:
            await anyio.lowlevel.checkpoint()
        gate.closed()
    assert len(told) == 1
    async with gate.present(), gate.slot():
        assert gate.running == 1
    assert gate.has_room


async def test_one_too_many_is_refused_and_not_counted() -> None:
    gate = Gate(1, 0)
    async with gate.present():
        with pytest.raises(QueueFull):
            async with gate.present():
                raise AssertionError("let in")
        assert gate.present_count == 1


@given(
    st.lists(st.tuples(st.floats(0, 1e4), st.floats(0, 1e4)), min_size=1, max_size=50),
    st.floats(0, 1e6),
)
def test_a_mean_wait_is_never_longer_than_the_longest_and_only_fades(
    waits: list[tuple[float, float]], silence_s: float
) -> None:
    mean, now = Waits(), 0.0
    for later_s, wait_s in waits:
        now += later_s
        mean.add(now, wait_s)
    at_once = mean.mean_s(now)
    assert 0 <= at_once <= max(wait_s for _, wait_s in waits) * (1 + 1e-9)
    assert mean.mean_s(now + silence_s) <= at_once
