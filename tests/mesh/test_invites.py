"""Invites: to one cortex, for a while, so often, and altered by nobody."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helexa.mesh.admission.invites import (
    EXPIRES_IN_S_MAX,
    INVITE_BYTES_MAX,
    USES_MAX,
    InviteRefused,
    check_invite,
    issue_invite,
)
from helexa.mesh.identity import NodeKey
from helexa.mesh.operators.operator import OperatorKey, succeed
from helexa.mesh.statements.sealed import seal
from helexa.mesh.ticket import TICKET_CHARS_MAX, Ticket
from helexa.mesh.trust import Trust
from helexa.protocol.messages import Role
from helexa.protocol.records import Invite

NOW = 1_800_000_000
KEY, OTHER = NodeKey.from_secret(b"k" * 32), NodeKey.from_secret(b"o" * 32)


def issued(**changes):
    return issue_invite(KEY.sign, KEY.node_id, **{"now_s": NOW, "expires_in_s": 3_600} | changes)


def sealed(key=KEY, **changes):
    """An invite that `issue_invite` would not make, signed all the same."""
    fields = {"issuer": KEY.node_id, "serial": "1", "expires_s": NOW + 60}
    return seal(key.sign, Invite(**fields | changes))


def checked(blob, now_s=NOW, role=Role.CORTEX, issuer=KEY.node_id):
    return check_invite(blob, issuer, now_s, role)


@pytest.mark.parametrize("role", [None, Role.CORTEX, Role.NEURON])
@pytest.mark.parametrize("trust", [Trust.KNOWN, Trust.TRUSTED])
def test_an_invite_says_what_it_was_issued_for(role, trust):
    blob = issued(uses=3, role=role, trust=trust)
    for asking in Role:
        if role in (None, asking):
            invite = checked(blob, role=asking)
            assert (invite.uses, invite.trust, invite.expires_s) == (3, trust.word, NOW + 3_600)
        else:
            with pytest.raises(InviteRefused, match=f"not for a {asking.value}"):
                checked(blob, role=asking)


def test_two_invites_have_two_serials():
    assert checked(issued()).serial != checked(issued()).serial


def test_an_invite_holds_until_the_second_it_expires():
    blob = issued()
    assert checked(blob, now_s=NOW + 3_599)
    with pytest.raises(InviteRefused, match="has expired; ask for another"):
        checked(blob, now_s=NOW + 3_600)


def test_an_invite_to_another_cortex_is_worth_nothing_here():
    with pytest.raises(InviteRefused, match=f"to another cortex, {KEY.node_id[:10]}"):
        checked(issued(), issuer=OTHER.node_id)


def test_nobody_invites_in_anothers_name():
    with pytest.raises(InviteRefused, match="not signed by"):
        checked(sealed(OTHER))


@given(st.data())
def test_an_invite_with_any_bit_flipped_is_refused(data):
    blob = bytearray(issued())
    bit = data.draw(st.integers(0, len(blob) * 8 - 1))
    blob[bit // 8] ^= 1 << bit % 8
    with pytest.raises(InviteRefused):
        checked(bytes(blob))


@given(st.binary(max_size=INVITE_BYTES_MAX + 10))
def test_any_bytes_are_refused(blob):
    with pytest.raises(InviteRefused):
        checked(blob)


def test_another_statement_is_no_invite():
    operator = OperatorKey(KEY)
    with pytest.raises(InviteRefused):
        checked(succeed(operator, OperatorKey(OTHER), NOW))


@pytest.mark.parametrize(
    "changes",
    [
        {"uses": 0},
        {"uses": -1},
        {"uses": USES_MAX + 1},
        {"serial": ""},
        {"serial": "s" * 33},
        {"trust": "own"},
        {"trust": "denied"},
        {"trust": "best friend"},
        {"role": "portal"},
        {"expires_s": NOW + EXPIRES_IN_S_MAX * 2},
        {"expires_s": 2**64 - 1},
    ],
)
def test_an_invite_of_bad_form_is_refused_although_its_cortex_signed_it(changes):
    with pytest.raises(InviteRefused):
        checked(sealed(**changes))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"uses": 0}, "0 uses; accepted are 1..10000"),
        ({"uses": USES_MAX + 1}, "10001 uses"),
        ({"expires_in_s": 0}, "valid for 0 s; accepted are 1.."),
        ({"expires_in_s": EXPIRES_IN_S_MAX + 1}, "a year"),
        ({"trust": Trust.OWN}, "known or trusted, not own"),
        ({"trust": Trust.DENIED}, "known or trusted, not denied"),
    ],
)
def test_an_invite_that_would_be_refused_is_not_issued(changes, reason):
    with pytest.raises(ValueError, match=reason):
        issued(**changes)


def test_a_ticket_carries_an_invite():
    addresses = {"tls": tuple(f"192.0.2.{n}:44333" for n in range(8))}
    ticket = Ticket(node=KEY.node_id, addresses=addresses, invite=issued(uses=USES_MAX))
    word = str(ticket)
    assert len(word) < TICKET_CHARS_MAX / 4
    assert checked(Ticket.parse(word).invite).uses == USES_MAX
