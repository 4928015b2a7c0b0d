"""Revocations: the newest list of each operator holds, and only the operator can replace it."""

from __future__ import annotations

import pytest

from helexa.mesh.identity import NodeKey, verify
from helexa.mesh.operators import revocation
from helexa.mesh.operators.operator import OperatorKey
from helexa.mesh.operators.revocation import (
    REVOCATIONS_BYTES_MAX,
    REVOKED_MAX,
    RevocationBook,
    read_revocations,
    revoke,
)
from helexa.mesh.statements.sealed import SealBroken, SealForged, seal
from helexa.protocol.records import RECORD_BYTES_MAX, Revocations

NOW = 1_800_000_000
KEYS = [OperatorKey(NodeKey.from_secret(bytes((number,)) * 32)) for number in range(6)]
KEY, NEXT, STRANGER = KEYS[:3]
NODES = [f"{number:064x}" for number in range(REVOKED_MAX + 1)]


def listed(*nodes, version=1, key=KEY):
    return revoke(key, nodes, version=version, now_s=NOW)


def sealed(key=KEY, **changes):
    fields = {"operator": key.operator_id, "version": 1, "issued_s": NOW}
    return seal(key.sign, Revocations(**fields | changes))


def test_a_revoked_node_is_known_and_no_other():
    book = RevocationBook()
    assert book.take(listed(NODES[1], NODES[2]))
    assert book.is_revoked(KEY.operator_id, NODES[1])
    assert not book.is_revoked(KEY.operator_id, NODES[3])
    assert not book.is_revoked(STRANGER.operator_id, NODES[1])


def test_a_higher_version_replaces_a_lower_and_never_the_other_way_round():
    book, newer = RevocationBook(), listed(NODES[2], version=2)
    assert book.take(newer)
    assert not book.take(listed(NODES[1], version=1))
    assert not book.take(listed(NODES[1], version=2))
    assert book.newest(KEY.operator_id) == newer
    assert not book.is_revoked(KEY.operator_id, NODES[1])
    assert book.take(listed(version=3))
    assert not book.is_revoked(KEY.operator_id, NODES[2])


class Watched(RevocationBook):
    """Counts how often members would have to be looked at again."""

    def __init__(self):
        super().__init__()
        self.changes = 0
        self.on_change = self._changed

    def _changed(self):
        self.changes += 1


def test_the_same_list_again_changes_nothing():
    book = Watched()
    assert book.take(listed(NODES[1]))
    assert not book.take(listed(NODES[1]))
    assert book.changes == 1


def test_a_list_that_revokes_the_same_nodes_gives_no_cause_to_look_at_members_again():
    book = Watched()
    book.take(listed(version=1))
    assert book.changes == 0
    book.take(listed(NODES[1], version=2))
    assert book.changes == 1
    assert book.take(listed(NODES[1], version=3))
    assert book.changes == 1


def test_a_change_is_announced_once_it_holds():
    book, seen = RevocationBook(), []
    book.on_change = lambda: seen.append(book.is_revoked(KEY.operator_id, NODES[1]))
    book.take(listed(NODES[1], version=1, key=NEXT), identities=(NEXT.operator_id, KEY.operator_id))
    book.take(listed(version=2, key=NEXT))
    assert seen == [True, False]


def test_a_list_that_another_key_signed_is_refused_and_changes_nothing():
    book = RevocationBook()
    with pytest.raises(SealForged):
        book.take(sealed(STRANGER, operator=KEY.operator_id, nodes=(NODES[1],)))
    assert not book.is_revoked(KEY.operator_id, NODES[1])
    assert len(book) == 0


def test_an_older_list_is_not_worth_a_signature_check():
    checked = []

    def counting(signer, message, signature):
        checked.append(signer)
        return verify(signer, message, signature)

    book = RevocationBook(verify=counting)
    book.take(listed(version=5))
    for version in (1, 4, 5):
        book.take(listed(NODES[1], version=version))
    assert len(checked) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 0},
        {"version": -1},
        {"version": 2**63},
        {"nodes": ("me",)},
        {"nodes": tuple(NODES)},
    ],
)
def test_a_list_of_bad_form_is_refused_whoever_signed_it(changes):
    with pytest.raises(SealBroken):
        RevocationBook().take(sealed(**changes))


@pytest.mark.parametrize(
    ("nodes", "version", "reason"),
    [
        (NODES, 1, f"{len(NODES)} nodes; a list holds at most {REVOKED_MAX}"),
        (["me"], 1, "64 hexadecimal digits"),
        ([], 0, "version 0; accepted are"),
    ],
)
def test_what_readers_would_refuse_is_not_signed(nodes, version, reason):
    with pytest.raises(ValueError, match=reason):
        revoke(KEY, nodes, version=version, now_s=NOW)


def test_a_full_list_leaves_room_in_a_record():
    blob = listed(*NODES[:REVOKED_MAX])
    assert len(read_revocations(blob).nodes) == REVOKED_MAX
    assert len(blob) <= REVOCATIONS_BYTES_MAX <= RECORD_BYTES_MAX * 2 // 3


def test_a_node_named_twice_is_listed_once():
    assert read_revocations(listed(NODES[1], NODES[1])).nodes == (NODES[1],)


# --- keys that took the place of others


def test_an_heir_revokes_what_the_earlier_key_certified():
    book = RevocationBook()
    book.take(listed(NODES[1], key=NEXT), identities=(NEXT.operator_id, KEY.operator_id))
    assert book.is_revoked(KEY.operator_id, NODES[1])
    assert book.is_revoked(NEXT.operator_id, NODES[1])


def test_a_list_known_before_its_signer_proved_to_be_an_heir_counts_from_then_on():
    book, blob = Watched(), listed(NODES[1], key=NEXT)
    book.take(blob)
    assert not book.is_revoked(KEY.operator_id, NODES[1])
    assert not book.take(blob, identities=(NEXT.operator_id, KEY.operator_id))
    assert book.is_revoked(KEY.operator_id, NODES[1])
    assert book.changes == 2


def test_a_stranger_revokes_nothing_of_others():
    """Identities are proven for the one whose record it is; the list may be somebody else's."""
    book = RevocationBook()
    book.take(listed(NODES[1], key=STRANGER), identities=(NEXT.operator_id, KEY.operator_id))
    assert not book.is_revoked(KEY.operator_id, NODES[1])
    assert not book.is_revoked(NEXT.operator_id, NODES[1])


# --- bounds


def test_the_operator_heard_of_longest_ago_is_forgotten_first(monkeypatch):
    monkeypatch.setattr(revocation, "OPERATORS_MAX", 3)
    book = RevocationBook()
    for key in KEYS[:3]:
        book.take(listed(NODES[1], key=key))
    book.take(listed(NODES[1], key=KEYS[0]))
    book.take(listed(NODES[1], key=KEYS[3]))
    assert [book.is_revoked(key.operator_id, NODES[1]) for key in KEYS[:4]] == [
        *(True, False, True, True)
    ]


def test_long_lists_are_counted_by_their_nodes(monkeypatch):
    monkeypatch.setattr(revocation, "NODES_MAX", 10)
    book = RevocationBook()
    for version, key in enumerate(KEYS * 3, 1):
        book.take(listed(*NODES[:4], key=key, version=version))
    assert len(book) == 2


def test_the_operators_that_matter_here_are_never_forgotten(monkeypatch):
    monkeypatch.setattr(revocation, "OPERATORS_MAX", 2)
    book = RevocationBook(pinned=[KEY.operator_id])
    for key in KEYS:
        book.take(listed(NODES[1], key=key))
    assert book.is_revoked(KEY.operator_id, NODES[1])
    assert len(book) == 2


def test_more_pinned_operators_than_there_is_room_for_end_in_no_loop(monkeypatch):
    monkeypatch.setattr(revocation, "OPERATORS_MAX", 2)
    book = RevocationBook(pinned=[key.operator_id for key in KEYS])
    for key in KEYS:
        book.take(listed(key=key))
    assert len(book) == len(KEYS)


def test_what_is_forgotten_leaves_nothing_behind(monkeypatch):
    monkeypatch.setattr(revocation, "OPERATORS_MAX", 1)
    book = RevocationBook()
    book.take(listed(NODES[1], key=NEXT), identities=(NEXT.operator_id, KEY.operator_id))
    book.take(listed(NODES[2], key=STRANGER))
    assert not book.is_revoked(KEY.operator_id, NODES[1])
    assert book._heirs == {}
    assert book._nodes == 1
