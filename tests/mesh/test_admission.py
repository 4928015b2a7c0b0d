"""Who is let in: the whole policy as tables."""

from __future__ import annotations

import itertools

import pytest

from helexa.mesh.admission.rules import (
    CORTEX_MODES,
    NEURON_MODES,
    Admitted,
    Applicant,
    Denied,
    Mode,
    Pending,
    Rules,
    judge,
)
from helexa.mesh.trust import Trust
from helexa.protocol.messages import Role
from helexa.protocol.records import Invite

NODE, OPERATOR, EARLIER, OURS = (digit * 64 for digit in "abcd")
STRANGER, KNOWN, TRUSTED, OWN = (
    Admitted(level) for level in (Trust.STRANGER, Trust.KNOWN, Trust.TRUSTED, Trust.OWN)
)


class Remembers:
    """What was decided, and whether an invite has a use left."""

    def __init__(self, decided=(), *, honours=True):
        self._decided = dict(decided)
        self._honours = honours

    def decided(self, who):
        return self._decided.get(who)

    def honours(self, invite, node):
        return self._honours


def applicant(**changes):
    fields = {
        "node": NODE,
        "operator": OPERATOR,
        "identities": (OPERATOR, EARLIER),
        "role": Role.CORTEX,
    }
    return Applicant(**fields | changes)


def invite(trust="known"):
    return Invite(issuer="e" * 64, serial="1", expires_s=9, trust=trust)


def ruled(role, mode, **lists):
    return Rules(**({"cortexes": mode} if role is Role.CORTEX else {"neurons": mode}), **lists)


# --- those of whom nothing was said: mode, role, near -> verdict

MODES = [
    (Role.CORTEX, Mode.OPEN, False, STRANGER),
    (Role.CORTEX, Mode.OPEN, True, STRANGER),
    (Role.CORTEX, Mode.INVITE, False, Denied()),
    (Role.CORTEX, Mode.INVITE, True, Denied()),
    (Role.CORTEX, Mode.APPROVE, False, Pending()),
    (Role.CORTEX, Mode.APPROVE, True, Pending()),
    (Role.CORTEX, Mode.CLOSED, False, Denied()),
    (Role.CORTEX, Mode.CLOSED, True, Denied()),
    (Role.NEURON, Mode.OPEN, False, STRANGER),
    (Role.NEURON, Mode.OPEN, True, STRANGER),
    (Role.NEURON, Mode.LAN, False, Pending()),
    (Role.NEURON, Mode.LAN, True, KNOWN),
    (Role.NEURON, Mode.INVITE, False, Denied()),
    (Role.NEURON, Mode.INVITE, True, Denied()),
    (Role.NEURON, Mode.APPROVE, False, Pending()),
    (Role.NEURON, Mode.APPROVE, True, Pending()),
    (Role.NEURON, Mode.CLOSED, False, Denied()),
    (Role.NEURON, Mode.CLOSED, True, Denied()),
]


def test_every_mode_of_every_role_is_in_the_table():
    assert {row[:3] for row in MODES} == {
        (role, mode, near)
        for role, modes in ((Role.CORTEX, CORTEX_MODES), (Role.NEURON, NEURON_MODES))
        for mode in modes
        for near in (False, True)
    }


@pytest.mark.parametrize(("role", "mode", "near", "verdict"), MODES)
def test_those_of_whom_nothing_was_said_are_judged_by_the_mode(role, mode, near, verdict):
    asking = applicant(role=role, near=near)
    assert judge(ruled(role, mode), Remembers(), asking) == verdict


# --- everything that can be said, in the order in which it counts

SAID = [
    ("settings deny", Denied()),
    ("denied", Denied()),
    ("own", OWN),
    ("settings trust", TRUSTED),
    ("trusted", TRUSTED),
    ("invited to trust", Admitted(Trust.TRUSTED, by_invite=True)),
    ("settings allow", KNOWN),
    ("approved", KNOWN),
    ("invited", Admitted(Trust.KNOWN, by_invite=True)),
]
DECISIONS = {"denied": Trust.DENIED, "trusted": Trust.TRUSTED, "approved": Trust.KNOWN}


def said_of(who, words, role, mode):
    """The rules, the memory and the applicant in a world where `words` were said of `who`."""
    rules = ruled(
        role,
        mode,
        deny=frozenset({who} if "settings deny" in words else ()),
        trust=frozenset({who} if "settings trust" in words else ()),
        allow=frozenset({who} if "settings allow" in words else ()),
        own=frozenset({OPERATOR} if "own" in words else {OURS}),
    )
    decided = [DECISIONS[word] for word in words if word in DECISIONS]
    # One name has one decision; further ones are said of the node's other names.
    names = [who, *(name for name in (NODE, OPERATOR, EARLIER) if name != who)]
    shown = {"invited to trust": "trusted", "invited": "known"}
    levels = [shown[word] for word in words if word in shown]
    asking = applicant(role=role, invite=invite(levels[0]) if levels else None)
    return rules, Remembers(zip(names, decided, strict=False)), asking


def expected(words, role, mode):
    for word, verdict in SAID:
        closed_to_guests = mode is Mode.CLOSED and word.startswith("invited")
        if word in words and not closed_to_guests:
            return verdict
    return next(row[3] for row in MODES if row[:3] == (role, mode, False))


EVERY_MODE = [(Role.CORTEX, mode) for mode in CORTEX_MODES] + [
    (Role.NEURON, mode) for mode in NEURON_MODES
]


@pytest.mark.parametrize(("role", "mode"), EVERY_MODE)
@pytest.mark.parametrize("who", [NODE, OPERATOR, EARLIER], ids=["node", "operator", "earlier id"])
def test_whatever_was_said_the_first_of_the_table_counts(who, role, mode):
    """Every combination of what can be said, of every name, in every mode."""
    words = [word for word, _ in SAID]
    for count in range(len(words) + 1):
        for some in itertools.combinations(words, count):
            if {"invited", "invited to trust"} <= set(some):
                continue  # One applicant shows one invite.
            verdict = judge(*said_of(who, some, role, mode))
            assert verdict == expected(some, role, mode), some


def test_what_is_said_of_others_changes_nothing():
    other = "e" * 64
    lists = {name: frozenset({other}) for name in ("allow", "deny", "trust", "own")}
    rules = Rules(cortexes=Mode.APPROVE, **lists)
    for level in (Trust.DENIED, Trust.KNOWN, Trust.TRUSTED):
        assert judge(rules, Remembers({other: level}), applicant()) == Pending()


def test_a_key_that_took_the_place_of_ours_is_ours():
    rules = Rules(own=frozenset({EARLIER}))
    assert judge(rules, Remembers(), applicant()) == OWN


@pytest.mark.parametrize(("role", "mode"), EVERY_MODE)
def test_an_invite_without_a_use_left_changes_nothing(role, mode):
    with_invite = judge(
        ruled(role, mode), Remembers(honours=False), applicant(role=role, invite=invite())
    )
    assert with_invite == judge(ruled(role, mode), Remembers(), applicant(role=role))


def test_an_invite_is_not_spent_where_it_adds_nothing():
    rules = Rules(allow=frozenset({NODE}))
    assert judge(rules, Remembers(), applicant(invite=invite())) == KNOWN
    near = applicant(role=Role.NEURON, near=True, invite=invite())
    # Here it adds something: a neuron that moves away stays known.
    assert judge(Rules(), Remembers(), near) == Admitted(Trust.KNOWN, by_invite=True)


def test_every_verdict_says_why():
    for role, mode in EVERY_MODE:
        for word in (None, *(word for word, _ in SAID)):
            assert judge(*said_of(NODE, [word], role, mode)).why


# --- rules from settings


def test_rules_are_read_from_the_words_of_the_settings():
    rules = Rules.of(
        admission="invite", neurons="lan", allow=[NODE], deny=[OPERATOR], trust=[OURS], own=[OURS]
    )
    assert rules == Rules(
        cortexes=Mode.INVITE,
        neurons=Mode.LAN,
        allow=frozenset({NODE}),
        deny=frozenset({OPERATOR}),
        trust=frozenset({OURS}),
        own=frozenset({OURS}),
    )


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"admission": "lan"}, "admission: 'lan' is none of open, invite, approve, closed"),
        ({"neurons": "ask"}, "neurons: 'ask' is none of open, invite, approve, closed, lan"),
        ({"deny": ["spam"]}, "deny: 'spam' is no id: 64 hexadecimal digits"),
        ({"allow": [NODE[:10]]}, "allow: 'aaaaaaaaaa' is no id"),
        ({"trust": [NODE.upper()]}, "trust: 'A"),
    ],
)
def test_rules_that_would_match_nobody_are_refused(changes, reason):
    with pytest.raises(ValueError, match=reason):
        Rules.of(**{"admission": "open", "neurons": "lan"} | changes)
