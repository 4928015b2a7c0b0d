"""The small parts of the exchange: sets of pieces, the tree, owners, beliefs; all pure."""

from __future__ import annotations

import hashlib
import random
import struct
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.neuron.supplies import noise

from helexa.neuron.exchange import bits
from helexa.neuron.exchange.belief import Beliefs
from helexa.neuron.exchange.board import Boards
from helexa.neuron.exchange.circles import MODELS_MAX, Circles
from helexa.neuron.exchange.ownership import STRIPES_MAX, owned
from helexa.neuron.exchange.tree import tree
from helexa.neuron.models.supply.disk_pieces import DiskPieces
from helexa.neuron.models.supply.journal import Heading
from helexa.neuron.models.supply.piece import ORIGIN, PIECE_BYTES, Layout, content_key
from helexa.protocol.ids import ModelId, NodeId
from helexa.protocol.messages import PieceHolder

pytestmark = pytest.mark.anyio

KEY = content_key("a" * 64)
A, B, C = (NodeId(one * 64) for one in "abc")
W = ModelId("w")


def right(index: int) -> bytes:
    return hashlib.sha256(b"right %d" % index).digest()


def wrong(index: int) -> bytes:
    return hashlib.sha256(b"wrong %d" % index).digest()


# --- sets


@given(st.integers(1, 300).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.integers(0, n - 1)))))
def test_a_set_of_pieces_survives_the_wire(case: tuple[int, set[int]]) -> None:
    count, pieces = case
    made = bits.of(pieces)
    assert bits.from_bytes(bits.to_bytes(made, count), count) == made
    assert list(bits.each(made)) == sorted(pieces)


def test_the_first_piece_is_the_highest_bit_of_the_first_byte() -> None:
    assert bits.to_bytes(bits.of({0, 9}), 10) == bytes([0x80, 0x40])


@given(st.binary(max_size=8), st.integers(0, 40))
def test_bytes_that_are_no_set_of_so_many_pieces_are_refused(data: bytes, count: int) -> None:
    try:
        found = bits.from_bytes(data, count)
    except ValueError:
        return
    assert bits.to_bytes(found, count) == data


@given(st.sets(st.integers(0, 200), min_size=1), st.floats(0, 1))
def test_some_piece_of_a_set_is_one_of_it(pieces: set[int], chance: float) -> None:
    assert bits.some(bits.of(pieces), lambda: chance) in pieces


# --- the tree


def test_the_tree_is_what_its_definition_says() -> None:
    layout = Layout(key=KEY, size=PIECE_BYTES + 5)
    said = b"helexa pieces 1\n" + struct.pack(">QQ", layout.size, PIECE_BYTES) + right(0) + right(1)
    assert tree(layout, [right(0), right(1)]) == hashlib.sha256(said).digest()


@given(st.permutations(range(6)))
def test_pieces_in_another_order_are_another_tree(order: list[int]) -> None:
    layout = Layout(key=KEY, size=6 * PIECE_BYTES)
    same = order == list(range(6))
    assert (tree(layout, map(right, order)) == tree(layout, map(right, range(6)))) is same


# --- owners


def nodes(count: int) -> frozenset[NodeId]:
    return frozenset(NodeId(hashlib.sha256(b"%d" % at).hexdigest()) for at in range(count))


@given(st.integers(1, 12), st.integers(0, 100))
def test_every_piece_has_exactly_one_owner(members: int, count: int) -> None:
    found = owned(KEY, count, nodes(members))
    together = 0
    for share in found.values():
        assert not together & share
        together |= share
    assert together == bits.full(count)


@given(st.integers(2, 10))
def test_when_a_member_leaves_only_its_pieces_change_hands(members: int) -> None:
    before = nodes(members)
    leaving = min(before)
    old, new = owned(KEY, 60, before), owned(KEY, 60, before - {leaving})
    for node in before - {leaving}:
        assert old[node] & ~new[node] == 0
        assert (new[node] & ~old[node]) & ~old[leaving] == 0


def test_shares_are_about_even() -> None:
    shares = [one.bit_count() for one in owned(KEY, 2_000, nodes(4)).values()]
    assert max(shares) < 1.2 * min(shares)


def test_pieces_of_a_large_file_are_owned_by_the_stripe() -> None:
    found = owned(KEY, 32_768, nodes(3))
    share = found[min(found)]
    width = 32_768 // STRIPES_MAX
    stripes = {index // width for index in bits.each(share)}
    assert share.bit_count() == len(stripes) * width


def test_a_file_that_comes_only_in_order_has_one_owner() -> None:
    assert max(owned(KEY, 50, nodes(4), as_one=True).values()) == bits.full(50)


# --- beliefs


def said(pieces: Iterable[int], by: object = right) -> dict[int, bytes]:
    return {index: by(index) for index in pieces}  # type: ignore[operator]


def test_what_one_attests_is_expected() -> None:
    beliefs = Beliefs(4)
    assert beliefs.hear(A, said([1]), 0b10)
    assert beliefs.expected(1) == right(1)
    assert beliefs.expected(0) is None


def test_where_attestations_differ_nothing_is_believed_until_it_is_proven() -> None:
    beliefs = Beliefs(2)
    beliefs.hear(A, said([0]), 1)
    beliefs.hear(B, said([0], wrong), 1)
    assert beliefs.expected(0) is None
    assert beliefs.unsettled == 1
    assert beliefs.prove(0, right(0)) == (B,)
    assert beliefs.expected(0) == right(0)
    assert beliefs.unsettled == 0


def test_an_attestation_beats_what_is_only_passed_on() -> None:
    beliefs = Beliefs(1)
    beliefs.hear(B, said([0], wrong), 0)
    beliefs.hear(C, said([0], wrong), 0)
    beliefs.hear(A, said([0]), 1)
    assert beliefs.expected(0) == right(0)
    assert beliefs.prove(0, right(0)) == (), "who passes on is a victim"


def test_a_neuron_of_the_same_operator_is_believed_before_strangers() -> None:
    beliefs = Beliefs(1)
    beliefs.hear(B, said([0], wrong), 1)
    beliefs.hear(C, said([0], wrong), 1)
    beliefs.hear(A, said([0]), 1, is_kin=True)
    assert beliefs.expected(0) == right(0)


def test_who_attests_what_is_proven_wrong_lies() -> None:
    beliefs = Beliefs(3)
    beliefs.prove(2, right(2))
    assert beliefs.hear(A, said([0, 2]), 0b101)
    assert beliefs.hear(C, said([2], wrong), 0), "it only passes it on"
    assert not beliefs.hear(B, said([0, 2], wrong), 0b101)
    assert not beliefs.hear(C, {}, 0b100), "now it attests it"


def test_without_an_origin_the_larger_camp_is_believed() -> None:
    beliefs = Beliefs(1, guesses=True)
    beliefs.hear(A, said([0], wrong), 1)
    beliefs.hear(B, said([0]), 1)
    beliefs.hear(C, said([0]), 1)
    assert beliefs.expected(0) == right(0)
    assert dict(beliefs.disputed()) == {0: right(0)}


def test_a_liar_that_is_forgotten_leaves_no_dispute() -> None:
    beliefs = Beliefs(8)
    beliefs.hear(A, said(range(8)), 0xFF)
    beliefs.hear(B, said(range(8), wrong), 0xFF)
    assert beliefs.unsettled == 0xFF
    beliefs.forget(B)
    assert beliefs.unsettled == 0
    assert beliefs.expected(5) == right(5)


@given(st.integers(0, 2**32))
def test_beliefs_do_not_depend_on_the_order_in_which_they_are_heard(seed: int) -> None:
    chance = random.Random(seed)
    words = [
        (node, said([0], chance.choice([right, wrong])), chance.randrange(2)) for node in (A, B, C)
    ]
    found = set()
    for _ in range(4):
        chance.shuffle(words)
        beliefs = Beliefs(1)
        for node, digests, first_hand in words:
            beliefs.hear(node, digests, first_hand)
        attested = {digests[0] for _, digests, first_hand in words if first_hand}
        if attested or len({digests[0] for _, digests, _ in words}) == 1:
            found.add(beliefs.expected(0))
    assert len(found) <= 1


# --- circles


def holders(*found: NodeId) -> tuple[PieceHolder, ...]:
    return tuple(PieceHolder(node=one, ticket="") for one in found)


def test_peers_of_a_pull_give_and_take() -> None:
    circles = Circles()
    circles.share(W, holders(A, B))
    assert set(circles.sources(W)) == {A, B}
    assert circles.models_for(A) == [W]
    assert not circles.admits(C)


def test_those_that_may_take_are_the_last_that_were_named_and_the_sources_stay() -> None:
    circles = Circles()
    circles.share(W, holders(A, B))
    circles.give(W, holders(C))
    assert circles.admits(C)
    assert not circles.admits(A)
    assert set(circles.sources(W)) == {A, B, C}
    circles.give(W, ())
    assert not circles.admits(C)


def test_circles_are_bounded() -> None:
    circles = Circles()
    for number in range(MODELS_MAX + 5):
        circles.give(ModelId(f"m{number}"), holders(A))
    assert len(circles.models_for(A)) == MODELS_MAX


# --- boards


async def test_a_board_says_to_each_what_is_new_to_him(tmp_path: Path) -> None:
    data = noise(3)
    store = await DiskPieces.open_partial(
        tmp_path / "w.part",
        tmp_path / "w.pieces",
        Heading(key=KEY, size=len(data), model=W, name="w.gguf"),
    )
    pieces = [data[at * PIECE_BYTES : (at + 1) * PIECE_BYTES] for at in range(3)]
    await store.write(0, pieces[0], ORIGIN)
    with Boards() as boards:
        board = boards.of(store)
        first = board.said(0, 0, 0.0)
        assert set(first.digests) == {0}
        assert bits.from_bytes(first.first_hand, 3) == 0b001
        await store.write(2, pieces[2], "a" * 64)
        await board.newer(first.epoch, first.version, wait_s=60)
        second = board.said(first.epoch, first.version, 0.0)
        assert second.digests == {2: hashlib.sha256(pieces[2]).digest()}
        assert bits.from_bytes(second.have, 3) == 0b101
        assert bits.from_bytes(second.first_hand, 3) == 0b001
        assert set(board.said(first.epoch + 1, second.version, 0.0).digests) == {0, 2}
        await store.drop(0)
        third = board.said(second.epoch, second.version, 0.0)
        assert bits.from_bytes(third.have, 3) == 0b100
        assert third.digests == {}
        assert not third.verified


async def test_a_board_of_another_store_begins_anew(tmp_path: Path) -> None:
    stores = [
        await DiskPieces.open_partial(
            tmp_path / f"{at}.part",
            tmp_path / f"{at}.pieces",
            Heading(key=KEY, size=5, model=W, name="w.gguf"),
        )
        for at in range(2)
    ]
    with Boards() as boards:
        first = boards.of(stores[0])
        assert boards.of(stores[0]) is first
        assert boards.of(stores[1]).said(0, 0, 0.0).epoch != first.said(0, 0, 0.0).epoch
