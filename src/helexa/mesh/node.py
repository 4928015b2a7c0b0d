"""A node's place in the mesh: its transports, the links it accepts, the peers it keeps dialling.

The loop around sessions: it opens them, hands them to the node's `Host`, and
for a peer that must be kept it dials again until told to stop. It decides
nothing about the fleet; that is the host's.
"""

from __future__ import annotations

import logging
import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final, Protocol

import anyio
from anyio.abc import TaskGroup

from helexa.mesh.handshake import CloseCode, HandshakeFailed
from helexa.mesh.identity import NodeKey
from helexa.mesh.session import (
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
        self._hello = hello
        self._host = host
        self._silence_max_s = silence_max_s
        self._backoff = backoff
        self._links_max = links_max
        self._jitter = jitter
        self._inbound = 0
        self._greeting = 0

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
                for transport in live.values():
                    tasks.start_soon(node._accept, transport, tasks)
                yield node

    def ticket(self) -> Ticket:
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
        """A link by the first transport of the ticket that makes one. Raises DialFailed."""
        reasons = []
        for name, addresses in ticket.addresses.items():
            transport = self.transports.get(name)
            if transport is not None:
                try:
                    return await transport.dial(ticket.node, addresses, timeout_s=timeout_s)
                except DialFailed as error:
                    reasons.append(f"{name}: {error}")
        if not reasons:
            offered, ours = ", ".join(ticket.addresses) or "none", ", ".join(self.transports)
            raise DialFailed(f"the ticket offers the transports {offered}; open here: {ours}")
        raise DialFailed("; ".join(reasons))

    async def _once(self, dial: Dial, host: Host) -> tuple[str, float]:
        """One dial and the session that came of it: why it is over, and how long it lived."""
        try:
            link = await self.dial(dial.ticket, timeout_s=DIAL_S)
            async with self._session(link, host) as session:
                dial.session, dial.connected_since_s = session, anyio.current_time()
                log.info("connected", extra={"peer": session.peer, "at": link.remote_address})
                reason = await self._attend(session, host)
                return reason, anyio.current_time() - dial.connected_since_s
        except (DialFailed, HandshakeFailed, LinkClosed) as error:
            return str(error), 0.0
        finally:
            dial.session = dial.connected_since_s = None

    async def _accept(self, transport: Transport, tasks: TaskGroup) -> None:
        with suppress(LinkClosed):
            while True:
                link = await transport.accept()
                if self._inbound >= self._links_max or self._greeting >= GREETING_MAX:
                    await link.close(CloseCode.BUSY, "this node has as many links as it takes")
                    continue
                self._inbound += 1
                self._greeting += 1
                tasks.start_soon(self._receive, link)

    async def _receive(self, link: Link) -> None:
        greeting = 1
        try:
            async with self._session(link, self._host) as session:
                self._greeting -= greeting
                greeting = 0
                await self._attend(session, self._host)
        except (HandshakeFailed, LinkClosed) as error:
            log.debug("a link did not become a session: %s", error, extra={"peer": link.peer})
        finally:
            self._greeting -= greeting
            self._inbound -= 1

    @asynccontextmanager
    async def _session(self, link: Link, host: Host) -> AsyncIterator[Session]:
        async with Session.running(
            link,
            self._hello,
            host.on_message,
            host.on_stream,
            silence_max_s=self._silence_max_s,
        ) as session:
            self.sessions.add(session)
            try:
                yield session
            finally:
                self.sessions.discard(session)

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
