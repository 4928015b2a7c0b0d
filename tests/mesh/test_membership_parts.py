"""The parts of membership alone: heads and sums, the view, allowances, timers, the directory."""

from __future__ import annotations

import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helexa.mesh.membership.directory import Directory, Gone
from helexa.mesh.membership.events import State
from helexa.mesh.membership.heads import Sums, pack, short_of, shorts_in, unpack
from helexa.mesh.membership.limits import Allowance, Recent
from helexa.mesh.membership.notary import read
from helexa.mesh.membership.timers import Timers
from helexa.mesh.membership.view import BEST_MAX, View
from helexa.mesh.statements.sealed import SealBroken
from helexa.mesh.trust import Trust
from helexa.protocol.gossip import BUCKET_BYTES, BUCKETS, Alive, Leaving, Suspicion
from helexa.protocol.ids import OperatorId
from helexa.testing.simulation.identities import Register, SharedNotary, new_id, usual_draft

HEADS = st.lists(
    st.tuples(st.binary(min_size=8, max_size=8), st.integers(0, 2**53), st.integers(0, 65_535)),
    max_size=20,
    unique_by=lambda head: head[0],
)


def entries(count, *, operators=None, seed=1):
    randomness = random.Random(seed)
    register = Register()
    owners = [OperatorId(new_id(randomness)) for _ in range(operators or count)]
    made = []
    for index in range(count):
        node = new_id(randomness)
        draft = usual_draft(node, owners[index % len(owners)], "a", randomness)
        record = msgspec.structs.replace(draft, sequence=5, issued_s=1, expires_s=2)
        made.append(SharedNotary(node, register).sign(record))
    return made


def met(view, some):
    for entry in some:
        view.add(entry)
        view.meet(entry.short)


# --- heads and sums


@given(HEADS, st.binary(max_size=17))
def test_heads_read_as_they_were_packed_and_a_remainder_is_left_out(heads, rest):
    packed = b"".join(pack(short, (sequence, pulse)) for short, sequence, pulse in heads)
    assert [(h.short, *h.version) for h in unpack(packed + rest)] == heads


@given(st.binary(max_size=60))
def test_any_bytes_are_read_as_whole_shorts(data):
    assert b"".join(shorts_in(data)) == data[: len(data) // 8 * 8]


@given(HEADS, HEADS)
def test_sums_differ_where_heads_do_and_nowhere_else(here, there):
    one, two = Sums(), Sums()
    for head in here:
        one.toggle(pack(head[0], head[1:]))
    for head in there:
        two.toggle(pack(head[0], head[1:]))
    buckets = {head[0][0] for head in set(here) ^ set(there)}
    assert set(one.differing(two.packed())) == buckets


@given(st.binary(max_size=BUCKETS * BUCKET_BYTES).filter(lambda data: len(data) != 1_024))
def test_sums_of_another_length_say_nothing(data):
    assert Sums().differing(data) == []


# --- the view


def test_a_view_holds_nobody_who_never_spoke():
    view = View(b"salt", 4, 2)
    for entry in entries(50):
        view.add(entry)
    assert view.chosen == ()
    assert len(view.trials) == 4


@given(st.permutations(range(40)))
def test_a_view_does_not_depend_on_the_order_in_which_members_came(order):
    everybody = entries(40)
    view, other = View(b"salt", 4, 2), View(b"salt", 4, 2)
    met(view, everybody)
    met(other, [everybody[index] for index in order])
    assert [entry.node for entry in view.chosen] == [entry.node for entry in other.chosen]


def test_another_salt_picks_others():
    everybody = entries(60)
    picks = set()
    for salt in (b"a", b"b", b"c"):
        view = View(salt, 4, 2)
        met(view, everybody)
        picks.add(tuple(entry.node for entry in view.chosen))
    assert len(picks) == 3


def test_one_operator_gets_half_of_a_view_while_there_are_others():
    big, small = entries(60, operators=1), entries(6, seed=2)
    view = View(b"salt", 4, 2)
    met(view, big[:20] + small)
    owner = big[0].signed.operator
    assert sum(entry.signed.operator == owner for entry in view.chosen) <= 2
    assert len(view.chosen) == 4


def test_one_operator_alone_fills_a_view():
    view = View(b"salt", 4, 2)
    met(view, entries(10, operators=1))
    assert len(view.chosen) == 4


def test_who_goes_is_replaced_by_the_next_best_as_often_as_it_takes():
    everybody = entries(200)
    view = View(b"salt", 4, 2)
    met(view, everybody)
    left = dict.fromkeys(everybody)
    while len(left) > 4:
        gone = view.chosen[0]
        del left[gone]
        assert view.remove(gone.short, left)
        for entry in left:
            if entry.node in view.trials:
                view.meet(entry.short)
        fresh = View(b"salt", 4, 2)
        met(fresh, left)
        assert {entry.node for entry in view.chosen} == {entry.node for entry in fresh.chosen}


def test_a_crowd_that_never_answers_pushes_nobody_out():
    living, crowd = entries(10), entries(500, seed=3)
    view = View(b"salt", 4, 2)
    met(view, living)
    before = [entry.node for entry in view.chosen]
    for entry in crowd:
        assert not view.add(entry)
    assert [entry.node for entry in view.chosen] == before
    assert len(view.trials) == 4


def test_a_view_keeps_a_bounded_number_in_order():
    view = View(b"salt", 4, 2)
    met(view, entries(300))
    assert len(view._met) <= BEST_MAX
    assert len(view._unmet) <= BEST_MAX


# --- allowances, timers


@given(st.lists(st.floats(0, 5), min_size=1, max_size=200))
def test_an_allowance_never_gives_more_than_its_burst_and_its_rate(waits):
    allowance, now_s, given_out = Allowance(5, 2, 0.0), 0.0, 0
    for wait_s in waits:
        now_s += wait_s
        given_out += allowance.take(now_s)
    assert given_out <= 5 + 2 * now_s + 1e-6


def test_an_allowance_that_was_waited_for_is_there():
    allowance, now_s = Allowance(1, 1 / 7, 0.0), 0.0
    for _ in range(100):
        assert allowance.take(now_s)
        now_s += allowance.wait_s(now_s)


def test_a_lower_pace_counts_for_the_time_since_as_well():
    allowance = Allowance(3, 100, 0.0)
    for _ in range(3):
        assert allowance.take(0.0)
    allowance.repace(0.01, 50.0)
    assert not allowance.take(50.0)


def test_the_most_recent_are_kept():
    recent = Recent(list, 2)
    for key in ("a", "b", "a", "c"):
        recent.of(key)
    assert recent.get("b") is None
    assert recent.get("a") == []
    assert len(recent) == 2


def test_timers_run_in_order_and_what_they_set_waits():
    timers, ran = Timers(), []
    timers.at(2.0, lambda: ran.append("second"))
    timers.at(1.0, lambda: (ran.append("first"), timers.at(1.0, lambda: ran.append("third"))))
    timers.run(0.5)
    assert ran == []
    timers.run(2.0)
    assert ran == ["first", "second"]
    assert timers.next_s == 1.0
    timers.run(2.0)
    assert ran == ["first", "second", "third"]
    assert timers.next_s == float("inf")


# --- the directory


@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from("pobd")), max_size=40))
def test_sums_always_are_those_of_everybody_present(steps):
    everybody = entries(10)
    directory = Directory(100)
    for index, step in steps:
        entry = everybody[index]
        match step:
            case "p":
                directory.put(entry, Trust.STRANGER)
            case "o" if entry.short in directory.entries:
                directory.object(entry.short, directory.version(entry.short)[1] + 1, b"x")
            case "b" if entry.short in directory.entries:
                directory.bury(entry.short, Gone(State.DEAD, 0.0, ()))
            case "d" if entry.short in directory.entries:
                directory.drop(entry.short)
    fresh = Sums()
    heads = directory.heads_in(frozenset(range(BUCKETS)))
    for head in heads.values():
        fresh.toggle(head)
    assert directory.sums.packed() == fresh.packed()
    assert directory.present == len(heads)


def test_somebody_with_the_same_short_id_is_not_somebody():
    (entry,) = entries(1)
    directory = Directory(10)
    directory.put(entry, Trust.STRANGER)
    twin = entry.node[:16] + "0" * 48
    assert directory.find(twin) is None
    assert directory.find(entry.node) is entry
    assert directory.find("no id") is None


# --- statements


@pytest.mark.parametrize(
    "said",
    [
        Suspicion(b"a" * 32, b"b" * 32, 1, 2),
        Alive(b"a" * 32, 1, 2),
        Leaving(b"a" * 32, 1),
    ],
)
def test_a_statement_reads_as_it_was_said_and_is_short(said):
    blob = bytes(64) + msgspec.msgpack.encode(said)
    assert read(blob) == said
    assert len(blob) < 170


@given(st.binary(max_size=300))
def test_any_bytes_are_a_statement_or_broken(data):
    try:
        statement = read(data)
    except SealBroken:
        return
    assert isinstance(statement, Suspicion | Alive | Leaving)


def test_a_short_is_the_beginning_of_the_id():
    assert short_of("ab" * 32) == b"\xab" * 8
