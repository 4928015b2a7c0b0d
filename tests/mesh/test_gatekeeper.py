"""The gatekeeper: decisions that last, invites that are counted, a queue that stays short."""

from __future__ import annotations

import json
import stat

import pytest

from helexa.mesh.admission import gatekeeper as module
from helexa.mesh.admission import waiting
from helexa.mesh.admission.gatekeeper import Gatekeeper, WhoUnclear
from helexa.mesh.admission.rules import Admitted, Applicant, Denied, Mode, Pending, Rules
from helexa.mesh.trust import Standing, Trust
from helexa.protocol.messages import Role
from helexa.protocol.records import Invite
from helexa.util.home import HomeUnusable

ME, OURS, NODE, OPERATOR, OTHER = (digit * 64 for digit in "12abc")
APPROVE = Rules(cortexes=Mode.APPROVE, own=frozenset({OURS}))
NOW = 1_800_000_000


class Clock:
    def __init__(self):
        self.now_s = float(NOW)

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "admission.json"


@pytest.fixture
def keep(path, clock):
    def opened(rules=APPROVE, **settings):
        return Gatekeeper(path, rules, ME, clock, **settings)

    return opened


def applicant(node=NODE, operator=OPERATOR, **changes):
    fields = {"identities": (operator,), "role": Role.CORTEX, "address": "192.0.2.1:1"}
    return Applicant(node=node, operator=operator, **fields | changes)


def invite(serial="s", uses=1, trust="known", expires_s=NOW + 100):
    return Invite(issuer=ME, serial=serial, expires_s=expires_s, uses=uses, trust=trust)


def numbered(number):
    return f"{number:064x}"


# --- decisions


def test_one_who_waits_is_let_in_once_approved_and_after_a_restart(keep):
    gatekeeper = keep()
    assert gatekeeper.judge(applicant()) == Pending()
    assert [row.node for row in gatekeeper.pending()] == [NODE]
    assert gatekeeper.approve(NODE) == NODE
    assert gatekeeper.pending() == []
    assert gatekeeper.judge(applicant()) == Admitted(Trust.KNOWN)
    assert keep().judge(applicant()) == Admitted(Trust.KNOWN)


def test_approving_an_operator_lets_in_all_of_its_nodes(keep):
    gatekeeper = keep()
    for node in (NODE, OTHER):
        gatekeeper.judge(applicant(node))
    gatekeeper.approve(OPERATOR, Trust.TRUSTED)
    assert gatekeeper.pending() == []
    assert gatekeeper.judge(applicant(OTHER)) == Admitted(Trust.TRUSTED)


def test_approving_a_node_says_nothing_of_its_operators_other_nodes(keep):
    gatekeeper = keep()
    gatekeeper.judge(applicant(OTHER))
    gatekeeper.approve(NODE)
    assert [row.node for row in gatekeeper.pending()] == [OTHER]
    assert gatekeeper.admits(OTHER, [OPERATOR]) is Trust.DENIED


def test_one_that_was_let_in_is_shut_out_once_denied(keep):
    gatekeeper = keep(Rules())
    assert gatekeeper.judge(applicant()) == Admitted(Trust.STRANGER)
    gatekeeper.deny(OPERATOR)
    assert gatekeeper.judge(applicant()) == Denied()
    assert keep(Rules()).judge(applicant()) == Denied()


def test_denying_one_who_waits_ends_the_waiting(keep):
    gatekeeper = keep()
    gatekeeper.judge(applicant())
    gatekeeper.deny(NODE)
    assert gatekeeper.pending() == []


def test_what_is_forgotten_was_never_said(keep):
    gatekeeper = keep()
    gatekeeper.trust(NODE)
    gatekeeper.forget(NODE)
    assert gatekeeper.judge(applicant()) == Pending()
    assert keep().decisions() == []
    with pytest.raises(WhoUnclear, match="nothing was decided"):
        gatekeeper.forget(NODE)


def test_a_later_decision_replaces_an_earlier_one(keep, clock):
    gatekeeper = keep()
    gatekeeper.deny(NODE, note="spam")
    clock.now_s += 5
    gatekeeper.trust(NODE, note="a mistake")
    (decision,) = gatekeeper.decisions()
    assert (decision.level, decision.note, decision.when_s) == ("trusted", "a mistake", NOW + 5)


def test_every_change_is_announced_once_it_holds(keep):
    gatekeeper, seen = keep(), []
    gatekeeper.on_change = lambda: seen.append(gatekeeper.admits(NODE, [OPERATOR]))
    gatekeeper.approve(NODE)
    gatekeeper.trust(NODE)
    gatekeeper.deny(NODE)
    gatekeeper.forget(NODE)
    gatekeeper.judge(applicant())
    gatekeeper.judge(applicant(invite=invite()))
    assert seen == [Trust.KNOWN, Trust.TRUSTED, Trust.DENIED, Trust.DENIED, Trust.KNOWN]


def test_settings_that_deny_are_not_overruled_here(keep):
    gatekeeper = keep(Rules(deny=frozenset({NODE})))
    for level in (Trust.KNOWN, Trust.TRUSTED):
        with pytest.raises(WhoUnclear, match=r"denied by the settings .*remove it there"):
            gatekeeper.approve(NODE, level)


@pytest.mark.parametrize("who", [ME, OURS])
def test_a_node_does_not_deny_itself_or_its_operator(keep, who):
    with pytest.raises(WhoUnclear, match="cannot be denied"):
        keep().deny(who)


@pytest.mark.parametrize("level", [Trust.DENIED, Trust.STRANGER, Trust.OWN])
def test_nobody_is_made_what_only_proof_or_silence_makes(keep, level):
    with pytest.raises(WhoUnclear, match="use known, trusted, or deny"):
        keep().trust(NODE, level)


def test_no_more_is_kept_than_said(keep, monkeypatch):
    monkeypatch.setattr(module, "DECISIONS_MAX", 2)
    gatekeeper = keep()
    gatekeeper.approve(NODE)
    gatekeeper.approve(OTHER)
    with pytest.raises(WhoUnclear, match="2 decisions are kept already; forget some"):
        gatekeeper.approve(OPERATOR)
    gatekeeper.deny(OTHER)
    third = applicant(numbered(3), numbered(3), invite=invite())
    assert gatekeeper.judge(third) == Pending()


# --- gossip and standing


def test_what_others_tell_of_one_who_waits_is_not_taken(keep):
    gatekeeper = keep()
    assert gatekeeper.admits(NODE, [OPERATOR]) is Trust.DENIED
    assert gatekeeper.pending() == []
    assert gatekeeper.admits(NODE, [OURS]) is Trust.OWN


def test_a_standing_names_the_peer_and_its_trust(keep):
    gatekeeper = keep()
    gatekeeper.trust(OPERATOR)
    standing = gatekeeper.standing(NODE, (OPERATOR, OTHER), name="attic", region="eu")
    assert standing == Standing(
        node=NODE, operator=OPERATOR, trust=Trust.TRUSTED, name="attic", region="eu"
    )


def test_a_neuron_nearby_stands_otherwise_than_one_far_away(keep):
    gatekeeper = keep()
    near, far = (
        gatekeeper.standing(NODE, (NODE,), Role.NEURON, near=near).trust for near in (True, False)
    )
    assert (near, far) == (Trust.KNOWN, Trust.DENIED)


# --- invites


def test_an_invite_lets_in_as_many_nodes_as_it_says(keep):
    gatekeeper = keep()
    verdicts = [
        gatekeeper.judge(applicant(numbered(n), numbered(n), invite=invite(uses=2)))
        for n in range(3)
    ]
    assert verdicts == [Admitted(Trust.KNOWN, by_invite=True)] * 2 + [Pending()]


def test_one_node_that_shows_its_invite_again_is_counted_once(keep):
    gatekeeper = keep()
    for _ in range(3):
        assert isinstance(gatekeeper.judge(applicant(invite=invite(uses=2))), Admitted)
    gatekeeper.forget(NODE)
    assert isinstance(gatekeeper.judge(applicant(invite=invite(uses=2))), Admitted)
    assert isinstance(gatekeeper.judge(applicant(OTHER, invite=invite(uses=2))), Admitted)
    assert gatekeeper.judge(applicant(numbered(3), invite=invite(uses=2))) == Pending()


def test_uses_are_counted_over_restarts(keep):
    assert isinstance(keep().judge(applicant(invite=invite())), Admitted)
    assert keep().judge(applicant(OTHER, invite=invite())) == Pending()


def test_a_guest_stays_when_its_invite_has_expired(keep, clock):
    gatekeeper = keep()
    gatekeeper.judge(applicant(invite=invite(trust="trusted")))
    clock.now_s += 1_000
    assert gatekeeper.judge(applicant()) == Admitted(Trust.TRUSTED)
    assert gatekeeper.decisions()[0].note == "invite s"


def test_an_expired_invite_is_no_longer_counted(keep, clock, path):
    gatekeeper = keep()
    gatekeeper.judge(applicant(invite=invite()))
    assert "s" in json.loads(path.read_text())["invites"]
    clock.now_s += 1_000
    gatekeeper.approve(OTHER)
    assert json.loads(path.read_text())["invites"] == {}


def test_an_invite_does_not_let_in_the_denied(keep):
    gatekeeper = keep()
    gatekeeper.deny(OPERATOR)
    assert gatekeeper.judge(applicant(invite=invite())) == Denied()


def test_a_node_that_is_closed_honours_no_invite_and_keeps_its_guests(keep):
    keep().judge(applicant(invite=invite(uses=9)))
    closed = keep(Rules(cortexes=Mode.CLOSED))
    assert isinstance(closed.judge(applicant()), Admitted)
    assert closed.judge(applicant(OTHER, invite=invite(uses=9))) == Denied()


def test_a_use_that_cannot_be_kept_is_not_granted(keep, path):
    gatekeeper = keep()
    path.mkdir()
    assert gatekeeper.judge(applicant(invite=invite())) == Pending()
    assert gatekeeper.decisions() == []


def test_no_more_invites_are_counted_than_said(keep, monkeypatch):
    monkeypatch.setattr(module, "INVITES_MAX", 1)
    gatekeeper = keep()
    assert isinstance(gatekeeper.judge(applicant(invite=invite("one", uses=5))), Admitted)
    assert gatekeeper.judge(applicant(OTHER, invite=invite("two"))) == Pending()
    assert isinstance(gatekeeper.judge(applicant(OTHER, invite=invite("one", uses=5))), Admitted)


# --- the queue


def test_the_queue_says_who_when_and_from_where(keep, clock):
    gatekeeper = keep()
    gatekeeper.judge(applicant(name="attic", address="192.0.2.1:1"))
    clock.now_s += 60
    gatekeeper.judge(applicant(name="attic\x1b[2J", address="192.0.2.1:2", role=Role.NEURON))
    (row,) = gatekeeper.pending()
    assert (row.node, row.operator, row.role) == (NODE, OPERATOR, Role.NEURON)
    assert (row.name, row.address) == ("attic?[2J", "192.0.2.1:2")
    assert (row.first_s, row.last_s, row.times) == (NOW, NOW + 60, 2)


def test_whoever_stopped_knocking_is_no_longer_waited_for(keep, clock):
    gatekeeper = keep()
    gatekeeper.judge(applicant())
    clock.now_s += waiting.WAITING_S + 1
    assert gatekeeper.pending() == []


def test_a_flood_from_one_address_does_not_push_out_the_others(keep, clock):
    gatekeeper = keep()
    gatekeeper.judge(applicant(NODE, NODE, address="198.51.100.7:5"))
    for number in range(waiting.WAITING_MAX * 2):
        clock.now_s += 1
        flooder = numbered(number)
        gatekeeper.judge(applicant(flooder, flooder, address=f"192.0.2.1:{number}"))
    rows = gatekeeper.pending()
    assert len(rows) == waiting.WAITING_MAX
    assert NODE in {row.node for row in rows}
    # The oldest of the flood went first.
    assert rows[-1].node == numbered(waiting.WAITING_MAX * 2 - 1)
    assert numbered(0) not in {row.node for row in rows}


def test_an_invite_is_not_kept_in_the_queue(keep):
    gatekeeper = keep()
    gatekeeper.judge(applicant(OTHER, invite=invite()))
    gatekeeper.judge(applicant(invite=invite()))
    assert gatekeeper.pending()[0].applicant.invite is None


# --- names


def test_the_first_digits_name_one_that_waits_is_a_member_or_was_decided(keep):
    members = [numbered(7)[::-1]]
    gatekeeper = keep(known=lambda: members)
    gatekeeper.judge(applicant(NODE, OPERATOR))
    assert gatekeeper.approve(f" {OPERATOR[:8].upper()} ") == OPERATOR
    assert gatekeeper.deny(members[0][:8]) == members[0]
    members.clear()
    assert gatekeeper.forget("70000000") == numbered(7)[::-1]


@pytest.mark.parametrize(
    ("who", "reason"),
    [
        ("", "is no id"),
        ("attic", "is no id"),
        (NODE[:7], "at least the first 8"),
        (NODE + "a", "nobody known here"),
        ("deadbeef", "nobody known here has an id that begins with deadbeef; give it whole"),
    ],
)
def test_a_word_that_names_nobody_is_refused_with_what_to_give(keep, who, reason):
    gatekeeper = keep()
    gatekeeper.judge(applicant())
    for action in (gatekeeper.approve, gatekeeper.deny, gatekeeper.trust, gatekeeper.forget):
        with pytest.raises(WhoUnclear, match=reason):
            action(who)


def test_digits_that_begin_two_ids_name_neither(keep):
    one, two = "ab" * 5 + "0" * 54, "ab" * 5 + "1" * 54
    gatekeeper = keep(known=lambda: (one, two, one))
    with pytest.raises(WhoUnclear, match=rf"2 ids begin with abababab: {one}, {two}"):
        gatekeeper.approve("abababab")
    assert gatekeeper.approve("ab" * 5 + "1") == two


def test_a_full_id_of_nobody_known_is_taken_at_its_word(keep):
    assert keep().deny(OTHER) == OTHER


# --- the file


def test_the_file_is_private_and_readable_by_people(keep, path):
    keep().approve(NODE, note="met at the fair")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    assert '"note": "met at the fair"' in path.read_text()


def test_nothing_is_written_before_anything_was_decided(keep, path):
    keep().judge(applicant())
    assert not path.exists()


def test_a_decision_that_cannot_be_kept_is_not_taken(keep, path):
    gatekeeper, seen = keep(), []
    gatekeeper.on_change = lambda: seen.append(1)
    path.mkdir()
    with pytest.raises(HomeUnusable, match=f"cannot write {path}"):
        gatekeeper.approve(NODE)
    assert gatekeeper.judge(applicant()) == Pending()
    assert seen == []
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


GOOD = {
    "version": 1,
    "decisions": [{"who": NODE, "level": "denied", "when_s": 1, "note": ""}],
    "invites": {},
}


def changed(**changes):
    return json.dumps(GOOD | {"decisions": [GOOD["decisions"][0] | changes]}).encode()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b"[" * 100_000,
        json.dumps(GOOD).encode()[:-30],
        json.dumps(GOOD | {"version": 2}).encode(),
        json.dumps(GOOD | {"more": 1}).encode(),
        changed(who="me"),
        changed(level="own"),
        changed(level="friend"),
        changed(level="stranger"),
        changed(when_s="today"),
    ],
)
def test_a_damaged_file_is_refused_named_and_left_alone(keep, path, content):
    """A list of who is denied is not guessed at."""
    path.write_bytes(content)
    with pytest.raises(HomeUnusable, match=rf"{path} does not hold.*move it away") as refused:
        keep()
    assert "helexa mesh deny" in str(refused.value)
    assert path.read_bytes() == content


def test_a_file_as_it_is_written_is_read(keep, path):
    path.write_bytes(changed())
    assert keep().judge(applicant()) == Denied()


def test_a_file_that_cannot_be_read_is_refused(keep, path):
    path.mkdir()
    with pytest.raises(HomeUnusable, match=f"cannot read {path}"):
        keep()
