"""The policies: each orders the same candidates by its own measure."""

from __future__ import annotations

import math
import random as randomness
from collections import Counter

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.cortex.fleets import capability, fleet, node

from helexa.cortex.orchestrator import policies
from helexa.cortex.orchestrator.fleet import HealthReported, NeuronView, apply
from helexa.cortex.orchestrator.policies.prefix_affinity import BOUND, FREE_SHARE
from helexa.cortex.orchestrator.recall import Recall
from helexa.cortex.orchestrator.scheduler import Candidate, Facts, route
from helexa.protocol.ids import ModelId, NodeId
from helexa.protocol.routing import RouteHints
from helexa.protocol.work import Load, Price, ReplicaLoad, WorkloadClass

CHAT = WorkloadClass.CHAT_INTERACTIVE
M = ModelId("m")
HEADS = (1, 2, 3, 4)


def candidate(
    number: int,
    busy: int = 0,
    *,
    slots: int = 4,
    matched: int = 0,
    price: Price | None = None,
    tokens_per_s: float = 0.0,
    first_token_s: float = 0.0,
    queue_s: float = 0.0,
    others: int = 0,
) -> Candidate:
    able = msgspec.structs.replace(
        capability(slots=slots), tokens_per_s=tokens_per_s, first_token_s=first_token_s
    )
    view = fleet((number, (able,)))
    replica = ReplicaLoad(model=M, running=others, slots=slots, queue_s=queue_s)
    load = Load(sequence=1, replicas=(replica,))
    view = apply(view, HealthReported(node=node(number), load=load, now_s=0))
    neuron: NeuronView = view.neurons[node(number)]
    return Candidate(node(number), neuron, able, price or Price(), busy, busy / slots, matched)


def ordered(
    name: str, *candidates: Candidate, hints: RouteHints | None = None, seed: int = 0
) -> list[NodeId]:
    order = policies.named(name).order(
        candidates, hints or RouteHints(prefixes=HEADS), randomness.Random(seed).random
    )
    return [one.node for one, _ in order]


# --- prefix_affinity


def test_the_longest_match_wins_over_an_emptier_neuron() -> None:
    found = ordered(
        "prefix_affinity",
        candidate(1),
        candidate(2, 1, matched=3),
        candidate(3, 1, matched=4),
    )
    assert found == [node(3), node(2), node(1)]


def test_a_match_of_less_than_a_quarter_of_the_prompt_counts_for_nothing() -> None:
    assert ordered("prefix_affinity", candidate(1, 1, matched=1), candidate(2))[0] == node(2)
    assert ordered("prefix_affinity", candidate(1, 1, matched=2), candidate(2))[0] == node(1)


def test_a_neuron_with_more_than_its_share_is_passed_over_for_the_emptiest() -> None:
    found = ordered(
        "prefix_affinity",
        candidate(1, 6, matched=4),
        candidate(2, 3),
        candidate(3, 2),
    )
    assert found == [node(3), node(2), node(1)]


def test_of_two_that_know_a_prompt_the_one_within_its_share_takes_it() -> None:
    found = ordered(
        "prefix_affinity",
        candidate(1, 6, matched=4),
        candidate(2, 3, matched=3),
        candidate(3, 0),
    )
    assert found[0] == node(2)


def test_without_a_match_load_decides_and_among_equals_the_content() -> None:
    assert ordered("prefix_affinity", candidate(1, 2), candidate(2, 1))[0] == node(2)
    hints = [RouteHints(prefixes=(number, number + 7, number * 31)) for number in range(300)]
    equal = [candidate(number) for number in (1, 2, 3)]
    homes = [ordered("prefix_affinity", *equal, hints=one, seed=1)[0] for one in hints]
    again = [ordered("prefix_affinity", *equal, hints=one, seed=2)[0] for one in hints]
    assert homes == again
    assert sorted(Counter(homes)) == [node(1), node(2), node(3)]
    assert min(Counter(homes).values()) > 60


def test_where_others_send_requests_too_the_emptier_of_two_homes_takes_a_new_prompt() -> None:
    busy = (3, 2, 1, 4, 5)
    mine = [candidate(number, load) for number, load in enumerate(busy)]
    theirs = [candidate(number, load, others=1) for number, load in enumerate(busy)]
    hints = [RouteHints(prefixes=(number, number * 7, number * 31)) for number in range(200)]
    assert {ordered("prefix_affinity", *mine, hints=one)[0] for one in hints} == {node(2)}
    first = Counter(ordered("prefix_affinity", *theirs, hints=one)[0] for one in hints)
    # The fullest is never the emptier one; the emptiest is a home of two prompts in five.
    assert set(first) == {node(number) for number in (0, 1, 2, 3)}
    assert 50 < first[node(2)] < 110


def test_short_prompts_without_a_session_spread_by_chance() -> None:
    equal = [candidate(number) for number in (1, 2, 3)]
    found = Counter(
        ordered("prefix_affinity", *equal, hints=RouteHints(), seed=seed)[0] for seed in range(300)
    )
    assert min(found.values()) > 60


SHARES = st.lists(st.integers(1, 8), min_size=2, max_size=6)


@given(SHARES, st.lists(st.booleans(), min_size=60, max_size=60), st.integers(0, 2**32))
def test_a_hot_prompt_never_brings_a_neuron_above_its_share(
    slots: list[int], ends: list[bool], seed: int
) -> None:
    """Requests with one and the same prompt come and end in any order."""
    view = fleet(*((number, (capability(slots=one),)) for number, one in enumerate(slots)))
    recall, chance = Recall(), randomness.Random(seed)
    in_flight: dict[tuple[NodeId, ModelId], int] = {}
    running: list[NodeId] = []
    policy = policies.named("prefix_affinity")
    for is_end in ends:
        if is_end and running:
            gone = running.pop(chance.randrange(len(running)))
            in_flight[gone, M] -= 1
            continue
        facts = Facts(view=view, now_s=1.0, in_flight=in_flight, recall=recall)
        decision = route(
            facts, CHAT, M, RouteHints(prefixes=HEADS), policy=policy, random=chance.random
        )
        chosen = decision.targets[0].node
        total, before = len(running) + 1, in_flight.get((chosen, M), 0)
        own = slots[int(chosen, 16)]
        fair = math.ceil(BOUND * total * own / sum(slots))
        least = min(in_flight.get((node(number), M), 0) / one for number, one in enumerate(slots))
        # Within its share, or nobody was emptier.
        assert before + 1 <= max(fair, math.ceil(FREE_SHARE * own)) or before / own == least
        in_flight[chosen, M] = before + 1
        running.append(chosen)
        recall.sent(chosen, M, HEADS)


def test_repeats_of_a_prompt_stay_where_it_was_read() -> None:
    view = fleet(*((number, (capability(),)) for number in range(3)))
    recall = Recall()
    homes = set()
    for number in range(8):
        facts = Facts(view=view, now_s=1.0, recall=recall)
        decision = route(
            facts,
            CHAT,
            M,
            RouteHints(prefixes=(*HEADS, 100 + number)),
            policy=policies.named("prefix_affinity"),
            random=randomness.Random(number).random,
        )
        homes.add(decision.targets[0].node)
        recall.sent(decision.targets[0].node, M, (*HEADS, 100 + number))
    assert len(homes) == 1


# --- cheapest


def test_the_cheapest_goes_first_and_of_equal_prices_the_emptiest() -> None:
    dear, cheap = Price(prompt_uncached=5, completion=50), Price(prompt_uncached=5, completion=10)
    found = ordered(
        "cheapest",
        candidate(1, 0, price=dear),
        candidate(2, 3, price=cheap),
        candidate(3, 1, price=cheap),
    )
    assert found == [node(3), node(2), node(1)]


def test_a_long_prompt_goes_where_reading_is_cheap() -> None:
    reads = candidate(1, price=Price(prompt_uncached=1, completion=100))
    writes = candidate(2, price=Price(prompt_uncached=10, completion=10))
    assert ordered("cheapest", reads, writes, hints=RouteHints(prompt_bytes=400))[0] == node(2)
    assert ordered("cheapest", reads, writes, hints=RouteHints(prompt_bytes=40_000))[0] == node(1)


# --- fastest


def test_the_sooner_done_goes_first() -> None:
    found = ordered(
        "fastest",
        candidate(1, tokens_per_s=20, first_token_s=0.1),
        candidate(2, tokens_per_s=80, first_token_s=0.5),
        candidate(3, tokens_per_s=80, first_token_s=0.2),
    )
    assert found == [node(3), node(2), node(1)]


def test_a_queue_costs_what_it_takes_to_empty() -> None:
    slow = candidate(1, tokens_per_s=40)
    assert ordered("fastest", slow, candidate(2, 3, tokens_per_s=80))[0] == node(2)
    assert ordered("fastest", slow, candidate(2, 16, tokens_per_s=80))[0] == node(1)
    # By its own word the queue takes longer than its length says.
    said = candidate(2, 4, tokens_per_s=80, queue_s=30.0)
    assert ordered("fastest", slow, said)[0] == node(1)


def test_who_was_never_measured_is_taken_for_the_fastest_and_tried() -> None:
    found = Counter(
        ordered("fastest", candidate(1), candidate(2, tokens_per_s=80), seed=seed)[0]
        for seed in range(100)
    )
    assert min(found.values()) > 25
    assert ordered("fastest", candidate(1), candidate(2, tokens_per_s=80), candidate(3, 9))[2] == (
        node(3)
    )


# --- all of them

NUMBERS = st.tuples(
    st.integers(0, 30),
    st.integers(1, 8),
    st.integers(0, 4),
    st.integers(0, 100),
    st.sampled_from([0.0, 10.0, 99.5]),
)


@pytest.mark.parametrize("name", policies.names())
@given(st.lists(NUMBERS, min_size=1, max_size=8), st.integers(0, 2**32))
def test_all_are_ordered_once_with_a_reason_and_the_same_way_for_the_same_chance(
    name: str, numbers: list[tuple[int, int, int, int, float]], seed: int
) -> None:
    candidates = [
        candidate(
            number,
            busy,
            slots=slots,
            matched=matched,
            price=Price(completion=price),
            tokens_per_s=speed,
            first_token_s=speed / 100,
        )
        for number, (busy, slots, matched, price, speed) in enumerate(numbers)
    ]
    found = ordered(name, *candidates, seed=seed)
    assert sorted(found) == [one.node for one in candidates]
    assert found == ordered(name, *candidates, seed=seed)
    hints = RouteHints(prefixes=HEADS)
    order = policies.named(name).order(candidates, hints, randomness.Random(seed).random)
    assert all(reason for _, reason in order)
