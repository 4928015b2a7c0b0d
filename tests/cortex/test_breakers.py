"""Who fails again and again is passed over for a while, and never for want of somebody else."""

from __future__ import annotations

import random as randomness

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.cortex.federated import member, model, world
from tests.cortex.fleets import capability, fleet, node

from helexa.cortex.orchestrator import policies
from helexa.cortex.orchestrator.breakers import (
    FAILURES,
    NEW,
    Breakers,
    Circuit,
    Rules,
    heard,
    tried,
)
from helexa.cortex.orchestrator.scheduler import Facts, route
from helexa.protocol.ids import ModelId
from helexa.protocol.routing import RouteHints, RoutingDecision
from helexa.protocol.work import WorkloadClass

RULES = Rules(failures=3, share=0.5, out_s=5.0, out_s_max=60.0)
M = ModelId("m")
CHAT = WorkloadClass.CHAT_INTERACTIVE


def failed(one: Circuit, times: int = 1, now_s: float = 0.0) -> Circuit:
    for _ in range(times):
        one = heard(one, ok=False, now_s=now_s, rules=RULES)
    return one


def test_failures_in_a_row_open_it_and_time_lets_one_request_try_it() -> None:
    one = failed(NEW, 2)
    assert not one.why_out(0.0)
    one = failed(one)
    assert one.why_out(0.0) == "passed over after 3 failures in a row, tried again in 5 s"
    assert not one.why_out(5.0)
    one = tried(one)
    assert "being tried again" in one.why_out(5.0)
    assert not heard(one, ok=True, now_s=5.0, rules=RULES).why_out(5.0)


def test_a_success_in_between_begins_anew_but_too_many_failures_among_them_open_it() -> None:
    one = NEW
    for _ in range(4):
        one = heard(failed(one), ok=True, now_s=0.0, rules=RULES)
    assert not one.why_out(0.0)
    one = failed(one, 2)
    assert "6 failures in 10 requests" in one.why_out(0.0)


def test_it_is_out_twice_as_long_each_time_and_never_longer_than_the_bound() -> None:
    one, now_s, waits = failed(NEW, 3), 0.0, []
    for _ in range(6):
        waits.append(one.until_s - now_s)
        now_s = one.until_s
        one = failed(tried(one), now_s=now_s)
    assert waits == [5.0, 10.0, 20.0, 40.0, 60.0, 60.0]


def test_requests_that_were_under_way_decide_nothing_about_an_open_one() -> None:
    one = failed(NEW, 3)
    assert failed(one, 5, now_s=4.0) == one
    assert heard(one, ok=True, now_s=4.0, rules=RULES) == one


@given(st.lists(st.sampled_from(["client_gone", "overloaded", "invalid_body", "draining", "ok"])))
def test_what_is_no_fault_of_the_node_never_counts(outcomes: list[str]) -> None:
    breakers = Breakers(RULES)
    for outcome in outcomes:
        breakers.started(node(1), M)
        breakers.finished(node(1), M, outcome, 0.0)
    assert not breakers.known


@given(
    st.lists(
        st.tuples(st.sampled_from(["ok", "peer_lost", "client_gone"]), st.floats(0, 20)),
        max_size=60,
    )
)
def test_whatever_happens_it_is_let_in_again_after_the_longest_wait(
    story: list[tuple[str, float]],
) -> None:
    breakers, now_s = Breakers(RULES), 0.0
    for outcome, passed_s in story:
        now_s += passed_s
        breakers.started(node(1), M)
        breakers.finished(node(1), M, outcome, now_s)
    assert not breakers.why_out(node(1), M, now_s + RULES.out_s_max)


def test_a_request_that_tries_it_and_says_nothing_leaves_the_place_to_the_next() -> None:
    breakers = Breakers(RULES)
    for _ in range(3):
        breakers.finished(node(1), M, "runtime_exited", 0.0)
    breakers.started(node(1), M)
    assert breakers.why_out(node(1), M, 6.0)
    breakers.finished(node(1), M, "client_gone", 6.0)
    assert not breakers.why_out(node(1), M, 6.0)


def test_a_node_that_was_started_anew_has_a_clean_sheet() -> None:
    breakers = Breakers(RULES)
    for _ in range(3):
        breakers.finished(node(1), M, "peer_lost", 0.0)
        breakers.finished(node(2), M, "peer_lost", 0.0)
    breakers.forget(node(1))
    assert not breakers.why_out(node(1), M, 0.0)
    assert breakers.why_out(node(2), M, 0.0)


def test_it_can_be_turned_off() -> None:
    breakers = Breakers(Rules(failures=0, share=0.5, out_s=5.0, out_s_max=60.0))
    for _ in range(30):
        breakers.finished(node(1), M, min(FAILURES), 0.0)
    assert not breakers.known


def routed(*out: int) -> RoutingDecision:
    circuits = {(node(one), M): failed(NEW, 3) for one in out}
    view = fleet((1, (capability(),)), (2, (capability(),)))
    return route(
        Facts(view=view, now_s=1.0, circuits=circuits),
        CHAT,
        M,
        RouteHints(),
        policy=policies.named("least_loaded"),
        random=randomness.Random(0).random,
    )


def test_the_scheduler_passes_it_over_and_names_it() -> None:
    decision = routed(1)
    assert [target.node for target in decision.targets] == [node(2)]
    (left_out,) = decision.excluded
    assert left_out.node == node(1)
    assert left_out.reason == "passed over after 3 failures in a row, tried again in 4 s"


def test_the_last_ones_are_asked_all_the_same() -> None:
    decision = routed(1, 2)
    assert {target.node for target in decision.targets} == {node(1), node(2)}
    assert not decision.excluded


@pytest.mark.anyio
async def test_another_cortex_that_fails_is_passed_over_for_a_neuron_of_ones_own_and_back() -> None:
    async with world() as mesh, member(mesh, "a") as a, member(mesh, "b") as b:
        await b.neuron(model("m"))
        await a.link(b)
        await a.until_offered("m", by=b)
        for _ in range(5):
            a.neurons.breakers.finished(b.node, M, "peer_lost", a.neurons.now_s())
        # The only one is asked, whatever it did.
        assert a.fabric.route(CHAT, M, RouteHints()).targets[0].node == b.node
        await a.neuron(model("m"))
        explained = a.fabric.explained(CHAT, M, RouteHints())
        assert [target.via for target in explained.targets] == [None]
        (left_out,) = explained.excluded
        assert left_out.sentence.startswith("cortex b is passed over after 5 failures in a row")
