"""Which cortexes this neuron works for, and how it comes to know them.

A cortex may load models and use this machine, so it is obeyed only when it was
named by its ticket, or is of this neuron's operator, or - where no ticket was
given - was found on the local network. A neuron that has an operator takes from
the network none but that operator's cortexes.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection
from typing import Final

import anyio
from anyio.abc import TaskGroup

from helexa.mesh.discovery.advert import Found
from helexa.mesh.operators.credentials import Credentials
from helexa.mesh.operators.operator import CertificateRefused, identify
from helexa.mesh.sessions.session import Session
from helexa.mesh.ticket import Ticket
from helexa.protocol.ids import NodeId
from helexa.protocol.messages import Role

FOUND_MAX: Final = 16
"""Cortexes of one LAN that a neuron dials. More are there by mistake or by malice."""

log = logging.getLogger(__name__)

Keep = Callable[[Ticket], Awaitable[None]]
"""Keeps a session with that node until cancelled."""
IsConnected = Callable[[NodeId], bool]
"""Whether a session with that node stands."""


class Allegiance:
    """`unix` gives seconds since 1970. `takes_found` is whether the LAN may name cortexes."""

    def __init__(
        self,
        named: Collection[NodeId],
        credentials: Credentials,
        *,
        takes_found: bool,
        unix: Callable[[], float],
    ) -> None:
        self.takes_found = takes_found
        self._named = frozenset(named)
        self._credentials = credentials
        self._unix = unix
        self._found: dict[NodeId, tuple[Ticket, anyio.CancelScope]] = {}

    def obeys(self, session: Session) -> bool:
        """Whether the proven peer of `session` may use this neuron."""
        if session.hello.role is not Role.CORTEX:
            return False
        if session.peer in self._named:
            return True
        if self._credentials.certificate is not None:
            return self._is_of_this_operator(session)
        return session.peer in self._found

    def is_kin(self, session: Session) -> bool:
        """Whether the proven peer of `session` is a neuron of this neuron's operator."""
        certified = self._credentials.certificate is not None
        return certified and self._is_of_this_operator(session, Role.NEURON)

    def found(self, heard: Found, tasks: TaskGroup, keep: Keep, connected: IsConnected) -> None:
        """A node was heard on the LAN. Starts to dial it, once, where it may be worked for."""
        node = heard.ticket.node
        if not self.takes_found or heard.role != Role.CORTEX.value:
            return
        held = self._found.get(node)
        if held is not None:
            if held[0] == heard.ticket:
                return
            held[1].cancel()
        elif len(self._found) >= FOUND_MAX and not self._make_room(connected):
            return
        scope = anyio.CancelScope()
        self._found[node] = heard.ticket, scope
        log.info("cortex_found", extra={"node": node, "called": heard.name})
        tasks.start_soon(_within, scope, keep, heard.ticket)

    def _make_room(self, connected: IsConnected) -> bool:
        for node, (_, scope) in self._found.items():
            if not connected(node):
                scope.cancel()
                del self._found[node]
                return True
        return False

    def _is_of_this_operator(self, session: Session, role: Role = Role.CORTEX) -> bool:
        try:
            peer = identify(session.peer, session.hello.certificate, now_s=self._unix(), role=role)
        except CertificateRefused:
            return False
        ours = set(self._credentials.identities)
        return peer.certificate is not None and not ours.isdisjoint(peer.identities)


async def _within(scope: anyio.CancelScope, keep: Keep, ticket: Ticket) -> None:
    with scope:
        await keep(ticket)
