"""Membership of a few cores with real keys: joining, dying, leaving, and what is not believed."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.mesh.hall import BEGIN_UNIX_S, KEYS, Guest, Hall, draft
from tests.protocol.shapes import messages_of

from helexa.mesh.identity import NodeKey
from helexa.mesh.membership.events import (
    Changed,
    Cleared,
    ClockOff,
    Died,
    Doubled,
    Forgotten,
    Joined,
    Left,
    Rejected,
    State,
    Suspected,
)
from helexa.mesh.membership.heads import pack, short_of
from helexa.mesh.membership.notary import KeyNotary
from helexa.mesh.membership.presets import LAN, LOOPBACK, PRESETS, WAN
from helexa.mesh.operators.revocation import RevocationBook
from helexa.mesh.statements.records import RecordRejected
from helexa.mesh.trust import Trust
from helexa.protocol.gossip import (
    Ack,
    Alive,
    Bucket,
    Digest,
    Leaving,
    News,
    Probe,
    Records,
    Relay,
    Suspicion,
    Want,
)


def raw(guest):
    return bytes.fromhex(guest.id)


def version(holder, target):
    member = holder.core.members[target.id]
    return member.signed.sequence, member.pulse


def suspicion(holder, accuser, target):
    return accuser.notary.seal(Suspicion(raw(accuser), raw(target), *version(holder, target)))


def statements_of(guest, kind):
    return [
        message
        for _, message in guest.sent
        if isinstance(message, News) and any(kind.encode() in blob for blob in message.statements)
    ]


def test_who_meets_one_member_knows_all_and_is_known_to_all():
    guests = Hall(6).introduce_all()
    assert all(one.knows(other) for one in guests for other in guests if one is not other)
    assert {len(guest.core.members) for guest in guests} == {5}
    assert all(guest.id not in guest.core.members for guest in guests)
    assert all(guest.core.present == 6 for guest in guests)


def test_each_newcomer_is_announced_once():
    guests = Hall(5).introduce_all()
    for guest in guests:
        joined = [event.member.node for event in guest.found(Joined)]
        assert sorted(joined) == sorted(other.id for other in guests if other is not guest)


def test_neighbours_are_members_and_no_more_than_the_preset_says():
    hall = Hall(12)
    for guest in hall.introduce_all():
        assert len(guest.core.neighbours) == WAN.chosen
        assert guest.core.neighbours <= set(guest.core.members)


def test_a_changed_record_reaches_everybody_and_is_told_as_a_change():
    hall = Hall(4)
    first, *others = hall.introduce_all()
    first.publish(load=0.5)
    hall.advance(5.0)
    for other in others:
        assert other.core.members[first.id].signed.record.load == 0.5
        assert other.found(Changed)[-1].member.node == first.id


def test_a_node_publishes_no_oftener_than_is_fair_and_the_newest_draft_holds():
    hall = Hall(3)
    first, other, _ = hall.introduce_all()
    for step in range(20):
        first.publish(load=step / 20)
    hall.advance(0.5)
    burst = first.core.own.signed.record.load
    assert burst < 0.5
    hall.advance(60.0)
    assert first.core.own.signed.record.load == 0.95
    assert other.core.members[first.id].signed.record.load == 0.95


def test_a_record_is_signed_anew_long_before_it_expires():
    hall = Hall(2)
    first, other = hall.introduce_all()
    before = first.core.own.signed.record
    hall.advance(WAN.refresh_s * 1.3)
    after = first.core.own.signed.record
    assert after.sequence > before.sequence
    assert after.expires_s > before.expires_s
    assert other.core.members[first.id].signed.sequence == after.sequence


def test_who_falls_silent_is_suspected_and_then_dead_for_everybody():
    hall = Hall(5)
    guests = hall.introduce_all()
    victim = guests[2]
    hall.absent.add(victim.id)
    hall.advance(15.0)
    for guest in guests:
        if guest is not victim:
            assert guest.state_of(victim) is State.DEAD
            assert [event.member.node for event in guest.found(Died)] == [victim.id]
            assert guest.found(Suspected)
            assert victim.id not in guest.core.neighbours
            assert not guest.core.members[victim.id].is_present


def test_of_two_the_survivor_needs_no_other_witness():
    hall = Hall(2)
    one, two = hall.introduce_all()
    hall.absent.add(two.id)
    hall.advance(12.0)
    assert one.state_of(two) is State.DEAD
    assert "this node" in one.found(Died)[0].reason


def test_a_lost_link_is_looked_into_at_once_and_kills_nobody():
    hall = Hall(3)
    one, two, _ = hall.introduce_all()
    out = one.do(one.core.link_down, two.id)
    assert (two.id, Probe) in [(target, type(message)) for target, message in out.sends]
    hall.advance(20.0)
    assert one.state_of(two) is State.ALIVE
    assert not one.found(Died)


def test_the_dead_come_back_by_themselves_when_they_answer_again():
    hall = Hall(4)
    guests = hall.introduce_all()
    hall.absent.add(guests[1].id)
    hall.advance(20.0)
    assert guests[0].state_of(guests[1]) is State.DEAD
    hall.absent.clear()
    hall.advance(40.0)
    assert all(one.knows(other) for one in guests for other in guests if one is not other)
    assert guests[0].core.members[guests[1].id].pulse > 0


def test_a_node_that_slept_blames_nobody():
    hall = Hall(4)
    one, *others = hall.introduce_all()
    hall.absent.add(one.id)
    hall.advance(60.0)
    hall.absent.clear()
    hall.advance(20.0)
    assert not one.found(Suspected)
    assert not one.found(Died)
    assert all(other.knows(one) for other in others)


def test_who_leaves_is_gone_at_once_and_suspected_by_nobody():
    hall = Hall(5)
    first, *others = hall.introduce_all()
    first.do(first.core.leave)
    hall.advance(1.0)
    for other in others:
        assert other.state_of(first) is State.LEFT
        assert [event.member.node for event in other.found(Left)] == [first.id]
        assert not other.found(Suspected)
    assert first.core.wake_s == float("inf")
    assert not first.do(first.core.receive, others[0].id, Probe(nonce=1)).sends


def test_who_left_is_not_brought_back_by_its_old_record_but_by_a_new_one():
    hall = Hall(4)
    first, *others = hall.introduce_all()
    first.do(first.core.leave)
    hall.advance(1.0)
    one = others[0]
    old = one.core.members[first.id].signed
    one.do(one.core.receive, first.id, Records(records=(old.blob,)))
    assert one.state_of(first) is State.LEFT
    again = hall.enter(KEYS[0], instance="b")
    again.do(again.core.link_up, others[1].id)
    hall.advance(8.0)
    assert all(other.state_of(again) is State.ALIVE for other in others)


# --- nobody's word alone


def test_one_accuser_kills_nobody_who_is_silent_to_it_alone():
    """Even when the accused never hears of it and cannot object."""
    hall = Hall(10)
    guests = hall.introduce_all()
    liar, witness, target = guests[:3]
    lie = suspicion(witness, liar, target)
    witness.do(witness.core.receive, liar.id, News(statements=(lie,)))
    assert witness.state_of(target) is State.SUSPECT
    hall.advance(30.0)
    assert witness.state_of(target) is State.ALIVE
    assert not witness.found(Died)
    assert witness.found(Cleared)


def test_an_accused_objects_and_is_believed():
    hall = Hall(5)
    guests = hall.introduce_all()
    accuser, target = guests[:2]
    lie = suspicion(accuser, accuser, target)
    target.do(target.core.receive, accuser.id, News(statements=(lie,)))
    hall.advance(2.0)
    for guest in guests:
        if guest is not target:
            assert guest.core.members[target.id].pulse == 1
            assert guest.state_of(target) is State.ALIVE


def test_an_accusation_of_an_earlier_pulse_is_void():
    hall = Hall(4)
    guests = hall.introduce_all()
    accuser, target, witness = guests[:3]
    lie = suspicion(accuser, accuser, target)
    target.do(target.core.receive, accuser.id, News(statements=(lie,)))
    hall.advance(2.0)
    witness.do(witness.core.receive, accuser.id, News(statements=(lie,)))
    assert witness.state_of(target) is State.ALIVE


def test_a_voice_that_lied_too_often_is_not_heard_any_more():
    hall = Hall(6)
    guests = hall.introduce_all()
    liar, target, witness = guests[:3]
    for _ in range(40):
        lie = suspicion(witness, liar, target)
        for guest in (target, witness):
            guest.do(guest.core.receive, liar.id, News(statements=(lie,)))
        hall.advance(2.5)
    hall.advance(30.0)
    assert witness.rejected("voice") > 5
    assert witness.state_of(target) is State.ALIVE
    # Twelve and what faded in a hundred seconds, of forty.
    assert witness.core.members[target.id].pulse < 20


@pytest.mark.parametrize("who", ["stranger", "target", "forged"])
def test_an_accusation_that_counts_nothing(who):
    hall = Hall(4)
    guests = hall.introduce_all()
    accuser, target, witness = guests[:3]
    stranger = Guest(hall, KEYS[20])
    signer = {"stranger": stranger, "target": target, "forged": stranger}[who]
    named = accuser if who == "forged" else signer
    blob = signer.notary.seal(Suspicion(raw(named), raw(target), *version(witness, target)))
    witness.do(witness.core.receive, accuser.id, News(statements=(blob,)))
    assert witness.state_of(target) is State.ALIVE
    assert witness.rejected("signature" if who == "forged" else "accuser") == 1


def test_nobody_can_say_goodbye_or_alive_for_another():
    hall = Hall(4)
    one, two, three, _ = hall.introduce_all()
    sequence, pulse = version(one, two)
    forged = (
        three.notary.seal(Leaving(raw(two), sequence)),
        three.notary.seal(Alive(raw(two), sequence, pulse + 1)),
    )
    one.do(one.core.receive, three.id, News(statements=forged))
    assert one.rejected("signature") == 2
    assert (one.state_of(two), version(one, two)) == (State.ALIVE, (sequence, pulse))


def test_a_helper_cannot_make_up_that_it_reached_somebody():
    hall = Hall(3)
    one, two, three = hall.introduce_all()
    hall.absent.add(two.id)
    one.sent.clear()
    one.do(one.core.link_down, two.id)
    hall.advance(2.0)
    (relay,) = {m.nonce for to, m in one.sent if isinstance(m, Relay) and m.target == two.id}
    fake = three.notary.seal(Alive(raw(two), 1, 1))
    one.do(one.core.receive, three.id, Ack(nonce=relay, proof=fake))
    one.do(one.core.receive, three.id, Ack(nonce=relay))
    hall.advance(15.0)
    assert one.state_of(two) is State.DEAD


# --- records that are not taken


def test_a_record_that_nobody_asked_for_is_dropped_unless_it_is_the_senders_own():
    hall = Hall(2)
    one, two = hall.introduce_all()
    other = Guest(hall, KEYS[9])
    other.publish()
    blob = other.core.own.signed.blob
    one.do(one.core.receive, two.id, Records(records=(blob,)))
    assert not one.knows(other)
    assert one.rejected("unasked") == 1
    one.do(one.core.receive, other.id, Records(records=(blob,)))
    assert one.knows(other)


def test_a_stale_record_changes_nothing_and_goes_no_further():
    hall = Hall(3)
    one, two, _ = hall.introduce_all()
    old = two.core.own.signed.blob
    two.publish(load=0.7)
    hall.advance(5.0)
    one.sent.clear()
    one.do(one.core.receive, two.id, Records(records=(old,)))
    assert one.rejected("stale") == 1
    assert one.core.members[two.id].signed.record.load == 0.7
    assert not one.sent


def test_a_record_with_another_signature_is_rejected_and_its_node_can_still_join():
    hall = Hall(2)
    one, _ = hall.introduce_all()
    other = Guest(hall, KEYS[9])
    other.publish()
    blob = other.core.own.signed.blob
    forged = bytes([blob[0] ^ 1]) + blob[1:]
    one.do(one.core.receive, other.id, Records(records=(forged,)))
    assert one.rejected("signature") == 1
    one.do(one.core.receive, other.id, Records(records=(blob,)))
    assert one.knows(other)


def test_who_is_denied_is_no_member_and_is_not_asked_for_again():
    hall = Hall(2)
    one, two = hall.introduce_all()
    other = hall.enter(KEYS[9])
    one.trust[other.id] = Trust.DENIED
    other.do(other.core.link_up, one.id)
    other.do(other.core.link_up, two.id)
    hall.advance(20.0)
    assert two.knows(other)
    assert not one.knows(other)
    assert one.rejected("denied") >= 1
    one.sent.clear()
    hall.advance(60.0)
    assert not any(isinstance(message, Want) for _, message in one.sent)


def test_admission_that_changes_is_applied_to_members():
    hall = Hall(3)
    one, two, _ = hall.introduce_all()
    one.trust[two.id] = Trust.DENIED
    one.do(one.core.reconsider)
    assert two.id not in one.core.members
    assert [(event.node, event.reason) for event in one.found(Forgotten)] == [(two.id, "denied")]
    one.trust[two.id] = Trust.KNOWN
    one.do(one.core.reconsider)
    hall.advance(90.0)
    assert one.knows(two)


def test_a_full_directory_takes_no_more_strangers_but_those_it_knows():
    hall = Hall()
    one = hall.enter(KEYS[0], members_max=4)
    strangers = [hall.enter(key) for key in KEYS[1:6]]
    friend = hall.enter(KEYS[7])
    one.trust[friend.id] = Trust.KNOWN
    for other in (*strangers, friend):
        one.do(one.core.receive, other.id, Records(records=(other.core.own.signed.blob,)))
    assert len(one.core.members) == 3
    assert one.knows(friend)
    assert one.rejected("full") == 2
    assert [event.reason for event in one.found(Forgotten)] == ["room"]


def test_a_flood_of_signatures_is_not_paid_for():
    hall = Hall(2)
    one, two = hall.introduce_all()
    target = Guest(hall, KEYS[9])
    target.publish()
    one.do(one.core.receive, target.id, Records(records=(target.core.own.signed.blob,)))
    proven = []
    one.notary.prove = lambda blob, statement: proven.append(blob)
    sequence = one.core.members[target.id].signed.sequence
    for pulse in range(1, 6_000):
        blob = target.notary.seal(Alive(raw(target), sequence, pulse)) if pulse < 2 else None
        blob = blob or bytes(64) + msgspec.msgpack.encode(Alive(raw(target), sequence, pulse))
        one.do(one.core.receive, two.id, News(statements=(blob,)))
    assert len(proven) <= 2_000
    assert one.rejected("flood") >= 3_900


def test_a_draft_that_nobody_would_accept_is_refused_at_once():
    hall = Hall(1)
    (one,) = hall.guests.values()
    with pytest.raises(RecordRejected, match="bad_text"):
        one.publish(name="a\nb")


# --- one key twice, and clocks


def test_another_machine_with_this_key_is_noticed_and_surpassed_without_a_frenzy():
    hall = Hall(3)
    one, two, _ = hall.introduce_all()
    twin = Guest(Hall(), KEYS[0], instance="twin")
    for round_ in range(3):
        hall.advance(10.0)
        twin.hall.now_s = hall.now_s + 1.0
        twin.publish(load=round_ / 10)
        blob = twin.core.own.signed.blob
        head = pack(short_of(one.id), (twin.core.own.sequence, 0))
        one.do(one.core.receive, two.id, News(heads=head))
        one.do(one.core.receive, two.id, Records(records=(blob,)))
    hall.advance(30.0)
    doubled = one.found(Doubled)
    assert {event.instance for event in doubled} == {"twin"}
    assert one.core.own.sequence > twin.core.own.sequence
    assert one.core.own.signed.record.instance == "a"
    assert len(doubled) <= 3


def test_an_accuser_that_claims_a_far_sequence_does_not_move_this_nodes_own():
    """Whoever believed it would have no valid number left for its next record."""
    hall = Hall(3)
    one, two, _ = hall.introduce_all()
    lie = two.notary.seal(Suspicion(raw(two), raw(one), 2**62, 0))
    one.do(one.core.receive, two.id, News(statements=(lie,)))
    one.publish(load=0.3)
    hall.advance(20.0)
    assert one.core.own.sequence < 2**53
    assert two.core.members[one.id].signed.record.load == 0.3


def test_a_draft_that_had_to_wait_and_proves_wrong_breaks_nothing():
    hall = Hall(2)
    one, two = hall.introduce_all()
    for step in range(5):
        one.publish(load=step / 10)
    before = one.core.own.sequence
    one.publish(name="a\nb")
    hall.advance(60.0)
    assert one.core.own.sequence == before
    assert one.rejected("bad_text") == 1
    assert two.knows(one)


def test_a_node_that_starts_again_and_again_is_back_each_time_without_waiting():
    hall = Hall(3)
    _, two, three = hall.introduce_all()
    for number in range(9):
        hall.absent.add(KEYS[0].node_id)
        hall.advance(15.0)
        hall.absent.clear()
        again = hall.enter(KEYS[0], instance=f"run-{number}")
        again.do(again.core.link_up, two.id)
        hall.advance(6.0)
        for other in (two, three):
            assert other.core.members[again.id].signed.record.instance == again.instance
            assert other.state_of(again) is State.ALIVE


def test_a_record_of_an_earlier_run_is_surpassed_and_no_double():
    hall = Hall(2)
    _, two = hall.introduce_all()
    hall.now_s += 5.0
    hall.guests[KEYS[0].node_id].skew_s = 50.0
    hall.guests[KEYS[0].node_id].publish(load=0.1)
    hall.advance(5.0)
    later = two.core.members[KEYS[0].node_id].signed.sequence
    # The clock was set back between the runs.
    again = hall.enter(KEYS[0], instance="b")
    again.do(again.core.link_up, two.id)
    hall.advance(60.0)
    assert again.core.own.sequence > later
    assert two.core.members[again.id].signed.record.instance == "b"
    assert not again.found(Doubled)


@pytest.mark.parametrize("skew_s", [86_400.0, -86_400.0])
def test_a_node_whose_clock_is_a_day_off_is_told_by_how_much(skew_s):
    hall = Hall(4)
    guests = hall.introduce_all()
    late = Guest(hall, KEYS[9])
    late.skew_s = skew_s
    hall.guests[late.id] = late
    late.publish()
    late.do(late.core.link_up, guests[0].id)
    hall.advance(30.0)
    told = late.found(ClockOff)
    assert told
    assert abs(told[0].seconds - skew_s) < 60
    assert not any(guest.found(ClockOff) for guest in guests)


def test_a_clock_that_jumps_a_day_ahead_empties_no_directory():
    hall = Hall(6)
    one, *others = hall.introduce_all()
    one.skew_s = 86_400.0
    hall.advance(130.0)
    assert all(one.knows(other) for other in others)
    assert one.found(ClockOff)


def test_who_stays_away_until_its_record_expires_is_forgotten():
    hall = Hall(4)
    one, two, *_ = hall.introduce_all()
    hall.absent.add(two.id)
    hall.advance(30.0)
    assert one.state_of(two) is State.DEAD
    hall.absent |= set(hall.guests) - {one.id}
    hall.now_s += 2 * 86_400.0
    hall.advance(200.0)
    assert two.id not in one.core.members


# --- whatever comes

LEGAL = st.one_of(
    [messages_of(kind) for kind in (Ack, Bucket, Digest, News, Probe, Records, Relay, Want)]
)
IDS = st.sampled_from([key.node_id for key in KEYS[:4]])


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(IDS, LEGAL), max_size=8))
def test_no_message_of_anybody_breaks_a_node(letters):
    hall = Hall(3)
    one, two, _ = hall.introduce_all()
    for sender, message in letters:
        one.do(one.core.receive, sender, message)
        hall.advance(0.5)
    hall.advance(10.0)
    assert one.knows(two)
    assert not one.found(Died)


def test_rejections_name_reason_and_sender():
    hall = Hall(2)
    one, two = hall.introduce_all()
    one.do(one.core.receive, two.id, Records(records=(b"rubbish",)))
    assert one.found(Rejected) == [Rejected("malformed", two.id)]


@pytest.mark.parametrize("preset", [LAN, LOOPBACK])
def test_presets_for_nearer_networks_notice_a_death_sooner(preset):
    hall = Hall(5, preset=preset)
    guests = hall.introduce_all()
    hall.absent.add(guests[3].id)
    hall.advance(7.0)
    assert guests[0].state_of(guests[3]) is State.DEAD


def test_presets_are_found_by_the_word_that_the_settings_use():
    assert list(PRESETS) == ["wan", "lan", "loopback"]


def test_remembered_members_are_there_before_anybody_is_met():
    hall = Hall(4)
    guests = hall.introduce_all()
    entries = [guest.core.own for guest in guests[1:]]
    again = Guest(hall, KEYS[0], instance="b")
    hall.guests[again.id] = again
    again.do(again.core.recall, entries)
    assert len(again.core.members) == 3
    hall.now_s += 1.0
    again.publish()
    hall.advance(8.0)
    assert all(other.core.members[again.id].signed.record.instance == "b" for other in guests[1:])


def test_a_node_without_members_knocks_again_where_it_began():
    """What was said at the door may be lost, and nobody else is there to ask."""
    hall = Hall(2)
    one, two = hall.guests.values()
    hall.absent.add(one.id)
    two.do(two.core.link_up, one.id)
    hall.advance(5.0)
    assert not two.core.members
    hall.absent.clear()
    hall.advance(40.0)
    assert two.knows(one)


def test_a_notary_with_other_keys_is_not_believed():
    key, other = NodeKey.from_secret(b"k" * 32), KEYS[0]
    notary = KeyNotary(key.sign, RevocationBook())
    entry = notary.sign(
        msgspec.structs.replace(
            draft(), node=key.node_id, sequence=1, issued_s=int(BEGIN_UNIX_S), expires_s=2**31
        )
    )
    assert notary.peek(entry.signed.blob) == (key.node_id, 1)
    liar = KeyNotary(other.sign, RevocationBook())
    forged = liar.sign(msgspec.structs.replace(entry.signed.record, name="x"))
    with pytest.raises(RecordRejected, match="signature"):
        notary.open(forged.signed.blob, BEGIN_UNIX_S)
