"""Whom a node lets in, and how far it trusts them: the rules, as one pure function.

What a node's operator wrote down decides: in the settings, at run time, or by an
invite handed out. Only for those of whom nothing was said the mode decides.
Denial comes before everything, so that no list can let in by accident whom
another one shuts out.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeAlias

from helexa.mesh.trust import Trust
from helexa.protocol.ids import NodeId, OperatorId, is_node_id
from helexa.protocol.messages import Role
from helexa.protocol.records import Invite


class Mode(enum.Enum):
    """What happens to those of whom nothing was said."""

    OPEN = "open"
    """Let in, as strangers."""
    LAN = "lan"
    """Neurons alone: those of this host and its networks are let in, others are asked about."""
    APPROVE = "approve"
    """Asked about: they wait until the operator says something."""
    INVITE = "invite"
    """Shut out; an invite lets in."""
    CLOSED = "closed"
    """Shut out; an invite does nothing either."""


CORTEX_MODES: Final = (Mode.OPEN, Mode.INVITE, Mode.APPROVE, Mode.CLOSED)
NEURON_MODES: Final = (*CORTEX_MODES, Mode.LAN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What the settings say. Lists name operators or nodes by their full ids."""

    cortexes: Mode = Mode.OPEN
    neurons: Mode = Mode.LAN
    allow: frozenset[str] = frozenset()
    deny: frozenset[str] = frozenset()
    trust: frozenset[str] = frozenset()
    own: frozenset[OperatorId] = frozenset()
    """This node's operator, by its present id and the earlier ones."""

    @classmethod
    def of(
        cls,
        *,
        admission: str,
        neurons: str,
        allow: Iterable[str] = (),
        deny: Iterable[str] = (),
        trust: Iterable[str] = (),
        own: Iterable[OperatorId] = (),
    ) -> Rules:
        """From the words of `[mesh]`. Raises ValueError naming the accepted ones."""
        lists = {"allow": frozenset(allow), "deny": frozenset(deny), "trust": frozenset(trust)}
        for name, ids in lists.items():
            for who in ids:
                if not is_node_id(who):
                    raise ValueError(f"{name}: {who!r} is no id: 64 hexadecimal digits")
        return cls(
            cortexes=_mode("admission", admission, CORTEX_MODES),
            neurons=_mode("neurons", neurons, NEURON_MODES),
            own=frozenset(own),
            **lists,
        )

    def mode(self, role: Role) -> Mode:
        """The mode for those who ask to be a `role`."""
        return self.neurons if role is Role.NEURON else self.cortexes


@dataclass(frozen=True, slots=True, kw_only=True)
class Applicant:
    """Who asks to be let in: everything but `name` and `address` is proven."""

    node: NodeId
    operator: OperatorId
    identities: tuple[OperatorId, ...]
    """`operator`, then the ids that it had before."""
    role: Role
    near: bool = False
    """On this host, or on a network that this host is connected to."""
    invite: Invite | None = None
    """Already checked to be this node's own and in force (`invites.check_invite`)."""
    name: str = ""
    address: str = ""

    @property
    def ids(self) -> tuple[str, ...]:
        """Every name under which a list or a decision may mean it."""
        return (self.node, *self.identities)


@dataclass(frozen=True, slots=True)
class Admitted:
    """Let in."""

    trust: Trust
    why: str = field(default="", compare=False)
    by_invite: bool = False
    """The invite decided, so that one of its uses is to be counted."""


@dataclass(frozen=True, slots=True)
class Denied:
    """Shut out."""

    why: str = field(default="", compare=False)
    """For this node's own log: the peer learns that it was denied, and nothing else."""


@dataclass(frozen=True, slots=True)
class Pending:
    """Shut out until the operator says something."""

    why: str = field(default="", compare=False)


Verdict: TypeAlias = Admitted | Denied | Pending


class Memory(Protocol):
    """What was decided at run time."""

    def decided(self, who: str) -> Trust | None:
        """DENIED, KNOWN or TRUSTED where somebody said so of this operator or node."""
        ...

    def honours(self, invite: Invite, node: NodeId) -> bool:
        """Whether `invite` has a use left for `node`."""
        ...


def judge(rules: Rules, memory: Memory, applicant: Applicant) -> Verdict:
    """The whole policy: what becomes of `applicant`. Changes nothing."""
    ids = frozenset(applicant.ids)
    decided = {said for who in ids if (said := memory.decided(who)) is not None}
    mode = rules.mode(applicant.role)
    if ids & rules.deny:
        return Denied("the settings deny it")
    if Trust.DENIED in decided:
        return Denied("it was denied")
    if not rules.own.isdisjoint(applicant.identities):
        return Admitted(Trust.OWN, "of the same operator")
    if ids & rules.trust:
        return Admitted(Trust.TRUSTED, "the settings trust it")
    if Trust.TRUSTED in decided:
        return Admitted(Trust.TRUSTED, "it was trusted")
    # An invite may raise whom a list merely lets in, and is not spent where it adds nothing.
    by_list = _by_list(rules, ids, decided)
    by_invite = _by_invite(mode, memory, applicant)
    if by_invite is not None and (by_list is None or by_invite.trust > by_list.trust):
        return by_invite
    return by_list or _by_mode(mode, near=applicant.near)


def _by_list(rules: Rules, ids: frozenset[str], decided: set[Trust]) -> Admitted | None:
    if ids & rules.allow:
        return Admitted(Trust.KNOWN, "the settings allow it")
    if Trust.KNOWN in decided:
        return Admitted(Trust.KNOWN, "it was approved")
    return None


def _by_invite(mode: Mode, memory: Memory, applicant: Applicant) -> Admitted | None:
    invite = applicant.invite
    if invite is None or mode is Mode.CLOSED or not memory.honours(invite, applicant.node):
        return None
    return Admitted(Trust.of(invite.trust), "it was invited", by_invite=True)


def _by_mode(mode: Mode, *, near: bool) -> Verdict:
    match mode:
        case Mode.OPEN:
            return Admitted(Trust.STRANGER, "everybody is let in")
        case Mode.LAN if near:
            return Admitted(Trust.KNOWN, "it is on this network")
        case Mode.LAN | Mode.APPROVE:
            return Pending("the operator has to be asked")
        case Mode.INVITE | Mode.CLOSED:
            return Denied("only those who were invited or named are let in")


def _mode(setting: str, word: str, accepted: tuple[Mode, ...]) -> Mode:
    for mode in accepted:
        if mode.value == word:
            return mode
    words = ", ".join(mode.value for mode in accepted)
    raise ValueError(f"{setting}: {word!r} is none of {words}")
