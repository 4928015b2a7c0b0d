"""How this cortex comes into a mesh, and how it leaves one for good."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

import anyio

from helexa.cortex.orchestrator.mesh_control import OnStep
from helexa.cortex.orchestrator.place.acquaintances import Acquaintances
from helexa.cortex.orchestrator.place.parts import Parts
from helexa.mesh.discovery.join import Outcome, Reply, as_json, join
from helexa.mesh.overlay import NotIntroduced
from helexa.mesh.sessions.handshake import CloseCode, HandshakeFailed
from helexa.mesh.sessions.session import Session
from helexa.mesh.ticket import Ticket
from helexa.mesh.transport import DialFailed, Link, LinkClosed
from helexa.protocol.errors import RequestRejected
from helexa.protocol.ids import NodeId

LEFT_FILE: Final = "left"
"""There while this cortex stays out of the mesh on its operator's word."""
FELLOW_S: Final = 1.5
"""From the first word of the other cortex to its record being taken here, or its clock odd."""
_CLOSED: Final = {
    int(CloseCode.DENIED): Outcome.DENIED,
    int(CloseCode.PENDING): Outcome.PENDING,
}

log = logging.getLogger(__name__)


class Entry:
    def __init__(self, parts: Parts, acquaintances: Acquaintances) -> None:
        self._parts = parts
        self._acquaintances = acquaintances

    # --- by itself

    def is_alone(self) -> bool:
        """Nobody else is known to be alive: worth looking for others."""
        overlay = self._parts.overlay
        return not overlay.is_out and overlay.core.present <= 1

    async def join_one(self, ticket: Ticket, source: str) -> bool:
        """Try to become a fellow member of that node; whether it is one now."""
        overlay = self._parts.overlay
        if overlay.is_out:
            return False
        if self._is_fellow(ticket.node):
            return True
        try:
            await overlay.introduce(ticket)
        except (DialFailed, HandshakeFailed, LinkClosed, NotIntroduced) as error:
            log.info("not_joined", extra={"node": ticket.node, "by": source, "why": str(error)})
            return False
        self._parts.cache.remember(ticket, self._parts.unix())
        return True

    # --- on the operator's word

    async def join(self, ticket: str, on_step: OnStep) -> Mapping[str, Any]:
        """See `MeshControl.join`."""
        (self._parts.settings.home / LEFT_FILE).unlink(missing_ok=True)
        if self._acquaintances.clock_off_s:
            # The clock may have been set right since. What was signed and refused by the wrong
            # one would stand in the way for minutes.
            self._acquaintances.clock_off_s = 0.0
            await self._parts.overlay.leave()
        self._parts.overlay.come_back()
        made: list[Session] = []

        async def connect(ticket: Ticket, *, timeout_s: float) -> int:
            made.append(await self._parts.node.connect(ticket, timeout_s=timeout_s))
            return made[-1].version

        async def admitted(node: NodeId) -> Reply:  # noqa: ARG001 - that of the session
            return await self._admitted(made[-1])

        report = await join(
            ticket,
            self._dial,
            connect,
            admitted,
            self._synced,
            own=self._parts.key.node_id,
            transports=tuple(self._parts.node.transports),
            on_step=lambda step: on_step(as_json(step)),
        )
        if report.joined:
            self._parts.cache.remember(Ticket.parse(ticket), self._parts.unix())
        return report.as_json()

    async def leave(self) -> None:
        """See `MeshControl.leave`."""
        marker = self._parts.settings.home / LEFT_FILE
        try:
            marker.touch(0o600)
        except OSError as error:
            raise RequestRejected(f"{marker} cannot be written: {error.strerror}.") from error
        await self._parts.overlay.leave()
        self._acquaintances.forget_all("this cortex left the mesh")

    # --- the steps of a join

    async def _dial(self, transport: str, node: NodeId, address: str, *, timeout_s: float) -> Link:
        opened = self._parts.node.transports[transport]
        return await opened.dial(node, [address], timeout_s=timeout_s)

    async def _admitted(self, session: Session) -> Reply:
        node = session.peer
        try:
            await self._parts.overlay.heard_from(session)
        except LinkClosed as closed:
            outcome = _CLOSED.get(closed.code if closed.code is not None else -1, Outcome.FAILED)
            return Reply(outcome, closed.reason)
        except NotIntroduced as silent:
            return Reply(Outcome.FAILED, str(silent))
        acquaintances = self._acquaintances
        with anyio.move_on_after(FELLOW_S):
            while not self._is_fellow(node) and not acquaintances.clock_off_s:
                await acquaintances.news()
        if acquaintances.clock_off_s and not self._is_fellow(node):
            return Reply(Outcome.FAILED, "the clocks differ", acquaintances.clock_off_s)
        return Reply(Outcome.OK)

    async def _synced(self, node: NodeId) -> int:
        while not self._is_fellow(node):
            await self._acquaintances.news()
        return max(self._parts.overlay.core.present - 1, 0)

    def _is_fellow(self, node: NodeId) -> bool:
        member = self._parts.overlay.core.members.get(node)
        return member is not None and member.is_present
