"""What an operator sees and does about the mesh of a running cortex: a `MeshControl`."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from helexa.cortex.orchestrator.federation.terms import Terms
from helexa.cortex.orchestrator.mesh_control import (
    Decision,
    InviteWish,
    MeshStatus,
    OnStep,
    PeerRow,
    PendingRow,
    Ping,
)
from helexa.cortex.orchestrator.place.acquaintances import Acquaintances
from helexa.cortex.orchestrator.place.entry import Entry
from helexa.cortex.orchestrator.place.parts import Parts
from helexa.mesh.admission.gatekeeper import WhoUnclear
from helexa.mesh.admission.invites import issue_invite
from helexa.mesh.membership.events import Member
from helexa.mesh.sessions.handshake import HandshakeFailed
from helexa.mesh.sessions.session import AnswerTimeout, PeerRefused, PeerUnsupported
from helexa.mesh.ticket import Ticket
from helexa.mesh.transport import DialFailed, LinkClosed
from helexa.mesh.trust import Trust
from helexa.protocol.errors import PeerLost, RequestRejected, UpstreamTimeout
from helexa.protocol.ids import NodeId
from helexa.protocol.messages import RequestHealth, Role
from helexa.util.home import HomeUnusable

PEERS_SHOWN_MAX: Final = 10_000
PING_S: Final = 5.0


class Control:
    def __init__(self, parts: Parts, acquaintances: Acquaintances, entry: Entry) -> None:
        self._parts = parts
        self._acquaintances = acquaintances
        self._entry = entry
        self._own = parts.own

    async def join(self, ticket: str, on_step: OnStep) -> Mapping[str, Any]:
        """See `MeshControl.join`."""
        return await self._entry.join(ticket, on_step)

    async def leave(self) -> None:
        """See `MeshControl.leave`."""
        await self._entry.leave()

    # --- what an operator sees

    def status(self) -> MeshStatus:
        """See `MeshControl.status`."""
        parts = self._parts
        core = self._parts.overlay.core
        certificate = parts.credentials.certificate
        members = Counter(member.state.value for member in core.members.values())
        sent, received = self._parts.overlay.traffic()
        rules = parts.gatekeeper.rules
        denied = {one.who for one in parts.gatekeeper.decisions() if one.trust is Trust.DENIED}
        return MeshStatus(
            node=self._own.node,
            operator=self._own.operator,
            operator_name=certificate.name if certificate else "",
            certificate={}
            if certificate is None
            else {
                "serial": certificate.serial,
                "roles": list(certificate.roles),
                "issued_s": certificate.issued_s,
                "expires_s": certificate.expires_s,
                "region": certificate.region,
                "contact": certificate.contact,
            },
            ticket=self.ticket(None),
            addresses={
                name: [str(transport.bound)]
                for name, transport in self._parts.node.transports.items()
            },
            preset=parts.settings.mesh.preset,
            admission=parts.settings.mesh.admission,
            neurons=parts.settings.mesh.neurons,
            joined=not self._parts.overlay.is_out,
            members=dict(members),
            neighbours=len(core.neighbours),
            pending=len(parts.gatekeeper.pending()),
            denied=len(denied | rules.deny),
            rejected=dict(core.counters.rejected),
            traffic={"sent_bytes": sent, "received_bytes": received},
            clock_off_s=round(self._acquaintances.clock_off_s, 1),
            policy={
                name: row["value"]
                for name, row in parts.policy.shown().items()
                if "mesh policy" in str(row["origin"])
            },
        )

    def peers(self) -> Sequence[PeerRow]:
        """See `MeshControl.peers`."""
        now_s = time.monotonic()
        core = self._parts.overlay.core
        rows = [self._row(member, now_s, core.neighbours) for member in core.members.values()]
        rows.sort(key=lambda row: (row.state != "alive", row.name, row.node))
        return rows[:PEERS_SHOWN_MAX]

    def _row(self, member: Member, now_s: float, neighbours: Collection[NodeId]) -> PeerRow:
        record, certificate = member.signed.record, member.signed.certificate
        standing = self._acquaintances.standing_by(member.signed)
        session = self._parts.overlay.session_with(member.node)
        addresses = [f"{name} {some[0]}" for name, some in record.addresses.items() if some]
        rtt_s = session.link.rtt_s if session is not None else None
        return PeerRow(
            node=member.node,
            operator=member.signed.operator,
            name=record.name,
            operator_name=certificate.name if certificate else "",
            region=member.signed.region,
            trust=standing.trust.word,
            state=member.state.value,
            since_s=0.0 if member.since_s is None else round(now_s - member.since_s, 1),
            neighbour=member.node in neighbours,
            link=session.transport if session is not None else "",
            rtt_ms=round(rtt_s * 1000, 3) if rtt_s is not None else None,
            offers=self._parts.peers.offered_by(member.node),
            withheld=self._parts.peers.withheld_by(member.node),
            agent=record.agent,
            sequence=record.sequence,
            address=session.link.remote_address if session is not None else "".join(addresses[:1]),
            note=self._parts.peers.note(member.node),
        )

    def ticket(self, invite: InviteWish | None) -> str:
        """See `MeshControl.ticket`."""
        ticket = self._parts.node.ticket()
        if invite is None:
            return str(ticket)
        try:
            sealed = issue_invite(
                self._parts.key.sign,
                self._own.node,
                now_s=self._parts.unix(),
                expires_in_s=invite.expires_s,
                uses=invite.uses,
                role=Role(invite.role) if invite.role else None,
                trust=Trust.of(invite.trust),
            )
        except ValueError as error:
            raise RequestRejected(f"{error}.", "invite") from error
        return str(Ticket(node=ticket.node, addresses=ticket.addresses, invite=sealed))

    async def ping(self, node: NodeId) -> Ping:
        """See `MeshControl.ping`."""
        began_s = time.monotonic()
        standing = self._parts.overlay.session_with(node)
        try:
            session = standing or await self._parts.overlay.connect(node)
            connected_s = time.monotonic()
            # What another cortex answers to this does not matter; that it answers does.
            with suppress(PeerRefused, PeerUnsupported):
                await session.ask(RequestHealth(), timeout_s=PING_S)
        except (DialFailed, HandshakeFailed, LinkClosed) as error:
            raise PeerLost(f"{node[:10]} cannot be reached: {error}.") from error
        except AnswerTimeout as error:
            raise UpstreamTimeout(f"{node[:10]} did not answer within {PING_S:g} s.") from error
        ended_s = time.monotonic()
        return Ping(
            node=node,
            transport=session.transport,
            rtt_ms=round((ended_s - connected_s) * 1000, 3),
            dialled_ms=None if standing else round((connected_s - began_s) * 1000, 3),
            name=self._acquaintances.standing_of(node).name,
            address=session.link.remote_address,
        )

    # --- what an operator decides

    def pending(self) -> Sequence[PendingRow]:
        """See `MeshControl.pending`."""
        now_s = self._parts.unix()
        return [
            PendingRow(
                node=row.node,
                operator=row.operator,
                role=row.role.value,
                name=row.name,
                address=row.address,
                since_s=round(now_s - row.first_s, 1),
                seen_s=round(now_s - row.last_s, 1),
            )
            for row in self._parts.gatekeeper.pending()
        ]

    def approve(self, who: str, trust: str) -> Decision:
        """See `MeshControl.approve`."""
        level = Trust.of(trust)
        return self._decided(lambda: self._parts.gatekeeper.approve(who, level))

    def deny(self, who: str) -> Decision:
        """See `MeshControl.deny`."""
        return self._decided(lambda: self._parts.gatekeeper.deny(who))

    def trust(self, who: str, level: str) -> Decision:
        """See `MeshControl.trust`."""
        return self._decided(lambda: self._parts.gatekeeper.trust(who, Trust.of(level)))

    def forget(self, who: str) -> Decision:
        """See `MeshControl.forget`."""
        return self._decided(lambda: self._parts.gatekeeper.forget(who))

    def _decided(self, decide: Callable[[], str]) -> Decision:
        before = [session for session, _ in self._parts.links.guests()]
        try:
            who = decide()
        except (WhoUnclear, HomeUnusable) as error:
            raise RequestRejected(f"{error}.", "who") from error
        said = self._parts.gatekeeper.decided(who)
        closed = sum(not self._parts.links.may_stay(session) for session in before)
        return Decision(
            who=who, trust="by the settings" if said is None else said.word, closed=closed
        )

    def policy(self) -> Mapping[str, Mapping[str, Any]]:
        """See `MeshControl.policy`."""
        return self._parts.policy.shown()

    def set_policy(
        self, changes: Mapping[str, Any], unset: Collection[str]
    ) -> Mapping[str, Mapping[str, Any]]:
        """See `MeshControl.set_policy`."""
        self._parts.peers.set_terms(Terms.of(self._parts.policy.change(changes, unset)))
        return self._parts.policy.shown()
