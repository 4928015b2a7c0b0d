"""What a cortex does with the mesh sessions that reach it, once the door let them in.

A neuron gets a reception; another cortex takes part in the mesh (gossip goes to
the overlay) and in the federation (offers and streams go to the peers).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import get_args
from weakref import WeakKeyDictionary

import anyio

from helexa.cortex.orchestrator.door import DENIED, Door, Guest, TurnedAway
from helexa.cortex.orchestrator.federation.peers import Peers
from helexa.cortex.orchestrator.neurons import Neurons
from helexa.cortex.orchestrator.reception import Reception
from helexa.mesh.overlay import Overlay
from helexa.mesh.sessions.handshake import CloseCode
from helexa.mesh.sessions.session import Inbound, Session
from helexa.mesh.transport import Stream
from helexa.mesh.trust import Standing
from helexa.protocol.errors import NotAllowed
from helexa.protocol.gossip import Gossip
from helexa.protocol.ids import NodeId
from helexa.protocol.messages import ExecuteRequest, Role, Wire

_log = logging.getLogger(__name__)

_GOSSIP = get_args(Gossip)


class Links:
    """The cortex's `helexa.mesh.node.Host`."""

    def __init__(self, neurons: Neurons, door: Door, peers: Peers) -> None:
        self._neurons = neurons
        self._door = door
        self._peers = peers
        self._overlay: Overlay | None = None
        self._opened = anyio.Event()
        self._guests: WeakKeyDictionary[Session, Guest | TurnedAway] = WeakKeyDictionary()
        self._receptions: WeakKeyDictionary[Session, Reception] = WeakKeyDictionary()

    def open(self, overlay: Overlay) -> None:
        """Sessions are attended from now on; those that came before waited for it."""
        self._overlay = overlay
        self._opened.set()

    def guests(self) -> Iterator[tuple[Session, Guest]]:
        """Every session that was let in and has not ended."""
        for session, guest in list(self._guests.items()):
            if isinstance(guest, Guest) and session.ended is None:
                yield session, guest

    def guest(self, node: NodeId) -> Guest | None:
        """What a standing session proved about that node."""
        return next((guest for session, guest in self.guests() if session.peer == node), None)

    def may_stay(self, session: Session) -> bool:
        """Whether that session would be let in as things are decided now."""
        guest = self._guests.get(session)
        return isinstance(guest, Guest) and self._door.look_again(session, guest) is not None

    async def reconsider(self) -> int:
        """Admission changed: who may stay no longer is shown out. How many sessions ended."""
        ended = 0
        for session, guest in self.guests():
            now = self._door.look_again(session, guest)
            if now is None:
                ended += 1
                self._guests[session] = TurnedAway(CloseCode.DENIED, DENIED)
                await session.close(CloseCode.DENIED, DENIED)
            else:
                self._guests[session] = now
        return ended

    # --- the host

    async def on_session(self, session: Session) -> None:
        await self._opened.wait()
        try:
            guest = self._let_in(session)
            if isinstance(guest, TurnedAway):
                await session.close(guest.code, guest.told)
            elif session.hello.role is Role.NEURON:
                await self._reception(session).attend(session)
            else:
                await self._attend_cortex(session, guest.standing)
        finally:
            self._receptions.pop(session, None)
            self._guests.pop(session, None)

    async def on_message(self, inbound: Inbound) -> Wire | None:
        session = inbound.session
        # A message can be handled before the session's own task ran for the first time.
        await self._opened.wait()
        if session.ended is not None or isinstance(self._let_in(session), TurnedAway):
            raise NotAllowed
        if session.hello.role is Role.NEURON:
            return await self._reception(session).on_message(inbound)
        if isinstance(inbound.message, _GOSSIP):
            assert self._overlay is not None
            self._overlay.hear(session, inbound.message)
            return None
        return await self._peers.on_message(inbound)

    async def on_stream(self, session: Session, request: ExecuteRequest, stream: Stream) -> None:
        await self._opened.wait()
        admitted = session.ended is None and isinstance(self._let_in(session), Guest)
        if admitted and session.hello.role is Role.CORTEX:
            await self._peers.on_stream(session, request, stream)
        else:
            # Neurons execute; they do not ask to be executed for.
            _log.info("stream_refused", extra={"node": session.peer})

    async def _attend_cortex(self, session: Session, standing: Standing) -> None:
        assert self._overlay is not None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._overlay.attend, session)
            tasks.start_soon(self._peers.attend, session, standing)

    def _let_in(self, session: Session) -> Guest | TurnedAway:
        found = self._guests.get(session)
        if found is None:
            try:
                found = self._door.let_in(session)
            except TurnedAway as away:
                found = away
            self._guests[session] = found
        return found

    def _reception(self, session: Session) -> Reception:
        found = self._receptions.get(session)
        if found is None:
            found = self._receptions[session] = self._neurons.reception()
        return found
