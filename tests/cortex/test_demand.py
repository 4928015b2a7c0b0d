"""What is asked for, counted: waiting and running requests, arrivals, the last use."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helexa.cortex.orchestrator.provisioning.demand import FORGOTTEN_S, RATE_OVER_S, Demand
from helexa.cortex.orchestrator.provisioning.plan import Want
from helexa.protocol.ids import ModelId

A = ModelId("a")
B = ModelId("b")


def test_requests_wait_run_and_end() -> None:
    demand = Demand()
    demand.waits(A, 10.0)
    demand.waits(A, 12.0)
    assert demand.wants(15.0)[A] == Want(waiting=2, oldest_s=5.0)
    demand.served(A, 10.0, 15.0)
    demand.started(A, 15.0)
    want = demand.wants(16.0)[A]
    assert (want.waiting, want.oldest_s, want.in_flight, want.idle_s) == (1, 4.0, 1, 0.0)
    demand.served(A, 12.0, 16.0)
    demand.ended(A, 20.0)
    want = demand.wants(23.0)[A]
    assert (want.waiting, want.in_flight, want.idle_s) == (0, 0, 3.0)


def test_models_do_not_mix() -> None:
    demand = Demand()
    demand.waits(A, 0.0)
    demand.started(B, 0.0)
    wants = demand.wants(1.0)
    assert (wants[A].waiting, wants[A].in_flight) == (1, 0)
    assert (wants[B].waiting, wants[B].in_flight) == (0, 1)


def test_a_model_that_nobody_asked_for_is_not_wanted() -> None:
    assert Demand().wants(5.0) == {}


@pytest.mark.parametrize("every_s", [0.5, 2.0, 10.0])
def test_a_steady_pace_is_found_and_fades_when_it_ends(every_s: float) -> None:
    demand = Demand()
    now_s = 0.0
    while now_s < 10 * RATE_OVER_S:
        demand.started(A, now_s)
        demand.ended(A, now_s)
        now_s += every_s
    rate = demand.wants(now_s)[A].rate_per_s
    assert rate == pytest.approx(1 / every_s, rel=0.1)
    later = demand.wants(now_s + 2 * RATE_OVER_S)[A].rate_per_s
    assert later == pytest.approx(rate * 0.135, rel=0.01)


def test_what_nobody_asked_for_in_a_day_is_forgotten_but_not_what_runs() -> None:
    demand = Demand()
    demand.started(A, 0.0)
    demand.started(B, 0.0)
    demand.ended(B, 1.0)
    assert set(demand.wants(FORGOTTEN_S + 2)) == {A}


@given(st.lists(st.sampled_from(("waits", "served", "started", "ended")), max_size=40))
def test_counts_are_never_negative_and_the_oldest_is_the_first_who_still_waits(
    steps: list[str],
) -> None:
    demand = Demand()
    waiting: list[float] = []
    running = 0
    for now_s, step in enumerate(map(str, steps), start=1):
        match step:
            case "waits":
                demand.waits(A, float(now_s))
                waiting.append(float(now_s))
            case "served" if waiting:
                demand.served(A, waiting.pop(len(waiting) // 2), float(now_s))
            case "started":
                demand.started(A, float(now_s))
                running += 1
            case "ended":
                demand.ended(A, float(now_s))
                running = max(0, running - 1)
            case _:
                pass
        want = demand.wants(float(now_s)).get(A, Want())
        assert (want.waiting, want.in_flight) == (len(waiting), running)
        assert want.oldest_s == (now_s - waiting[0] if waiting else 0.0)
