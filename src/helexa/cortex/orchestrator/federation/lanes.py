"""The ways to peers: a pool of streams for each one that was asked, kept while it is known.

A stream is opened on the newest session that lives, on an older one where that fails,
and else on a session that is made for it: once for all requests that wait for it.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

import anyio
from anyio.abc import TaskGroup

from helexa.cortex.orchestrator.federation.peer import Peer
from helexa.mesh.sessions.session import Session
from helexa.mesh.transport import LinkClosed, Stream
from helexa.protocol.ids import NodeId, new_request_id
from helexa.protocol.messages import ExecuteRequest
from helexa.util.background import background
from helexa.util.upstream import Headers, Pool, Response, Streams

_log = logging.getLogger(__name__)

CONNECT_S: Final = 3.0
STREAMS_PER_PEER_MAX: Final = 1_024
WAITING_PER_PEER_MAX: Final = 256


class Unreachable(Exception):
    """No session with a peer; says why."""


class Lane:
    """As much of a `Pool` as the gateway uses; made when the first request comes."""

    def __init__(self, lanes: Lanes, peer: Peer) -> None:
        self._lanes = lanes
        self._peer = peer
        self._opened = anyio.Event()
        self._closed = anyio.Event()
        self._pool = Pool(
            Streams(self._open, label=f"cortex {peer.called}"),
            connections_max=STREAMS_PER_PEER_MAX,
            waiting_max=WAITING_PER_PEER_MAX,
            connect_timeout_s=CONNECT_S + 1.0,
        )

    async def send(
        self,
        method: str,
        path: str,
        headers: Headers = (),
        body: bytes = b"",
        *,
        first_byte_timeout_s: float = 300.0,
        silence_timeout_s: float = 300.0,
        resend_safe: bool = False,
    ) -> Response:
        """See `Pool.send`."""
        if not self._opened.is_set():
            await self._opened.wait()
        return await self._pool.send(
            method,
            path,
            headers,
            body,
            first_byte_timeout_s=first_byte_timeout_s,
            silence_timeout_s=silence_timeout_s,
            resend_safe=resend_safe,
        )

    async def hold(self) -> None:
        async with self._pool.running():
            self._opened.set()
            await self._closed.wait()

    def close(self) -> None:
        self._closed.set()

    async def _open(self) -> Stream:
        peer = self._peer
        for session in reversed(peer.sessions):
            if session.ended is None:
                try:
                    return await session.open_data(ExecuteRequest(request=new_request_id()))
                except LinkClosed:
                    continue
        session = await self._lanes.connected(peer)
        return await session.open_data(ExecuteRequest(request=new_request_id()))


class _Attempt:
    def __init__(self) -> None:
        self.done = anyio.Event()
        self.session: Session | None = None
        self.reason = ""


class Lanes:
    def __init__(
        self,
        connect: Callable[[NodeId], Awaitable[Session]] | None,
        failed: Callable[[Peer, str], None],
    ) -> None:
        """`failed` is told of a peer to which no session could be made."""
        self._tasks: TaskGroup
        self._connect = connect
        self._failed = failed
        self._lanes: dict[NodeId, Lane] = {}
        self._attempts: dict[NodeId, _Attempt] = {}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Pools and attempts live inside the block."""
        async with background() as self._tasks:
            yield

    def to(self, peer: Peer) -> Lane:
        node = peer.standing.node
        lane = self._lanes.get(node)
        if lane is None:
            lane = self._lanes[node] = Lane(self, peer)
            self._tasks.start_soon(lane.hold)
        return lane

    def close(self, node: NodeId) -> None:
        """The peer is forgotten: nothing is asked of it any more."""
        lane = self._lanes.pop(node, None)
        if lane is not None:
            lane.close()

    async def connected(self, peer: Peer) -> Session:
        """A session made now. Raises Unreachable."""
        node = peer.standing.node
        attempt = self._attempts.get(node)
        if attempt is None:
            # In a task of its own: the request that came first may be cancelled.
            attempt = self._attempts[node] = _Attempt()
            self._tasks.start_soon(self._try, peer, attempt)
        await attempt.done.wait()
        if attempt.session is None:
            raise Unreachable(attempt.reason)
        return attempt.session

    async def _try(self, peer: Peer, attempt: _Attempt) -> None:
        node = peer.standing.node
        try:
            if self._connect is None:
                attempt.reason = "there is no link to it"
                return
            with anyio.fail_after(CONNECT_S):
                attempt.session = await self._connect(node)
        except TimeoutError:
            attempt.reason = f"no session within {CONNECT_S:g} s"
        except Exception as error:  # noqa: BLE001 - whatever it is, there is no session
            # Clients read the reason, and addresses are nothing for them.
            attempt.reason = "it cannot be reached"
            _log.info("peer_not_reached", extra={"node": node, "why": str(error)})
        finally:
            del self._attempts[node]
            attempt.done.set()
            if attempt.session is None:
                self._failed(peer, attempt.reason)
