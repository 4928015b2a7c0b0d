"""Any moment at all: whatever neurons say, a plan is made, and it breaks nothing by itself."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.cortex.moments import LONG_S, Copy, Moment, Neuron, named, pending

from helexa.cortex.orchestrator.fleet import Mark, Presence
from helexa.cortex.orchestrator.provisioning.plan import Kind, Setback, Want
from helexa.cortex.orchestrator.provisioning.planner import ACTIONS_MAX, plan
from helexa.cortex.settings import ModelEntry
from helexa.protocol.work import ModelState

MODELS = ("a", "b", "c", "d")
NAMES = ("n", "m", "o")
halves = st.integers(0, 8).map(lambda count: count / 2)


@st.composite
def neurons(draw: Any) -> tuple[Neuron, ...]:
    found = []
    for name in draw(st.sets(st.sampled_from(NAMES))):
        copies = [
            Copy(
                model=model,
                state=draw(st.sampled_from(ModelState)),
                gib=draw(halves),
                load_s=draw(st.sampled_from((0.0, 2.0))),
                runtime=draw(st.sampled_from(("", "r"))),
                running=draw(st.integers(0, 2)),
                waiting=draw(st.integers(0, 1)),
                idle_s=draw(st.sampled_from((0.0, 5.0, LONG_S))),
                queue_s=draw(st.sampled_from((0.0, 5.0))),
                named=draw(st.booleans()),
            )
            for model in draw(st.sets(st.sampled_from(MODELS)))
        ]
        found.append(
            Neuron(
                name=name,
                copies=tuple(copies),
                free_gib=draw(halves),
                mark=draw(st.sampled_from((None, None, *Mark))),
                silent=draw(st.booleans()),
                gone_s=draw(st.sampled_from((None, None, 1.0, 60.0))),
                reported=draw(st.booleans()),
            )
        )
    return tuple(found)


@st.composite
def moments(draw: Any) -> Moment:
    copies = st.tuples(st.sampled_from(NAMES), st.sampled_from(MODELS))
    return Moment(
        neurons=draw(neurons()),
        entries=tuple(
            ModelEntry(
                id=model,
                source=draw(st.sampled_from(("", "hf:o/r"))),
                priority=draw(st.sampled_from((0, 1))),
                replicas_min=draw(st.integers(0, 2)),
                keep_warm=draw(st.booleans()),
                nodes=draw(st.sampled_from(((), ("n",)))),
            )
            for model in draw(st.sets(st.sampled_from(MODELS)))
        ),
        wants={
            model: Want(
                waiting=draw(st.integers(0, 3)),
                oldest_s=draw(st.sampled_from((0.0, 3.0, 100.0))),
                in_flight=draw(st.integers(0, 2)),
                rate_per_s=draw(st.sampled_from((0.0, 2.0))),
            )
            for model in draw(st.sets(st.sampled_from(MODELS)))
        },
        pending=tuple(
            pending(draw(st.sampled_from(Kind)), name, model)
            for name, model in draw(st.sets(copies, max_size=2))
        ),
        setbacks={
            (name, model, draw(st.sampled_from(Kind))): Setback(
                failures=draw(st.integers(1, 4)), until_s=LONG_S + 9, reason="it broke"
            )
            for name, model in draw(st.sets(copies, max_size=3))
        },
        in_flight=dict.fromkeys(draw(st.sets(copies, max_size=2)), 1),
        settled=draw(st.booleans()),
    )


@settings(max_examples=400, deadline=None)
@given(st.lists(moments(), min_size=1, max_size=3))
def test_a_plan_breaks_nothing_by_itself(seen: list[Moment]) -> None:
    memory = None
    for moment in seen:
        if memory is None:
            made, memory = moment.plan()
        else:
            made, memory = moment.plan(memory)
        view = moment.given().view
        under_way = {one.action.node_model for one in moment.pending}
        copies = [one.node_model for one in made.actions]
        assert len(copies) == len(set(copies)) <= ACTIONS_MAX
        assert under_way.isdisjoint(copies)
        taken: Counter[str] = Counter()
        for action in made.actions:
            neuron = view.neurons[action.node]
            assert neuron.presence is Presence.PRESENT
            assert moment.given().setback(action.node, action.model, action.kind) is None
            told = neuron.replicas.get(action.model)
            if action.kind is Kind.UNLOAD:
                assert not moment.given().in_flight.get(action.node_model)
                assert told is None or not (told.running or told.waiting)
                continue
            assert neuron.mark is None
            allowed = {one.id: one.nodes for one in moment.entries}.get(action.model, ())
            assert not allowed or action.node == named("n")
            if action.kind is Kind.LOAD:
                taken[action.node] += neuron.capabilities[action.model].memory_bytes
        for node, count in taken.items():
            load = view.neurons[node].load
            assert load is not None
            # What is unloaded in this plan is not free for it.
            assert count <= load.memory_free_bytes


@settings(max_examples=200, deadline=None)
@given(moments())
def test_whoever_waits_and_is_not_served_is_told_something(moment: Moment) -> None:
    given_now = moment.given()
    made, _ = moment.plan()
    for model, want in given_now.wants.items():
        if want.waiting:
            told = (model in made.outlooks) + (model in made.hopeless)
            serves = any(
                neuron.presence is Presence.PRESENT
                and not neuron.draining
                and model in neuron.capabilities
                and neuron.capabilities[model].state is ModelState.LOADED
                for neuron in given_now.view.neurons.values()
            )
            assert told == 1 or (told == 0 and serves)
            if not given_now.settled:
                assert model not in made.hopeless


@settings(max_examples=100, deadline=None)
@given(moments())
def test_the_same_moment_gives_the_same_plan(moment: Moment) -> None:
    first, memory = moment.plan()
    again, _ = moment.plan()
    assert first == again
    assert plan(moment.given(), memory) == plan(moment.given(), memory)
