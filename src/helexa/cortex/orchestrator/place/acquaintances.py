"""Who the others are to this cortex: what membership tells of them, and how far they are trusted.

What happens in the mesh is passed on from here to whoever has to know: the
peers that work is borrowed of, the cache of tickets, the operator.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Final, assert_never

import anyio

from helexa.cortex.orchestrator.place.parts import Parts
from helexa.mesh.membership.events import (
    Changed,
    Cleared,
    ClockOff,
    Died,
    Doubled,
    Event,
    Forgotten,
    Joined,
    Left,
    Member,
    Rejected,
    Suspected,
)
from helexa.mesh.statements.records import SignedRecord
from helexa.mesh.ticket import Ticket
from helexa.mesh.trust import Standing, Trust
from helexa.protocol.ids import NodeId

LOOK_AGAIN_S: Final = 60.0
"""At standing sessions: certificates expire, lists of revoked nodes arrive."""

log = logging.getLogger(__name__)


class Acquaintances:
    """Called on the event loop alone."""

    def __init__(self, parts: Parts) -> None:
        self.clock_off_s = 0.0
        """How far this machine's clock is ahead of the others'; 0 while nothing is known."""
        self.doubles = 0
        """How often another machine was seen to use this node's key."""
        self._parts = parts
        self._trusted: dict[NodeId, Trust] = {}
        self._news = anyio.Event()
        self._to_reconsider = anyio.Event()

    def trust_in(self, signed: SignedRecord) -> Trust:
        """How far the node of a proven record is trusted; DENIED keeps it out."""
        # A record is proven once; its operator may take its word back later.
        if signed.certificate and self._parts.book.is_revoked(signed.operator, signed.node):
            return Trust.DENIED
        return self._parts.gatekeeper.admits(signed.node, signed.identities)

    def partners(self) -> Collection[NodeId]:
        """Whom to stay linked with: those that may be asked for work, the most trusted first."""
        level = self._parts.peers.terms.borrow_from
        if level is None:
            return ()
        chosen = [node for node, trust in self._trusted.items() if trust >= level]
        return sorted(chosen, key=lambda node: -self._trusted[node])

    def standing_of(self, node: NodeId) -> Standing:
        """Who that node is here: by its record, else by what its session proved."""
        member = self._parts.overlay.core.members.get(node)
        if member is not None:
            return self.standing_by(member.signed)
        guest = self._parts.links.guest(node)
        if guest is not None:
            return guest.standing
        return Standing(node=node, operator=self._parts.own.operator, trust=Trust.DENIED)

    def is_own(self, node: NodeId) -> bool:
        """Whether that node is of this cortex's operator, and its word was not taken back."""
        member = self._parts.overlay.core.members.get(node)
        if member is not None:
            return self.trust_in(member.signed) is Trust.OWN
        guest = self._parts.links.guest(node)
        return guest is not None and guest.standing.trust is Trust.OWN

    def standing_by(self, signed: SignedRecord) -> Standing:
        return self._parts.gatekeeper.standing(
            signed.node, signed.identities, name=signed.record.name, region=signed.region
        )

    async def news(self) -> None:
        """Return when something happened in the mesh."""
        await self._news.wait()

    # --- what happens

    def observe(self, event: Event) -> None:
        """The overlay's observer."""
        peers = self._parts.peers
        match event:
            case Joined(member):
                # Its record was taken, so it is of about this moment by the clock here.
                self.clock_off_s = 0.0
                self._learn(member)
                self._tell(member, "alive")
            case Changed(member):
                self._learn(member)
            case Suspected(member):
                self._tell(member, "suspect")
            case Cleared(member):
                self._tell(member, "alive")
            case Died(member, reason):
                peers.forget(member.node, f"not answering: {reason}", is_silent=True)
                self._tell(member, "dead", reason)
            case Left(member):
                peers.forget(member.node, "left the mesh")
                self._tell(member, "left")
            case Forgotten(node, reason):
                peers.forget(node, reason)
                self._trusted.pop(node, None)
                self._parts.emit({"event": "member", "node_id": node, "state": "forgotten"})
            case Doubled(instance):
                self._is_doubled(instance)
            case ClockOff(seconds):
                self._clock_is_off(seconds)
            case Rejected():
                pass  # Counted by the core.
            case _:
                assert_never(event)
        news, self._news = self._news, anyio.Event()
        news.set()

    def forget_all(self, reason: str) -> None:
        """None of them is a member of anything that this cortex is in any more."""
        for node in self._trusted:
            self._parts.peers.forget(node, reason)
        self._trusted.clear()

    # --- admission

    def admission_changed(self) -> None:
        """Something was decided at run time: links and members are looked at again, soon."""
        self._to_reconsider.set()

    async def look_again(self) -> None:
        """At every session and member, whenever something was decided, and now and then."""
        while True:
            with anyio.move_on_after(LOOK_AGAIN_S):
                await self._to_reconsider.wait()
            self._to_reconsider = anyio.Event()
            await self._parts.links.reconsider()
            overlay = self._parts.overlay
            overlay.reconsider()
            self._trusted = {
                node: self.trust_in(member.signed) for node, member in overlay.core.members.items()
            }
            self._parts.peers.reconsider(self.standing_of)

    # ---

    def _learn(self, member: Member) -> None:
        standing = self.standing_by(member.signed)
        self._trusted[member.node] = standing.trust
        record = member.signed.record
        self._parts.peers.gossiped(member.node, standing, record)
        self._parts.cache.remember(
            Ticket(node=member.node, addresses=record.addresses), self._parts.unix()
        )

    def _tell(self, member: Member, state: str, reason: str = "") -> None:
        name = member.signed.record.name
        log.info("member_%s", state, extra={"node": member.node, "called": name, "why": reason})
        self._parts.emit(
            {
                "event": "member",
                "node_id": member.node,
                "name": name,
                "state": state,
                "reason": reason,
            }
        )

    def _is_doubled(self, instance: str) -> None:
        self.doubles += 1
        log.error(
            "another machine uses this node's key: stop one of the two, or give one a key of "
            "its own",
            extra={"instance": instance},
        )
        self._parts.emit({"event": "doubled", "instance": instance})

    def _clock_is_off(self, seconds: float) -> None:
        self.clock_off_s = seconds
        side = "ahead of" if seconds > 0 else "behind"
        log.error(
            "this machine's clock is %.0f s %s the others': they do not take its records",
            abs(seconds),
            side,
        )
        self._parts.emit({"event": "clock_off", "seconds": round(seconds, 1)})
