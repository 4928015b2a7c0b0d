"""Who comes in at the door, by what a link proved, and what those are told who do not."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from helexa.cortex.orchestrator import door as module
from helexa.cortex.orchestrator.door import DENIED, PENDING, Door, TurnedAway
from helexa.mesh.admission.gatekeeper import Gatekeeper
from helexa.mesh.admission.invites import issue_invite
from helexa.mesh.admission.rules import Rules
from helexa.mesh.identity import NodeKey
from helexa.mesh.operators.operator import OperatorKey, certify
from helexa.mesh.operators.revocation import RevocationBook, revoke
from helexa.mesh.sessions.handshake import CloseCode
from helexa.mesh.trust import Trust
from helexa.protocol.messages import Hello, Role
from helexa.util.logs import every

NOW = 1_800_000_000
DAY = 86_400
NEAR, FAR = "127.0.0.1:5", "203.0.113.9:5"
OWN, GUEST, OPERATOR = NodeKey.generate(), NodeKey.generate(), OperatorKey.generate()
NODE = GUEST.node_id


class Clock:
    now_s = float(NOW)

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def book():
    return RevocationBook()


@pytest.fixture
def doors(tmp_path, clock, book):
    def opened(*, admission="open", neurons="lan", **lists):
        rules = Rules.of(admission=admission, neurons=neurons, **lists)
        gatekeeper = Gatekeeper(tmp_path / "admission.json", rules, OWN.node_id, clock)
        return Door(gatekeeper, book, OWN.node_id, unix=clock)

    return opened


def session(role=Role.CORTEX, *, address=FAR, name="", **hello):
    said = Hello(role=role, lowest=1, highest=1, name=name, **hello)
    return SimpleNamespace(
        peer=NODE, hello=said, link=SimpleNamespace(remote_address=address), ended=None
    )


def certificate(node=NODE, roles=(Role.CORTEX,), issued_s=NOW - DAY, days=30, **more):
    return certify(OPERATOR, node, roles, now_s=issued_s, days=days, **more)


def invite(issuer=OWN, *, issued_s=NOW, expires_in_s=100, **more):
    return issue_invite(
        issuer.sign, issuer.node_id, now_s=issued_s, expires_in_s=expires_in_s, **more
    )


def turned_away(door, who):
    with pytest.raises(TurnedAway) as away:
        door.let_in(who)
    return away.value


# --- whose node it is


def test_a_node_without_a_certificate_is_its_own_operator(doors):
    guest = doors().let_in(session(name="ben"))
    assert guest.standing.operator == guest.standing.node == NODE
    assert (guest.standing.trust, guest.standing.name) == (Trust.STRANGER, "ben")
    assert not guest.near


def test_a_certificate_says_whose_node_it_is_where_it_stands_and_its_name(doors):
    blob = certificate(region="eu-west", name="acme")
    guest = doors(trust=(OPERATOR.operator_id,)).let_in(session(certificate=blob))
    standing = guest.standing
    assert standing.operator == OPERATOR.operator_id
    assert (standing.trust, standing.region, standing.name) == (Trust.TRUSTED, "eu-west", "acme")


@pytest.mark.parametrize(
    ("blob", "why"),
    [
        (certificate(NodeKey.generate().node_id), "for the node"),
        (certificate(issued_s=NOW - 100 * DAY), "expired"),
        (certificate(issued_s=NOW + 10 * DAY), "not valid before"),
        (certificate(roles=(Role.NEURON,)), "not for a cortex"),
        (certificate()[:-4], "broken"),
        (b"x" * 300, "broken"),
    ],
    ids=["another node's", "expired", "of the future", "for another role", "cut", "garbage"],
)
def test_a_certificate_that_proves_nothing_keeps_its_bearer_out(doors, caplog, blob, why):
    """Rather than make it its own operator: it would be a stranger to its own fleet."""
    module_seldom = module._seldom
    module._seldom = every(0)
    try:
        away = turned_away(doors(), session(certificate=blob))
    finally:
        module._seldom = module_seldom
    assert (away.code, away.told) == (CloseCode.DENIED, DENIED)
    if why != "not valid before":
        assert any(why in record.why for record in caplog.records if record.msg == "turned_away")


def test_a_revoked_node_is_kept_out_and_shown_out(doors, book):
    door, who = doors(), session(certificate=certificate())
    guest = door.let_in(who)
    assert door.look_again(who, guest) is not None
    book.take(revoke(OPERATOR, [NODE], version=1, now_s=NOW))
    assert door.look_again(who, guest) is None
    assert turned_away(door, who).code == CloseCode.DENIED


def test_a_certificate_that_expires_meanwhile_ends_the_stay(doors, clock):
    door, who = doors(), session(certificate=certificate(days=2))
    guest = door.let_in(who)
    clock.now_s += 3 * DAY
    assert door.look_again(who, guest) is None


# --- what the rules make of it


@pytest.mark.parametrize(
    ("admission", "code", "told"),
    [
        ("approve", CloseCode.PENDING, PENDING),
        ("invite", CloseCode.DENIED, DENIED),
        ("closed", CloseCode.DENIED, DENIED),
    ],
)
def test_a_stranger_is_told_that_it_was_denied_or_has_to_wait_and_nothing_else(
    doors, admission, code, told
):
    door = doors(admission=admission)
    away = turned_away(door, session(name="ben"))
    assert (away.code, away.told, str(away)) == (code, told, told)
    waiting = [row.node for row in door.gatekeeper.pending()]
    assert waiting == ([NODE] if code == CloseCode.PENDING else [])


def test_denied_by_a_list_sounds_the_same_as_denied_by_the_mode(doors):
    listed = turned_away(doors(deny=(NODE,)), session())
    closed = turned_away(doors(admission="closed"), session())
    assert (listed.code, listed.told) == (closed.code, closed.told)


@pytest.mark.parametrize(
    ("address", "let_in"),
    [(NEAR, True), ("[::1]:9", True), (FAR, False), ("https://relay.example/", False), ("", False)],
)
def test_neurons_of_this_host_come_in_by_themselves_and_others_wait(doors, address, let_in):
    door, who = doors(), session(Role.NEURON, address=address)
    if let_in:
        guest = door.let_in(who)
        assert guest.near
        assert guest.standing.trust is Trust.KNOWN
        # It stays near, though nobody looks at its address again.
        assert door.look_again(who, guest) == guest
    else:
        assert turned_away(door, who).code == CloseCode.PENDING


def test_near_means_nothing_for_another_cortex(doors):
    assert turned_away(doors(admission="approve"), session(address=NEAR)).code == CloseCode.PENDING


def test_one_that_was_decided_about_is_looked_at_again_as_it_stands_now(doors):
    door, who = doors(), session(name="ben")
    guest = door.let_in(who)
    door.gatekeeper.trust(NODE)
    trusted = door.look_again(who, guest)
    assert (trusted.standing.trust, trusted.standing.name) == (Trust.TRUSTED, "ben")
    door.gatekeeper.deny(NODE)
    assert door.look_again(who, trusted) is None


def test_a_name_that_would_rewrite_a_terminal_is_made_plain(doors):
    guest = doors().let_in(session(name="\x1b[2Jevil\n" + "x" * 1_000))
    assert guest.standing.name.isprintable()
    assert len(guest.standing.name) < 200


# --- invites


def test_an_invite_lets_in_once_and_the_guest_stays(doors, clock):
    door, who = doors(admission="invite"), session(invite=invite())
    assert door.let_in(who).standing.trust is Trust.KNOWN
    clock.now_s += 1_000
    # It comes back without the invite, which has expired since.
    assert door.let_in(session()).standing.trust is Trust.KNOWN


@pytest.mark.parametrize(
    ("blob", "why"),
    [
        (invite(expires_in_s=100, issued_s=NOW - 200), "expired"),
        (invite(NodeKey.generate()), "to another cortex"),
        (invite(role=Role.NEURON), "not for a cortex"),
        (invite()[:-3], "broken"),
        (b"y" * 200, "broken"),
    ],
    ids=["expired", "another cortex's", "for a neuron", "cut", "garbage"],
)
def test_an_invite_that_is_none_lets_nobody_in(doors, caplog, monkeypatch, blob, why):
    monkeypatch.setattr(module, "_seldom", every(0))
    away = turned_away(doors(admission="invite"), session(invite=blob))
    assert (away.code, away.told) == (CloseCode.DENIED, DENIED)
    assert any(why in record.why for record in caplog.records if record.msg == "invite_refused")


def test_a_bad_invite_harms_nobody_who_would_be_let_in_anyway(doors):
    assert doors().let_in(session(invite=b"y" * 200)).standing.trust is Trust.STRANGER


def test_an_invite_that_was_used_up_lets_in_nobody_else(doors):
    door, blob = doors(admission="invite"), invite(uses=1)
    door.let_in(session(invite=blob))
    other = session(invite=blob)
    other.peer = NodeKey.generate().node_id
    assert turned_away(door, other).code == CloseCode.DENIED
    # The one that used it may come again with it.
    door.let_in(session(invite=blob))


def test_a_crowd_at_the_door_is_a_line_in_the_log_now_and_then(doors, caplog, monkeypatch):
    monkeypatch.setattr(module, "_seldom", every(3600))
    door = doors(admission="closed")
    for _ in range(50):
        turned_away(door, session())
    assert sum(record.msg == "turned_away" for record in caplog.records) == 1
