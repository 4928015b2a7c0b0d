"""A cortex among the others: the loop that feeds the membership core from clock and links.

The core decides (`mesh/membership`), this performs: it sends what the core wants
sent, over the session that stands or over one made for it, keeps links to the
neighbours that the core picked and to the partners that this node's operator
works with, and lets go of links that nobody uses.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager, suppress
from typing import Final

import anyio
from anyio.abc import TaskGroup

from helexa.mesh.membership.core import Membership
from helexa.mesh.membership.events import Event, Moment, Out, Rejected
from helexa.mesh.node import MeshNode
from helexa.mesh.sessions.handshake import CloseCode, HandshakeFailed
from helexa.mesh.sessions.session import Session
from helexa.mesh.ticket import Ticket
from helexa.mesh.transport import DialFailed, LinkClosed
from helexa.protocol.gossip import Gossip
from helexa.protocol.ids import NodeId
from helexa.protocol.records import Record
from helexa.util.background import background
from helexa.util.backoff import Backoff
from helexa.util.logs import every

log = logging.getLogger(__name__)

REACH_S: Final = 3.0
"""To a link, for something that waits to be said. Longer than any probe of it is worth."""
REACHING_MAX: Final = 32
"""Dials at once: beyond that what waits is dropped, as gossip may be."""
WAITING_PER_PEER_MAX: Final = 16
PARTNERS_MAX: Final = 64
LEAVING: Final = "this cortex leaves the mesh"
IDLE_S: Final = 60.0
"""A link that this node dialled to say one thing is closed after this long without use."""
ANSWER_S: Final = 5.0
"""A cortex that admits this one begins to gossip within one of its ticks."""
LOOK_EVERY_S: Final = 0.5
"""At the links that should stand, and those that nobody uses."""
AGAIN: Final = Backoff(first_s=0.5, factor=2.0, most_s=20.0)


_seldom: Final = every(10.0)


class NotIntroduced(Exception):
    """A link was made and came to nothing: the peer closed it, or said nothing. Says which."""


class _Peer:
    """What this node remembers of a peer beside its record."""

    __slots__ = ("failures", "heard", "reaching", "sessions", "try_at_s", "used_s", "waiting")

    def __init__(self) -> None:
        self.sessions: list[Session] = []
        self.heard = anyio.Event()
        self.waiting: list[Gossip] = []
        self.reaching = False
        self.failures = 0
        self.try_at_s = 0.0
        self.used_s = 0.0


class Overlay:
    """Made by `running`. Calls are of the event loop's thread."""

    def __init__(
        self,
        node: MeshNode,
        make_core: Callable[[], Membership],
        *,
        now: Callable[[], Moment],
        jitter: Callable[[], float],
        observe: Callable[[Event], None],
        partners: Callable[[], Collection[NodeId]],
        is_out: bool,
    ) -> None:
        self.core = make_core()
        self.is_out = is_out
        """Takes part in nothing, on the operator's word, until `come_back`."""
        self._traffic = (0, 0)
        """Of sessions that ended."""
        self._node = node
        self._make_core = make_core
        self._now = now
        self._jitter = jitter
        self._observe = observe
        self._partners = partners
        self._draft: Record | None = None
        self._peers: dict[NodeId, _Peer] = {}
        self._reaching = 0
        self._sleeps_until_s = 0.0
        self._poked = anyio.Event()
        self._tasks: TaskGroup

    @classmethod
    @asynccontextmanager
    async def running(
        cls,
        node: MeshNode,
        make_core: Callable[[], Membership],
        *,
        now: Callable[[], Moment],
        jitter: Callable[[], float],
        observe: Callable[[Event], None] = lambda _event: None,
        partners: Callable[[], Collection[NodeId]] = tuple,
        is_out: bool = False,
    ) -> AsyncIterator[Overlay]:
        """Take part inside the block; on leaving it the neighbours are told.

        `observe` hears every event of the core but rejections, at once and on the
        loop, and must not fail. `partners` names nodes to stay linked with beside
        the core's neighbours; more than PARTNERS_MAX are cut. `jitter` gives
        numbers in 0..1.
        """
        overlay = cls(
            node,
            make_core,
            now=now,
            jitter=jitter,
            observe=observe,
            partners=partners,
            is_out=is_out,
        )
        async with background() as tasks:
            overlay._tasks = tasks
            tasks.start_soon(overlay._keep_time)
            tasks.start_soon(overlay._keep_links)
            try:
                yield overlay
            finally:
                overlay._say_goodbye()

    # --- for the host of the sessions

    async def attend(self, session: Session) -> None:
        """Live with the session of an admitted cortex until it ends."""
        if self.is_out:
            await session.close(reason="this cortex left the mesh")
            return
        peer = self._peer(session.peer)
        peer.sessions.append(session)
        # Reached, by whichever side: failures of before say nothing about the next dial.
        peer.failures, peer.try_at_s, peer.used_s = 0, 0.0, self._now().monotonic_s
        self._perform(self.core.link_up(self._now(), session.peer))
        try:
            await session.wait_closed()
        finally:
            peer.sessions.remove(session)
            sent, received = self._traffic
            self._traffic = sent + session.bytes_sent, received + session.bytes_read
            if not peer.sessions:
                peer.heard = anyio.Event()
                self._perform(self.core.link_down(self._now(), session.peer))
                self._forget_if_idle(session.peer)

    def hear(self, session: Session, message: Gossip) -> None:
        """Take what an admitted cortex told. Never raises for what a peer can send."""
        if self.is_out:
            return
        peer = self._peer(session.peer)
        peer.heard.set()
        peer.used_s = self._now().monotonic_s
        self._perform(self.core.receive(self._now(), session.peer, message), asked=session)

    # --- for this node

    def publish(self, draft: Record) -> None:
        """Say something new of this node to the mesh, as soon as that is fair to the others."""
        self._draft = draft
        if not self.is_out:
            self._perform(self.core.publish(self._now(), draft))

    def reconsider(self) -> None:
        """Admission changed: members that are not let in any more go, sessions are the host's."""
        if not self.is_out:
            self._perform(self.core.reconsider(self._now()))

    async def introduce(self, ticket: Ticket, *, timeout_s: float = ANSWER_S) -> Session:
        """A session with that cortex which gossips with us: so it has let us in.

        Raises DialFailed, HandshakeFailed, LinkClosed, and NotIntroduced when it
        closed the link or said nothing within `timeout_s`.
        """
        session = await self._node.connect(ticket, timeout_s=timeout_s)
        await self.heard_from(session, timeout_s=timeout_s)
        return session

    async def heard_from(self, session: Session, *, timeout_s: float = ANSWER_S) -> None:
        """Return once that peer gossips. Raises LinkClosed, NotIntroduced."""
        peer = self._peer(session.peer)
        with anyio.move_on_after(timeout_s):
            async with anyio.create_task_group() as tasks:

                async def until_closed() -> None:
                    await session.wait_closed()
                    tasks.cancel_scope.cancel()

                tasks.start_soon(until_closed)
                await peer.heard.wait()
                tasks.cancel_scope.cancel()
        if session.ended is not None:
            raise LinkClosed(session.ended.reason, session.ended.code)
        if not peer.heard.is_set():
            raise NotIntroduced(f"no word about the mesh within {timeout_s:g} s")

    async def connect(self, node: NodeId) -> Session:
        """A session with a member. Raises DialFailed, HandshakeFailed or LinkClosed."""
        standing = self.session_with(node)
        if standing is not None:
            self._peer(node).used_s = self._now().monotonic_s
            return standing
        ticket = self.ticket_of(node)
        if ticket is None:
            raise DialFailed("no address of that node is known")
        return await self._node.connect(ticket, timeout_s=REACH_S)

    def session_with(self, node: NodeId) -> Session | None:
        """The newest session with that cortex that was let in and has not ended."""
        peer = self._peers.get(node)
        for session in reversed(peer.sessions if peer else ()):
            if session.ended is None:
                return session
        return None

    def traffic(self) -> tuple[int, int]:
        """Bytes of control messages sent to and read from cortexes since the start."""
        sent, received = self._traffic
        for peer in self._peers.values():
            for session in peer.sessions:
                sent, received = sent + session.bytes_sent, received + session.bytes_read
        return sent, received

    def ticket_of(self, node: NodeId) -> Ticket | None:
        """Where that member can be dialled, by its own record."""
        member = self.core.members.get(node)
        if member is None or not member.signed.record.addresses:
            return None
        return Ticket(node=node, addresses=member.signed.record.addresses)

    async def leave(self) -> None:
        """Say goodbye to the mesh and stay out of it, until `come_back`."""
        self._say_goodbye()
        # Closing a link outright would lose the goodbye that was just said on it.
        async with anyio.create_task_group() as tasks:
            for peer in self._peers.values():
                for session in peer.sessions:
                    tasks.start_soon(session.part, CloseCode.NORMAL, LEAVING)

    def come_back(self) -> None:
        """Take part again, knowing nobody."""
        if self.is_out:
            self.is_out = False
            self.core = self._make_core()
            if self._draft is not None:
                self.publish(self._draft)

    # --- the loop

    async def _keep_time(self) -> None:
        while True:
            if not self.is_out and self.core.wake_s <= self._now().monotonic_s:
                self._perform(self.core.tick(self._now()))
            now_s = self._now().monotonic_s
            self._sleeps_until_s = min(self.core.wake_s, now_s + LOOK_EVERY_S)
            self._poked = anyio.Event()
            with anyio.move_on_after(max(self._sleeps_until_s - now_s, 0.0)):
                await self._poked.wait()

    async def _keep_links(self) -> None:
        while True:
            await anyio.sleep(LOOK_EVERY_S * (0.75 + 0.5 * self._jitter()))
            if not self.is_out:
                self._look_at_links()

    def _perform(self, out: Out, asked: Session | None = None) -> None:
        for node, message in out.sends:
            self._send(node, message, asked)
        for event in out.events:
            if not isinstance(event, Rejected):
                self._observe(event)
            elif _seldom():
                log.info(
                    "gossip_rejected",
                    extra={
                        "reason": event.reason,
                        "peer": event.sender,
                        "missed": _seldom.missed,
                    },
                )
        if self.core.wake_s < self._sleeps_until_s:
            self._poked.set()

    def _send(self, node: NodeId, message: Gossip, asked: Session | None) -> None:
        # An answer goes back the way the question came: two machines with one key both have
        # a link here, and each has to learn of the other.
        is_answer = asked is not None and asked.peer == node and asked.ended is None
        session = asked if is_answer else self.session_with(node)
        if session is not None:
            session.tell_or_drop(message)
            return
        peer = self._peer(node)
        if len(peer.waiting) < WAITING_PER_PEER_MAX:
            peer.waiting.append(message)
        self._reach_for(node, peer)

    def _look_at_links(self) -> None:
        now_s = self._now().monotonic_s
        kept = {*self.core.neighbours, *list(self._partners())[:PARTNERS_MAX]}
        for node in kept:
            peer = self._peer(node)
            peer.used_s = now_s
            if not peer.sessions:
                self._reach_for(node, peer)
        for node, peer in list(self._peers.items()):
            if now_s - peer.used_s > IDLE_S:
                for session in peer.sessions:
                    # Whoever dialled lets go: the other side may want the link for itself,
                    # and dials then.
                    if session.dialled:
                        self._tasks.start_soon(_let_go, session)
                self._forget_if_idle(node)

    def _reach_for(self, node: NodeId, peer: _Peer) -> None:
        now_s = self._now().monotonic_s
        if peer.reaching or now_s < peer.try_at_s or self._reaching >= REACHING_MAX:
            if not peer.reaching:
                peer.waiting.clear()
            return
        ticket = self.ticket_of(node)
        if ticket is None:
            peer.waiting.clear()
            return
        peer.reaching = True
        self._reaching += 1
        self._tasks.start_soon(self._reach, ticket, peer)

    async def _reach(self, ticket: Ticket, peer: _Peer) -> None:
        try:
            session = await self._node.connect(ticket, timeout_s=REACH_S)
            for message in peer.waiting:
                session.tell_or_drop(message)
        except (DialFailed, HandshakeFailed, LinkClosed) as error:
            log.debug("not reached: %s", error, extra={"peer": ticket.node})
        finally:
            # Also a link that the peer closed at once counts as a failure until it is attended.
            peer.failures += 1
            peer.try_at_s = self._now().monotonic_s + AGAIN.delay_s(peer.failures, self._jitter)
            peer.waiting.clear()
            peer.reaching = False
            self._reaching -= 1

    def _say_goodbye(self) -> None:
        if not self.is_out:
            self.is_out = True
            for node, message in self.core.leave(self._now()).sends:
                session = self.session_with(node)
                if session is not None:
                    session.tell_or_drop(message)

    def _peer(self, node: NodeId) -> _Peer:
        peer = self._peers.get(node)
        if peer is None:
            peer = self._peers[node] = _Peer()
            peer.used_s = self._now().monotonic_s
        return peer

    def _forget_if_idle(self, node: NodeId) -> None:
        peer = self._peers.get(node)
        idle = peer is not None and not (peer.sessions or peer.reaching or peer.waiting)
        if idle and node not in self.core.members:
            del self._peers[node]


async def _let_go(session: Session) -> None:
    with suppress(LinkClosed):
        await session.close(CloseCode.NORMAL, "not used for a while")
