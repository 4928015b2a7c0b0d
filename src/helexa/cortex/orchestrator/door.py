"""Who may come in: what a link proves about its peer, brought before the gatekeeper.

The link has proven the key; the certificate in the peer's Hello says whose node
it is, an invite that this cortex asked it in. What the gatekeeper makes of that
becomes a standing, or a close code that tells the peer no more than it needs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from helexa.mesh.admission.gatekeeper import Gatekeeper
from helexa.mesh.admission.invites import InviteRefused, check_invite
from helexa.mesh.admission.rules import Admitted, Applicant, Denied, Pending, Verdict
from helexa.mesh.operators.operator import CertificateRefused, Identity, identify
from helexa.mesh.operators.revocation import RevocationBook
from helexa.mesh.sessions.handshake import CloseCode
from helexa.mesh.sessions.session import Session
from helexa.mesh.statements.plain_text import NAME_CHARS_MAX, plain
from helexa.mesh.trust import Standing, Trust
from helexa.protocol.ids import NodeId
from helexa.protocol.records import Invite
from helexa.util.logs import every
from helexa.util.nearby import is_near

DENIED: Final = "this cortex does not let you in"
PENDING: Final = "this cortex's operator has to approve you first"

log = logging.getLogger(__name__)
_seldom: Final = every(10.0)


@dataclass(frozen=True, slots=True)
class Guest:
    """A peer that was let in."""

    identity: Identity
    standing: Standing
    near: bool


class TurnedAway(Exception):
    """Not let in. `code` and the text are what the peer is told."""

    def __init__(self, code: CloseCode, told: str) -> None:
        super().__init__(told)
        self.code = code
        self.told = told


class Door:
    """`own` is this cortex's id; `unix` gives seconds since 1970."""

    def __init__(
        self,
        gatekeeper: Gatekeeper,
        book: RevocationBook,
        own: NodeId,
        *,
        unix: Callable[[], float],
    ) -> None:
        self.gatekeeper = gatekeeper
        self._book = book
        self._own = own
        self._unix = unix

    def let_in(self, session: Session) -> Guest:
        """The guest behind a new session. Raises TurnedAway, which it also logs.

        May spend an invite's use and may queue the peer for the operator: once per session.
        """
        near = is_near(session.link.remote_address)
        name = plain(session.hello.name, NAME_CHARS_MAX)
        try:
            identity = self._identify(session)
        except CertificateRefused as error:
            raise self._turned_away(session, Denied(f"its certificate {error.reason}")) from error
        verdict = self.gatekeeper.judge(
            Applicant(
                node=session.peer,
                operator=identity.operator,
                identities=identity.identities,
                role=session.hello.role,
                near=near,
                invite=self._invite(session),
                name=name,
                address=session.link.remote_address,
            )
        )
        if not isinstance(verdict, Admitted):
            raise self._turned_away(session, verdict)
        return Guest(identity, _standing(identity, verdict.trust, name), near)

    def look_again(self, session: Session, guest: Guest) -> Guest | None:
        """The guest as it stands now, None when it may stay no longer."""
        try:
            identity = self._identify(session)
        except CertificateRefused as error:
            log.info("guest_lost_its_word", extra={"node": session.peer, "why": error.reason})
            return None
        standing = self.gatekeeper.standing(
            session.peer, identity.identities, session.hello.role, near=guest.near
        )
        if standing.trust is Trust.DENIED:
            return None
        return Guest(identity, _standing(identity, standing.trust, guest.standing.name), guest.near)

    def _identify(self, session: Session) -> Identity:
        return identify(
            session.peer,
            session.hello.certificate,
            now_s=self._unix(),
            role=session.hello.role,
            is_revoked=self._book.is_revoked,
        )

    def _invite(self, session: Session) -> Invite | None:
        if not session.hello.invite:
            return None
        try:
            return check_invite(session.hello.invite, self._own, self._unix(), session.hello.role)
        except InviteRefused as error:
            if _seldom():
                log.info("invite_refused", extra={"node": session.peer, "why": error.reason})
            return None

    def _turned_away(self, session: Session, verdict: Denied | Pending) -> TurnedAway:
        if _seldom():
            log.info(
                "turned_away",
                extra={
                    "node": session.peer,
                    "role": session.hello.role.value,
                    "verdict": type(verdict).__name__.lower(),
                    "why": verdict.why,
                    "missed": _seldom.missed,
                },
            )
        if isinstance(verdict, Pending):
            return TurnedAway(CloseCode.PENDING, PENDING)
        return TurnedAway(CloseCode.DENIED, DENIED)


def _standing(identity: Identity, trust: Trust, name: str) -> Standing:
    certificate = identity.certificate
    return Standing(
        node=identity.node,
        operator=identity.operator,
        trust=trust,
        name=name or (certificate.name if certificate else ""),
        region=certificate.region if certificate else "",
    )


__all__ = ["DENIED", "PENDING", "Door", "Guest", "TurnedAway", "Verdict"]
