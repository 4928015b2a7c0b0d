"""The one owner of what was decided at run time about who is let in.

Decisions and spent invites are kept in one file, written whole before they take
effect. Who waits for a decision is kept in memory alone: whoever still wants in
after a restart knocks again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import msgspec

from helexa.mesh.admission.decisions_file import Decision, Decisions, SpentInvite, load, save
from helexa.mesh.admission.rules import Admitted, Applicant, Pending, Rules, Verdict, judge
from helexa.mesh.admission.waiting import Waiting, WaitingRoom
from helexa.mesh.trust import Standing, Trust
from helexa.protocol.ids import NodeId, OperatorId, is_node_id
from helexa.protocol.messages import Role
from helexa.protocol.records import Invite
from helexa.util.home import HomeUnusable
from helexa.util.logs import every

PREFIX_CHARS_MIN: Final = 8
DECISIONS_MAX: Final = 10_000
"""A hundred and fifty bytes each: a file that is still written in a blink."""
INVITES_MAX: Final = 1_000
"""In force and used at least once."""

log = logging.getLogger(__name__)
_seldom: Final = every(10.0)


class WhoUnclear(ValueError):
    """The word names nobody, more than one, or somebody of whom this cannot be said."""


def _nothing() -> None:
    return None


class Gatekeeper:
    """Judges applicants and remembers what this node's operator said about them.

    `own` is this node's id, `now` gives unix seconds, and `known` the ids of
    members, so that a prefix of one of them is understood. Raises HomeUnusable
    for a damaged file.
    """

    def __init__(
        self,
        path: Path,
        rules: Rules,
        own: NodeId,
        now: Callable[[], float],
        *,
        known: Callable[[], Iterable[str]] = tuple,
    ) -> None:
        self.rules = rules
        self.on_change: Callable[[], None] = _nothing
        """Called after every decision: links and members are to be looked at again. It may ask
        this gatekeeper, and must not wait."""
        self._path = path
        self._own = own
        self._now = now
        self._known = known
        self._decisions = load(path)
        self._waiting = WaitingRoom()

    # --- judging

    def judge(self, applicant: Applicant) -> Verdict:
        """What becomes of one who asks: spends an invite's use, or queues them for the operator."""
        verdict = judge(self.rules, self, applicant)
        if isinstance(verdict, Admitted) and verdict.by_invite:
            verdict = self._receive_guest(applicant, verdict)
        if isinstance(verdict, Pending):
            if self._waiting.knock(applicant, self._now()) and _seldom():
                log.info(
                    "applicant_waits",
                    extra={"node": applicant.node, "role": applicant.role.value},
                )
        else:
            self._waiting.discard(applicant.node)
        return verdict

    def admits(self, node: NodeId, identities: Sequence[OperatorId]) -> Trust:
        """The trust in a cortex that others tell of; DENIED also where it would have to wait."""
        return self.standing(node, identities).trust

    def standing(
        self,
        node: NodeId,
        identities: Sequence[OperatorId],
        role: Role = Role.CORTEX,
        *,
        near: bool = False,
        name: str = "",
        region: str = "",
    ) -> Standing:
        """Who a proven peer is here now. Queues nobody and spends nothing."""
        applicant = Applicant(
            node=node,
            operator=identities[0],
            identities=tuple(identities),
            role=role,
            near=near,
        )
        verdict = judge(self.rules, self, applicant)
        trust = verdict.trust if isinstance(verdict, Admitted) else Trust.DENIED
        return Standing(
            node=node, operator=applicant.operator, trust=trust, name=name, region=region
        )

    # --- what was decided (`admission.Memory`)

    def decided(self, who: str) -> Trust | None:
        """What was said at run time of the operator or node with the full id `who`."""
        decision = self._decisions.named.get(who)
        return decision.trust if decision is not None else None

    def honours(self, invite: Invite, node: NodeId) -> bool:
        """Whether `invite` has a use left for `node`; each node is counted once."""
        spent = self._decisions.invites.get(invite.serial)
        if spent is None:
            return len(self._decisions.invites) < INVITES_MAX and not self._is_full
        return node in spent.nodes or (len(spent.nodes) < invite.uses and not self._is_full)

    def decisions(self) -> list[Decision]:
        """Everything that was decided, oldest first."""
        return sorted(self._decisions.named.values(), key=lambda one: one.when_s)

    def pending(self) -> list[Waiting]:
        """Who waits for a decision, longest first."""
        return self._waiting.rows(self._now())

    # --- deciding

    def approve(self, who: str, level: Trust = Trust.KNOWN, *, note: str = "") -> str:
        """Let `who` in at `level`, KNOWN or TRUSTED.

        `who`, here and below, is the full id of an operator or a node, or at
        least 8 first digits of the id of one that this node has heard of.
        Returns the full id. Raises WhoUnclear, HomeUnusable when it cannot be kept.
        """
        if level not in (Trust.KNOWN, Trust.TRUSTED):
            raise WhoUnclear(f"nobody can be made {level.word}; use known, trusted, or deny")
        name = self.resolve(who)
        if name in self.rules.deny:
            raise WhoUnclear(f"{name} is denied by the settings ([mesh] deny); remove it there")
        self._decide(name, level, note)
        return name

    def trust(self, who: str, level: Trust = Trust.TRUSTED, *, note: str = "") -> str:
        """As `approve`: from now on `who` is let in at `level`."""
        return self.approve(who, level, note=note)

    def deny(self, who: str, *, note: str = "") -> str:
        """Shut `who` out, whatever the lists and invites say. As `approve`."""
        name = self.resolve(who)
        if name == self._own or name in self.rules.own:
            raise WhoUnclear(f"{name} is this node or its operator, which cannot be denied")
        self._decide(name, Trust.DENIED, note)
        return name

    def forget(self, who: str) -> str:
        """As if nothing had been decided about `who`: the settings hold again. As `approve`."""
        name = self.resolve(who)
        if name not in self._decisions.named:
            raise WhoUnclear(f"nothing was decided about {name} at run time")
        named = {each: said for each, said in self._decisions.named.items() if each != name}
        self._keep(msgspec.structs.replace(self._decisions, named=named))
        self.on_change()
        return name

    def resolve(self, who: str) -> str:
        """The full id that `who` means. Raises WhoUnclear."""
        word = who.strip().lower()
        if is_node_id(word):
            return word
        if len(word) < PREFIX_CHARS_MIN or not set(word) <= set("0123456789abcdef"):
            raise WhoUnclear(
                f"{who[:80]!r} is no id; give the 64 digits of a node or operator, "
                f"or at least the first {PREFIX_CHARS_MIN}"
            )
        found = sorted({name for name in self._names() if name.startswith(word)})
        if len(found) == 1:
            return found[0]
        if not found:
            raise WhoUnclear(f"nobody known here has an id that begins with {word}; give it whole")
        raise WhoUnclear(
            f"{len(found)} ids begin with {word}: {', '.join(found[:4])}; give more digits"
        )

    # --- inside

    @property
    def _is_full(self) -> bool:
        return len(self._decisions.named) >= DECISIONS_MAX

    def _names(self) -> Iterator[str]:
        yield from self._decisions.named
        yield from self.rules.allow | self.rules.deny | self.rules.trust | self.rules.own
        yield from self._known()
        for row in self._waiting.rows(self._now()):
            yield row.node
            yield row.operator

    def _decide(self, name: str, level: Trust, note: str) -> None:
        if self._is_full and name not in self._decisions.named:
            raise WhoUnclear(f"{DECISIONS_MAX} decisions are kept already; forget some first")
        self._keep(self._with(name, level, note))
        self._call_in()
        self.on_change()

    def _receive_guest(self, applicant: Applicant, verdict: Admitted) -> Verdict:
        invite = applicant.invite
        assert invite is not None
        # The level is noted for the node, so that a guest stays when the invite has expired.
        with_guest = self._with(applicant.node, verdict.trust, f"invite {invite.serial}")
        spent = self._decisions.invites.get(invite.serial) or SpentInvite(
            expires_s=invite.expires_s
        )
        if applicant.node not in spent.nodes:
            spent = msgspec.structs.replace(spent, nodes=(*spent.nodes, applicant.node))
        invites = {**with_guest.invites, invite.serial: spent}
        try:
            self._keep(msgspec.structs.replace(with_guest, invites=invites))
        except HomeUnusable as error:
            # An invite whose uses cannot be counted would admit without end.
            if _seldom():
                log.warning("invite_uncounted", extra={"why": str(error)})
            return judge(self.rules, self, replace(applicant, invite=None))
        self.on_change()
        return verdict

    def _with(self, name: str, level: Trust, note: str) -> Decisions:
        decision = Decision(who=name, level=level.word, when_s=int(self._now()), note=note)
        return msgspec.structs.replace(
            self._decisions, named={**self._decisions.named, name: decision}
        )

    def _keep(self, decisions: Decisions) -> None:
        now_s = self._now()
        invites = {
            serial: spent for serial, spent in decisions.invites.items() if spent.expires_s > now_s
        }
        decisions = msgspec.structs.replace(decisions, invites=invites)
        save(self._path, decisions)
        self._decisions = decisions

    def _call_in(self) -> None:
        """Those who waited for what was just said wait no longer."""
        for row in self._waiting.rows(self._now()):
            if not isinstance(judge(self.rules, self, row.applicant), Pending):
                self._waiting.discard(row.node)
