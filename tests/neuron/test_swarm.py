"""Swarms in virtual time: always done, always right, and the origin sends about one file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.neuron.swarms import Neuron, World, right

from helexa.neuron.exchange import bits
from helexa.neuron.exchange.choice import MAPS_S, Fetch, Rest, decide
from helexa.neuron.exchange.swarm import CEDED_S, JOIN_S, Swarm
from helexa.neuron.exchange.wire import PieceMap, mark_of
from helexa.neuron.models.supply.piece import ORIGIN, PIECE_BYTES, Layout, content_key
from helexa.protocol.ids import NodeId

PIECES = 40
WITHIN_S = 3_000.0
ALL = frozenset(range(PIECES))


def node(seed: int, at: int) -> NodeId:
    return NodeId(hashlib.sha256(b"%d %d" % (seed, at)).hexdigest())


def ran(
    neurons: list[Neuron], seed: int, *, origin: float = 40e6, latency_s: float = 0.05
) -> World:
    world = World(neurons, pieces=PIECES, origin=origin, seed=seed, latency_s=latency_s)
    world.run(WITHIN_S)
    for one in neurons:
        if not one.lies and not one.hangs and one.dies_s > WITHIN_S:
            assert not one.failure
            assert {index: digest for index, (digest, _) in one.pieces.items()} == {
                index: right(index) for index in range(PIECES)
            }
    return world


def share(world: World) -> float:
    """Of the file, how often the origin sent it."""
    return world.origin_sent / world.layout.size


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    begins=st.lists(st.floats(0, 12), min_size=2, max_size=8),
    origin=st.sampled_from([2e6, 20e6, 80e6]),
    latency_s=st.sampled_from([0.0, 0.05, 0.2]),
)
def test_honest_neurons_take_the_file_once_whenever_they_begin(
    seed: int, begins: list[float], origin: float, latency_s: float
) -> None:
    neurons = [Neuron(node=node(seed, at), begins_s=when) for at, when in enumerate(begins)]
    world = ran(neurons, seed, origin=origin, latency_s=latency_s)
    assert share(world) <= 1.1


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    troubles=st.lists(
        st.sampled_from(["dies", "hangs", "slow line", "slow upload", "lies", "poisons", "none"]),
        min_size=1,
        max_size=4,
    ),
)
def test_whatever_the_others_do_an_honest_neuron_ends_with_the_right_bytes(
    seed: int, troubles: list[str]
) -> None:
    neurons = [Neuron(node=node(seed, 0)), Neuron(node=node(seed, 1), begins_s=1.5)]
    for at, trouble in enumerate(troubles, 2):
        one = Neuron(node=node(seed, at))
        match trouble:
            case "dies":
                one.dies_s = 1.0 + at
            case "hangs":
                one.hangs = True
            case "slow line":
                one.from_origin = 2e5
            case "slow upload":
                one.upload = 2e5
            case "lies":
                one.attests_wrong = frozenset(range(0, PIECES, at))
            case "poisons":
                one.gives_wrong = True
        neurons.append(one)
    ran(neurons, seed)


@pytest.mark.parametrize("seed", range(3))
def test_where_a_neuron_has_the_whole_the_origin_sends_nothing(seed: int) -> None:
    neurons = [Neuron(node=node(seed, at), whole=at == 0) for at in range(4)]
    assert ran(neurons, seed).origin_sent == 0


@pytest.mark.parametrize("seed", range(3))
def test_four_are_done_in_about_the_time_of_one(seed: int) -> None:
    world = ran([Neuron(node=node(seed, at)) for at in range(4)], seed)
    assert world.now_s < 2 * world.layout.size / world.origin


@pytest.mark.parametrize(
    ("change", "most"),
    [
        (lambda one: setattr(one, "dies_s", 2.0), 1.2),
        (lambda one: setattr(one, "hangs", True), 1.1),
        (lambda one: setattr(one, "from_origin", 2e5), 1.15),
        (lambda one: setattr(one, "upload", 2e5), 1.35),
        (lambda one: setattr(one, "gives_wrong", True), 1.35),
    ],
    ids=["it dies", "it hangs", "its line is slow", "it gives slowly", "it gives other bytes"],
)
def test_one_bad_member_costs_the_origin_little(
    change: Callable[[Neuron], None], most: float
) -> None:
    neurons = [Neuron(node=node(5, at)) for at in range(4)]
    change(neurons[1])
    world = ran(neurons, 5)
    assert share(world) <= most
    assert world.now_s < 60


def test_who_attests_other_bytes_than_the_origin_has_is_found() -> None:
    neurons = [Neuron(node=node(1, at)) for at in range(4)]
    neurons[3].attests_wrong = ALL
    ran(neurons, 1)
    for one in neurons[:3]:
        assert one.swarm is not None
        assert [m.node for m in one.swarm.members.values() if m.liar] == [neurons[3].node]


def test_two_who_say_different_things_are_settled_by_one_piece_of_the_origin() -> None:
    neurons = [Neuron(node=node(2, at), whole=at < 2) for at in range(3)]
    neurons[0].attests_wrong = ALL
    world = ran(neurons, 2)
    assert world.origin_sent <= 2 * world.layout.piece_bytes


def test_without_an_origin_the_majority_is_taken_at_its_word() -> None:
    neurons = [Neuron(node=node(3, at), whole=at < 3, has_origin=False) for at in range(5)]
    neurons[0].attests_wrong = ALL
    ran(neurons, 3)


def test_what_nobody_has_is_given_up_with_the_reason() -> None:
    neurons = [Neuron(node=node(4, at), has_origin=False) for at in range(2)]
    world = World(neurons, pieces=PIECES, origin=1e6, seed=4, latency_s=0.05)
    world.run(300)
    assert "no neuron that may give it has piece 0 of 40" in neurons[0].failure


# --- one neuron's part


def alone(seed: int, *others: NodeId) -> Swarm:
    layout = Layout(key=content_key("b" * 64), size=PIECES * PIECE_BYTES)
    swarm = Swarm(node(seed, 0), layout, have=0, origin_lanes=4, now_s=0.0)
    swarm.told(others, 0.0)
    return swarm


def said_by(*, have: int = 0, fetches: bool = True, counts: NodeId | None = None) -> PieceMap:
    return PieceMap(
        epoch=1,
        version=1,
        size=PIECES * PIECE_BYTES,
        have=bits.to_bytes(have, PIECES),
        first_hand=bits.to_bytes(have, PIECES),
        digests={index: right(index) for index in bits.each(have)},
        fetches=fetches,
        members=frozenset({mark_of(counts)} if counts else ()),
    )


def test_nothing_is_begun_before_those_that_were_named_were_heard() -> None:
    swarm = alone(1, node(1, 1))
    assert isinstance(decide(swarm, 0.5, lambda: 0.0), Rest)
    swarm.heard(node(1, 1), said_by(have=bits.full(PIECES), fetches=False), 0.6)
    choice = decide(swarm, 0.7, lambda: 0.0)
    assert isinstance(choice, Fetch)
    assert choice.giver == node(1, 1)


def test_who_never_answers_is_waited_for_only_so_long() -> None:
    swarm = alone(1, node(1, 1))
    choice = decide(swarm, MAPS_S, lambda: 0.0)
    assert isinstance(choice, Fetch)
    assert choice.giver == ORIGIN
    assert swarm.mine(MAPS_S) != bits.full(PIECES), "its part is kept for it a little longer"
    assert swarm.mine(JOIN_S + 0.1) == bits.full(PIECES)


def test_a_newcomer_takes_nothing_that_an_owner_who_does_not_know_it_may_be_taking() -> None:
    other = node(1, 1)
    swarm = alone(1, other)
    swarm.heard(other, said_by(), 0.1)
    assert swarm.mine(0.2) == 0
    swarm.heard(other, said_by(counts=swarm.me), 0.3)
    assert 0 < swarm.mine(0.4) < bits.full(PIECES)


def test_an_owner_hands_over_half_of_what_waits_and_does_not_take_it_itself() -> None:
    other = node(1, 1)
    swarm = alone(1, other)
    swarm.heard(other, said_by(fetches=False), 0.1)
    mine = swarm.mine(4.0)
    handed = swarm.hand_over(other, 8, 4.0)
    assert len(handed) == 8
    assert not swarm.mine(4.0) & bits.of(handed)
    assert swarm.hand_over(node(1, 9), 8, 4.0) == (), "a stranger"
    assert swarm.mine(4.0 + CEDED_S) == mine, "it was not begun"
    assert swarm.hand_over(other, 8, 4.0 + CEDED_S) == (), "and it gets no more"


@given(st.integers(0, 1_000), st.floats(0, 1))
def test_the_same_swarm_decides_the_same(seed: int, chance: float) -> None:
    def choice() -> object:
        other = node(seed, 1)
        swarm = alone(seed, other)
        swarm.heard(other, said_by(have=seed, counts=swarm.me), 0.1)
        return decide(swarm, 5.0, lambda: chance)

    assert choice() == choice()


def test_a_piece_without_a_digest_is_nobodys() -> None:
    other = node(1, 1)
    swarm = alone(1, other)
    said = msgspec.structs.replace(said_by(have=bits.full(PIECES), fetches=False), digests={})
    swarm.heard(other, said, 0.1)
    assert swarm.available(0.2) == 0


@given(st.binary(max_size=6), st.binary(max_size=6), st.integers(-1, 2 * PIECES))
def test_a_map_that_makes_no_sense_costs_its_sender_alone(
    have: bytes, fetching: bytes, index: int
) -> None:
    other = node(1, 1)
    swarm = alone(1, other)
    said = msgspec.structs.replace(
        said_by(), have=have, fetching=fetching, digests={index: right(0)}
    )
    swarm.heard(other, said, 0.1)
    if not 0 <= index < PIECES or len(have) not in (0, 5) or len(fetching) not in (0, 5):
        assert swarm.members[other].liar
        assert isinstance(decide(swarm, 5.0, lambda: 0.0), Fetch)
