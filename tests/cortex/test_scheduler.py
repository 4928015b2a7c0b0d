"""Routing: who may serve a request, in which order, and why not the others."""

from __future__ import annotations

import random as randomness
from collections import Counter
from collections.abc import Collection
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.cortex.fleets import capability, descriptor, fleet, node

from helexa.cortex.orchestrator import policies
from helexa.cortex.orchestrator.catalogue import catalogue
from helexa.cortex.orchestrator.fleet import (
    FleetView,
    HealthReported,
    Mark,
    NeuronLeft,
    NeuronMarked,
    NeuronRegistered,
    TimePassed,
    apply,
)
from helexa.cortex.orchestrator.recall import Recall
from helexa.cortex.orchestrator.scheduler import (
    EXCLUDED_MAX,
    READINESS,
    Facts,
    price_of,
    route,
)
from helexa.cortex.settings import Alias, ModelEntry
from helexa.protocol.errors import RequestRejected
from helexa.protocol.ids import ModelId, NodeId
from helexa.protocol.routing import RouteHints, RoutingDecision
from helexa.protocol.work import Load, ModelState, Price, ReplicaLoad, WorkloadClass

CHAT = WorkloadClass.CHAT_INTERACTIVE


def routed(
    view: FleetView,
    *,
    workload: WorkloadClass = WorkloadClass.CHAT_INTERACTIVE,
    hints: RouteHints | None = None,
    in_flight: dict[tuple[NodeId, ModelId], int] | None = None,
    seed: int = 0,
) -> RoutingDecision:
    return route(
        Facts(view=view, now_s=10.0, in_flight=in_flight or {}),
        workload,
        ModelId("m"),
        hints or RouteHints(),
        policy=policies.named("least_loaded"),
        random=randomness.Random(seed).random,
    )


def test_a_loaded_model_is_asked_before_one_that_must_load_first() -> None:
    view = fleet(
        (1, (capability(state=ModelState.UNLOADED),)),
        (2, (capability(state=ModelState.LOADED),)),
        (3, (capability(state=ModelState.LOADING),)),
        (4, (capability(state=ModelState.FAILED),)),
    )
    assert [target.node for target in routed(view).targets] == [node(2), node(3), node(1), node(4)]


def test_a_gone_neuron_is_excluded_with_what_happened_and_since_when() -> None:
    view = apply(fleet((1, (capability(),))), NeuronLeft(node=node(1), reason="killed", now_s=7))
    decision = routed(view)
    assert not decision.targets
    assert decision.excluded[0].reason == "gone for 3 s: killed"


def test_a_silent_and_a_draining_neuron_take_no_new_work() -> None:
    view = fleet((1, (capability(),)), (2, (capability(),)), now_s=0)
    view = apply(view, HealthReported(node=node(1), load=Load(sequence=1, draining=True), now_s=9))
    view = apply(view, TimePassed(now_s=9.5, lost_after_s=4, forget_after_s=99))
    reasons = {one.node: one.reason for one in routed(view).excluded}
    assert reasons[node(1)] == "draining"
    assert reasons[node(2)].startswith("silent")


def test_a_target_that_failed_this_request_is_not_asked_again() -> None:
    view = fleet((1, (capability(),)), (2, (capability(),)))
    decision = routed(view, hints=RouteHints(exclude=(node(1),)))
    assert [target.node for target in decision.targets] == [node(2)]


def test_an_embedding_request_does_not_reach_a_chat_model() -> None:
    decision = routed(fleet((1, (capability(),))), workload=WorkloadClass.EMBEDDING)
    assert decision.excluded[0].reason == "offers chat_interactive, not embedding"


def test_work_spreads_over_equal_neurons_and_avoids_the_loaded_one() -> None:
    view = fleet(*((number, (capability(),)) for number in (1, 2, 3)))
    busy = ReplicaLoad(model=ModelId("m"), running=4, waiting=20, slots=4)
    view = apply(
        view, HealthReported(node=node(3), load=Load(sequence=1, replicas=(busy,)), now_s=1)
    )
    first = Counter(routed(view, seed=seed).targets[0].node for seed in range(600))
    # Two random picks of three: the fullest is first only when picked twice, one time in nine.
    assert first[node(3)] < 110
    assert min(first[node(1)], first[node(2)]) > 180


def test_what_is_in_flight_here_counts_before_the_next_report() -> None:
    view = fleet((1, (capability(),)), (2, (capability(),)))
    flights = {(node(1), ModelId("m")): 40}
    first = Counter(
        routed(view, in_flight=flights, seed=seed).targets[0].node for seed in range(99)
    )
    assert first[node(2)] > first[node(1)] * 2


def test_an_unknown_policy_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(RequestRejected, match="least_loaded"):
        policies.named("most_loaded")


STATES = st.sampled_from(list(ModelState))


@given(st.lists(STATES, max_size=8), st.integers(0, 2**32), st.integers(0, 255))
def test_every_holder_is_either_a_target_or_excluded_with_a_reason(
    states: list[ModelState], seed: int, dead: int
) -> None:
    view = fleet(*((number, (capability(state=state),)) for number, state in enumerate(states)))
    for number in range(len(states)):
        if dead >> number & 1:
            view = apply(view, NeuronLeft(node=node(number), reason="x", now_s=1))
    decision = routed(view, seed=seed)
    targets = [target.node for target in decision.targets]
    others = [one.node for one in decision.excluded]
    assert sorted(targets + others) == [node(number) for number in range(len(states))]
    assert all(one.reason for one in decision.excluded)
    for number, state in enumerate(states):
        alive = not dead >> number & 1
        assert (node(number) in targets) == (alive and state in READINESS)


# --- what the catalogue and the operator say


def decided(
    view: FleetView,
    entries: tuple[ModelEntry, ...] = (),
    *,
    model: str = "m",
    policy: str = "least_loaded",
    seed: int = 0,
    thorough: bool = False,
    recall: Recall | None = None,
    hints: RouteHints | None = None,
    workload: WorkloadClass = WorkloadClass.CHAT_INTERACTIVE,
    yielding: Collection[tuple[NodeId, ModelId]] = frozenset(),
) -> RoutingDecision:
    return route(
        Facts(
            view=view,
            now_s=10.0,
            catalogue=catalogue(entries),
            recall=recall or Recall(),
            yielding=yielding,
        ),
        workload,
        ModelId(model),
        hints or RouteHints(),
        policy=policies.named(policy),
        random=randomness.Random(seed).random,
        thorough=thorough,
    )


def asked(decision: RoutingDecision) -> list[tuple[int, str, bool]]:
    return [(int(one.node, 16), one.model or decision.model, one.ready) for one in decision.targets]


COLD = ModelState.UNLOADED


def test_a_cold_first_choice_is_waited_for_although_its_fallback_is_loaded() -> None:
    view = fleet((1, (capability("a", COLD),)), (2, (capability("b"),)))
    decision = decided(view, (ModelEntry(id="a", fallbacks=("b",)),), model="a")
    assert asked(decision) == [(1, "a", False), (2, "b", True)]
    assert decision.targets[1].model == "b"
    assert decision.choices == ("a", "b")


@pytest.mark.parametrize("state", [ModelState.FAILED, ModelState.DOWNLOADING])
def test_a_first_choice_that_failed_or_is_being_downloaded_is_asked_behind_its_fallback(
    state: ModelState,
) -> None:
    view = fleet((1, (capability("a", state),)), (2, (capability("b", COLD),)))
    decision = decided(view, (ModelEntry(id="a", fallbacks=("b",)),), model="a")
    assert asked(decision) == [(2, "b", False), (1, "a", False)]


def test_a_fallback_serves_where_nobody_can_serve_the_first_choice() -> None:
    view = fleet((1, (capability("a"),)), (2, (capability("b"),)))
    view = apply(view, NeuronLeft(node=node(1), reason="killed", now_s=7))
    decision = decided(view, (ModelEntry(id="a", fallbacks=("b",)),), model="a")
    assert asked(decision) == [(2, "b", True)]
    assert decision.excluded[0].model == ""
    assert decision.excluded[0].node == node(1)


def test_targets_of_an_alias_say_which_model_to_ask_for() -> None:
    view = fleet((1, (capability("a"),)), (2, (capability("b"),)))
    entries = (
        ModelEntry(id="a", aliases=(Alias(name="any", weight=1e6),)),
        ModelEntry(id="b", aliases=(Alias(name="any", weight=1e-6),)),
    )
    decision = decided(view, entries, model="any")
    assert [(one.node, one.model) for one in decision.targets] == [(node(1), "a"), (node(2), "b")]


def test_a_neuron_that_breaks_a_constraint_is_excluded_although_it_has_the_model_loaded() -> None:
    view = fleet((1, (capability(),)), (2, (capability(),)))
    decision = decided(view, (ModelEntry(id="m", nodes=(str(node(2)),)),))
    assert asked(decision) == [(2, "m", True)]
    assert "(nodes)" in decision.excluded[0].reason


def test_work_that_an_entry_does_not_name_is_not_done_although_the_model_could() -> None:
    view = fleet((1, (capability(classes=(CHAT, WorkloadClass.COMPLETION)),)))
    entry = ModelEntry(id="m", classes=(CHAT,))
    assert decided(view, (entry,)).targets
    refused = decided(view, (entry,), workload=WorkloadClass.COMPLETION)
    assert refused.excluded[0].reason == "offers chat_interactive, not completion"


def test_a_drained_neuron_gets_nothing_and_a_cordoned_one_only_what_is_loaded_there() -> None:
    view = fleet(
        (1, (capability("a"), capability("b", COLD))),
        (2, (capability("a"), capability("b", ModelState.LOADING))),
    )
    view = apply(view, NeuronMarked(node=node(1), mark=Mark.CORDONED))
    assert len(decided(view, model="a").targets) == 2
    assert asked(decided(view, model="b")) == [(2, "b", False)]
    view = apply(view, NeuronMarked(node=node(2), mark=Mark.DRAINED))
    assert asked(decided(view, model="a")) == [(1, "a", True)]
    reasons = [one.reason for one in decided(view, model="b").excluded]
    assert reasons == ["cordoned, and the model is not loaded there", "drained"]


def test_the_catalogues_price_holds_where_the_neuron_asks_none() -> None:
    own = msgspec.structs.replace(capability(), price=Price(completion=7))
    entry = ModelEntry(id="m", price=Price(completion=5))
    assert price_of(own, entry) == Price(completion=7)
    assert price_of(capability(), entry) == Price(completion=5)
    assert price_of(capability(), None) == Price()


# --- many neurons


def test_of_many_neurons_the_loaded_ones_are_found_however_few_they_are() -> None:
    view = fleet(
        *(
            (n, (capability(state=ModelState.LOADED if n in (77, 310) else COLD),))
            for n in range(400)
        )
    )
    for seed in range(20):
        found = asked(decided(view, seed=seed))
        assert {one[0] for one in found if one[2]} == {77, 310}
        assert found[0][2]
        assert found[1][2]
        assert len(found) <= 8


def test_of_many_loaded_neurons_each_is_as_likely_to_be_looked_at() -> None:
    view = fleet(*((number, (capability(),)) for number in range(60)))
    first = Counter(asked(decided(view, seed=seed))[0][0] for seed in range(3000))
    assert len(first) == 60
    assert max(first.values()) < 3 * min(first.values())


def test_the_one_fit_neuron_of_many_is_found() -> None:
    view = fleet(*((number, (capability(),)) for number in range(200)))
    for number in range(200):
        if number != 123:
            view = apply(view, NeuronMarked(node=node(number), mark=Mark.DRAINED))
    decision = decided(view)
    assert asked(decision) == [(123, "m", True)]
    assert len(decision.excluded) == EXCLUDED_MAX
    assert len(decided(view, thorough=True).excluded) == 199


def test_who_has_read_the_prompt_is_found_among_many() -> None:
    view = fleet(*((number, (capability(),)) for number in range(300)))
    recall = Recall()
    recall.sent(node(211), ModelId("m"), (1, 2, 3))
    recall.sent(node(9_999), ModelId("m"), (1, 2, 3))
    hints = RouteHints(prefixes=(1, 2, 3))
    for seed in range(10):
        decision = decided(view, policy="prefix_affinity", recall=recall, hints=hints, seed=seed)
        assert decision.targets[0].node == node(211)


def test_an_unknown_prompt_has_the_same_home_among_many_whoever_asks() -> None:
    view = fleet(*((number << 200, (capability(),)) for number in range(1, 300)))
    hints = RouteHints(prefixes=(1 << 62, 3 << 61, 5 << 60))
    homes = {
        tuple(one.node for one in decision.targets)
        for seed in range(5)
        if (decision := decided(view, policy="prefix_affinity", hints=hints, seed=seed))
    }
    common = set.intersection(*(set(one) for one in homes))
    assert common


# --- whatever the fleet

PLACES = st.fixed_dictionaries(
    {
        "models": st.dictionaries(st.sampled_from("abc"), STATES, max_size=3),
        "mark": st.sampled_from([None, Mark.CORDONED, Mark.DRAINED]),
        "trouble": st.sampled_from(["", "left", "silent", "draining"]),
        "gpu": st.booleans(),
        "failed": st.booleans(),
        "yields": st.sets(st.sampled_from("abc")),
    }
)


@pytest.mark.parametrize("policy", policies.names())
@given(
    st.lists(PLACES, max_size=14),
    st.sampled_from(["a", "any"]),
    st.booleans(),
    st.booleans(),
    st.integers(0, 2**32),
)
def test_nobody_unfit_is_asked_and_everybody_is_named_once(
    policy: str,
    places: list[dict[str, Any]],
    name: str,
    labelled: bool,
    thorough: bool,
    seed: int,
) -> None:
    entries = (
        ModelEntry(
            id="a",
            aliases=(Alias(name="any"),),
            fallbacks=("c",),
            labels={"gpu": "yes"} if labelled else {},
        ),
        ModelEntry(id="b", aliases=(Alias(name="any", weight=2),)),
    )
    view, failed = FleetView(), []
    yielding = {
        (node(number), ModelId(name))
        for number, place in enumerate(places)
        for name in place["yields"]
    }
    for number, place in enumerate(places):
        labels = {"gpu": "yes"} if place["gpu"] else {}
        view = apply(
            view,
            NeuronRegistered(
                descriptor=msgspec.structs.replace(descriptor(number), labels=labels),
                capabilities=tuple(capability(m, s) for m, s in place["models"].items()),
                now_s=0,
            ),
        )
        if place["trouble"] == "left":
            view = apply(view, NeuronLeft(node=node(number), reason="x", now_s=1))
        elif place["trouble"] != "silent":
            load = Load(sequence=1, draining=place["trouble"] == "draining")
            view = apply(view, HealthReported(node=node(number), load=load, now_s=9))
        view = apply(view, NeuronMarked(node=node(number), mark=place["mark"]))
        if place["failed"]:
            failed.append(node(number))
    view = apply(view, TimePassed(now_s=9.5, lost_after_s=4, forget_after_s=99))
    hints = RouteHints(exclude=tuple(failed))

    def look(*, thorough: bool) -> RoutingDecision:
        return decided(
            view,
            entries,
            model=name,
            policy=policy,
            seed=seed,
            hints=hints,
            thorough=thorough,
            yielding=yielding,
        )

    decision = look(thorough=thorough)
    assert decision == look(thorough=thorough)
    for target in decision.targets:
        number, model = int(target.node, 16), target.model or decision.model
        place = places[number]
        assert place["models"][model] in READINESS
        assert target.ready == (place["models"][model] is ModelState.LOADED)
        assert place["trouble"] == ""
        assert not place["failed"]
        assert model not in place["yields"]
        assert place["mark"] is not Mark.DRAINED
        if place["mark"] is Mark.CORDONED:
            assert place["models"][model] in (ModelState.LOADED, ModelState.LOADING)
        assert place["gpu"] or not (labelled and model == "a")
    named = [(one.node, one.model or decision.model) for one in decision.targets]
    named += [(one.node, one.model or decision.model) for one in decision.excluded]
    assert len(named) == len(set(named))
    everybody = {
        (node(number), model)
        for number, place in enumerate(places)
        for model in place["models"]
        if model in decision.choices
    }
    assert set(named) <= everybody
    if thorough:
        assert set(named) == everybody
    elif not decision.targets:
        # A refusal is never the fault of looking at a few only.
        full = look(thorough=True)
        assert not full.targets
