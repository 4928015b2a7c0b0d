"""What holds whatever happens: whole fleets in virtual time, drawn by chance."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from tests.cortex.worlds import World, worlds

from helexa.cortex.orchestrator.provisioning.plan import Kind
from helexa.testing.provisioning import race, traces

LOOKED_S = 1.0
"""A wait may be over its bound by the time until somebody looks."""

often = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@often
@given(worlds())
def test_no_promise_is_broken_whatever_goes_wrong(world: World) -> None:
    """Never the same command twice, nothing busy is told to leave, no more memory is given than
    there is, and whoever waits is told something; all of it with loads that fail, answers that
    are lost, and neurons that die, come back, and are cordoned or drained.
    """
    cortex = world.run()
    assert cortex.broken == []
    assert [neuron.refused_loads for neuron in cortex.neurons.values()] == [0] * len(world.rooms)


@often
@given(worlds())
def test_every_request_is_served_or_refused_with_a_reason_within_its_bound(world: World) -> None:
    cortex = world.run()
    longest_s = cortex.settings.max_wait_s + LOOKED_S
    for request in cortex.requests:
        assert request.ended_s is not None, request
        if request.refused:
            assert request.ended_s - request.came_s <= longest_s


@often
@given(worlds(kind=True))
def test_where_everything_can_be_served_everything_is(world: World) -> None:
    cortex = world.run()
    assert [one for one in cortex.requests if one.refused or one.started_s is None] == []
    loads = [action for _, action in cortex.given if action.kind is Kind.LOAD]
    served = len(cortex.requests)
    assert len(loads) <= served, "no load that served nobody"


@pytest.mark.parametrize("pace_s", [0.1, 0.25, 0.5, 1.0])
def test_letters_that_alternate_are_swapped_far_less_than_in_turn(pace_s: float) -> None:
    trace = traces.letters(pace_s, rounds=20, service_s=0.3)
    plain = race.fifo((1, 1), "ABC", 3.0, trace)
    made = race.planner((1, 1), "ABC", 3.0, trace)
    assert made.broken == plain.broken == ()
    assert made.lost == 0
    assert made.swaps <= 0.6 * plain.swaps
    assert made.p99_s <= plain.p99_s


@pytest.mark.parametrize("per_s", [5.0, 10.0])
def test_more_models_than_fit_are_swapped_far_less_than_in_turn(per_s: float) -> None:
    models = [f"m{number}" for number in range(12)]
    trace = traces.zipf(models, per_s=per_s, seconds=100, service_s=0.5)
    plain = race.fifo((1, 1, 2, 2), models, 3.0, trace)
    made = race.planner((1, 1, 2, 2), models, 3.0, trace)
    assert made.broken == ()
    assert made.lost == 0
    assert made.swaps <= 0.6 * plain.swaps
    assert made.p99_s <= plain.p99_s
