"""A node's place in the mesh: its transports, the links it accepts, the peers it keeps dialling.

The loop around sessions: it opens them, hands them to the node's `Host`, and
for a peer that must be kept it dials again until told to stop. It decides
nothing about the fleet; that is the host's.
"""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final, Protocol

import anyio
import msgspec
from anyio.abc import TaskGroup

from helexa.mesh.dialler import Dialler
from helexa.mesh.identity import NodeKey
from helexa.mesh.sessions.handshake import CloseCode, HandshakeFailed
from helexa.mesh.sessions.session import (
    SILENCE_MAX_S,
    AnswerTimeout,
    Inbound,
    PeerRefused,
    PeerUnsupported,
    Session,
)
from helexa.mesh.ticket import Ticket
from helexa.mesh.transport import (
    DialFailed,
    Link,
    LinkClosed,
    OpenTransport,
    Stream,
    Transport,
    TransportSettings,
)
from helexa.protocol.ids import NodeId
from helexa.protocol.messages import ExecuteRequest, Hello, Wire
from helexa.util.background import background
from helexa.util.backoff import Backoff

log = logging.getLogger(__name__)

DIAL_S: Final = 5.0
STEADY_S: Final = 5.0
"""A session that lived this long was worth having; the next failure counts as the first."""
LINKS_MAX: Final = 4_096
GREETING_MAX: Final = 128
"""Accepted links that have not said Hello yet: where a stranger costs most and is worth least."""
LINKS_PER_PEER_MAX: Final = 8
"""One is used; the others are a dial from each side, and those of a peer that keeps crashing."""


class Host(Protocol):
    """What a node does with its sessions. Failures in here never reach the node."""

    async def on_session(self, session: Session) -> None:
        """Live with the session; return soon after it ended. The link is closed afterwards.

        LinkClosed, AnswerTimeout, PeerRefused and PeerUnsupported may leave from
        here: they end the session, with the text as its reason.
        """
        ...

    async def on_message(self, inbound: Inbound) -> Wire | None:
        """See `session.OnMessage`. May be called before `on_session` is."""
        ...

    async def on_stream(self, session: Session, request: ExecuteRequest, stream: Stream) -> None:
        """See `session.OnStream`."""
        ...


@dataclass(eq=False, slots=True)
class Dial:
    """How it stands with one peer that is kept connected. Written by its own task alone."""

    ticket: Ticket
    attempts: int = 0
    failures: int = 0
    """In a row; a session that lasted begins anew."""
    last_error: str = ""
    """Why the last attempt failed or the last session ended."""
    session: Session | None = None
    connected_since_s: float | None = None
    """On the event loop's clock."""


_UNWELL: Final = frozenset({CloseCode.SILENT, CloseCode.STALLED})
"""Ends that may speak against the path: it stood, and nothing came through."""
YOUNG_S: Final = 60.0
"""A path that carried a session this long is good; then it was the peer that fell silent."""


class _Outcome:
    """What became of a dial, told by the task that lives with its session."""

    def __init__(self) -> None:
        self.known = anyio.Event()
        self.session: Session | None = None
        self.error: Exception | None = None


class MeshNode:
    """Made by `running`."""

    def __init__(
        self,
        key: NodeKey,
        hello: Hello,
        host: Host,
        transports: Mapping[str, Transport],
        *,
        silence_max_s: float,
        backoff: Backoff,
        links_max: int,
        jitter: Callable[[], float],
    ) -> None:
        self.node_id: NodeId = key.node_id
        self.transports = transports
        self.sessions: set[Session] = set()
        self.dials: list[Dial] = []
        self.dialler = Dialler(transports)
        self.frames_rejected = 0
        """Of sessions that ended."""
        self._refused: Counter[str] = Counter()
        self._hello = hello
        self._host = host
        self._silence_max_s = silence_max_s
        self._backoff = backoff
        self._links_max = links_max
        self._jitter = jitter
        self._inbound = 0
        self._greeting = 0
        self._by_peer: dict[NodeId, list[Session]] = {}
        self._tasks: TaskGroup

    @classmethod
    @asynccontextmanager
    async def running(
        cls,
        key: NodeKey,
        hello: Hello,
        transports: Mapping[str, tuple[OpenTransport, TransportSettings]],
        host: Host,
        *,
        silence_max_s: float = SILENCE_MAX_S,
        backoff: Backoff | None = None,
        links_max: int = LINKS_MAX,
        jitter: Callable[[], float] = random.random,
    ) -> AsyncIterator[MeshNode]:
        """Accept links inside the block; on leaving it every session says so and is gone.

        Raises AddressTaken.
        """
        async with AsyncExitStack() as opened:
            live = {
                name: await opened.enter_async_context(open_transport(key, settings))
                for name, (open_transport, settings) in transports.items()
            }
            node = cls(
                key,
                hello,
                host,
                live,
                silence_max_s=silence_max_s,
                backoff=backoff or Backoff(),
                links_max=links_max,
                jitter=jitter,
            )
            async with background() as tasks:
                node._tasks = tasks
                for name, transport in live.items():
                    tasks.start_soon(node._accept, name, transport, tasks)
                yield node

    def refused(self) -> dict[str, int]:
        """By transport: inbound handshakes and links that did not become a session."""
        return {
            name: self._refused[name] + getattr(transport, "refused", 0)
            for name, transport in self.transports.items()
        }

    def ticket(self) -> Ticket:
        """Where this node can be dialled now, without an invite."""
        addresses = {name: tuple(each.addresses) for name, each in self.transports.items()}
        return Ticket(node=self.node_id, addresses=addresses)

    async def keep_connected(self, ticket: Ticket, host: Host | None = None) -> None:
        """Dial, live with the session, wait, and again; ends only by being cancelled.

        `host` is the node's own unless given. How it stands is in `dials`.
        """
        dial = Dial(ticket)
        self.dials.append(dial)
        try:
            while True:
                dial.attempts += 1
                reason, lived_s = await self._once(dial, host or self._host)
                dial.failures = 1 if lived_s >= STEADY_S else dial.failures + 1
                # A reason is logged when it changes: a peer that stays away for a
                # week is one line.
                if reason != dial.last_error:
                    log.warning("not connected: %s", reason, extra={"peer": ticket.node})
                dial.last_error = reason
                await anyio.sleep(self._backoff.delay_s(dial.failures, self._jitter))
        finally:
            self.dials.remove(dial)

    async def dial(self, ticket: Ticket, *, timeout_s: float = DIAL_S) -> Link:
        """A link by the best path that both have. Raises DialFailed."""
        return (await self.dialler.dial(ticket, timeout_s=timeout_s))[1]

    async def connect(self, ticket: Ticket, *, timeout_s: float = DIAL_S) -> Session:
        """The session with that node, made now where none stands.

        It lives with the node's own host until it ends or is closed; nobody
        dials again. Raises DialFailed, HandshakeFailed or LinkClosed.
        """
        standing = self.session_with(ticket.node)
        if standing is not None:
            return standing
        name, link = await self.dialler.dial(ticket, timeout_s=timeout_s)
        outcome = _Outcome()
        self._tasks.start_soon(self._live, name, link, ticket, outcome)
        await outcome.known.wait()
        if outcome.session is None:
            raise outcome.error or LinkClosed("the session ended")
        return outcome.session

    def session_with(self, peer: NodeId) -> Session | None:
        """The newest session with that peer that has not ended, or None."""
        for session in reversed(self._by_peer.get(peer, ())):
            if session.ended is None:
                return session
        return None

    def is_connected(self, peer: NodeId) -> bool:
        """Whether a session with that peer stands."""
        return self.session_with(peer) is not None

    async def _live(self, name: str, link: Link, ticket: Ticket, outcome: _Outcome) -> None:
        try:
            async with self._session(name, link, self._host, ticket.invite) as session:
                outcome.session = session
                outcome.known.set()
                await self._attend(session, self._host)
        except (HandshakeFailed, LinkClosed) as error:
            outcome.error = error
        finally:
            outcome.known.set()

    async def _once(self, dial: Dial, host: Host) -> tuple[str, float]:
        """One dial and the session that came of it: why it is over, and how long it lived."""
        try:
            name, link = await self.dialler.dial(dial.ticket, timeout_s=DIAL_S)
            async with self._session(name, link, host, dial.ticket.invite) as session:
                dial.session, dial.connected_since_s = session, anyio.current_time()
                log.info("connected", extra={"peer": session.peer, "at": link.remote_address})
                reason = await self._attend(session, host)
                return reason, anyio.current_time() - dial.connected_since_s
        except (DialFailed, HandshakeFailed, LinkClosed) as error:
            return str(error), 0.0
        finally:
            dial.session = dial.connected_since_s = None

    async def _accept(self, name: str, transport: Transport, tasks: TaskGroup) -> None:
        with suppress(LinkClosed):
            while True:
                link = await transport.accept()
                full = self._inbound >= self._links_max or self._greeting >= GREETING_MAX
                if full or len(self._by_peer.get(link.peer, ())) >= LINKS_PER_PEER_MAX:
                    self._refused[name] += 1
                    await link.close(CloseCode.BUSY, "this node has as many links as it takes")
                    continue
                self._inbound += 1
                self._greeting += 1
                tasks.start_soon(self._receive, name, link)

    async def _receive(self, name: str, link: Link) -> None:
        greeting = 1
        try:
            async with self._session(name, link, self._host) as session:
                self._greeting -= greeting
                greeting = 0
                await self._attend(session, self._host)
        except (HandshakeFailed, LinkClosed) as error:
            self._refused[name] += greeting
            log.debug("a link did not become a session: %s", error, extra={"peer": link.peer})
        finally:
            self._greeting -= greeting
            self._inbound -= 1

    @asynccontextmanager
    async def _session(
        self, name: str, link: Link, host: Host, invite: bytes = b""
    ) -> AsyncIterator[Session]:
        hello = msgspec.structs.replace(self._hello, invite=invite) if invite else self._hello
        async with Session.running(
            link,
            hello,
            host.on_message,
            host.on_stream,
            silence_max_s=self._silence_max_s,
            transport=name,
        ) as session:
            began_s = anyio.current_time()
            self.sessions.add(session)
            beside = self._by_peer.setdefault(session.peer, [])
            beside.append(session)
            try:
                yield session
            finally:
                self.sessions.discard(session)
                self.frames_rejected += session.frames_rejected
                beside.remove(session)
                if not beside:
                    self._by_peer.pop(session.peer, None)
                is_young = anyio.current_time() - began_s < YOUNG_S
                if is_young and session.ended is not None and session.ended.code in _UNWELL:
                    self.dialler.distrust(session.peer, name)

    async def _attend(self, session: Session, host: Host) -> str:
        try:
            await host.on_session(session)
        except (LinkClosed, AnswerTimeout, PeerRefused, PeerUnsupported) as error:
            return str(error)
        except Exception:
            log.exception("a session's host failed", extra={"peer": session.peer})
            await session.close(CloseCode.INTERNAL, "this node failed")
            return "this node failed; its log says how"
        return str(session.ended or "the session was ended here")
