"""Serve an ASGI app on sockets, inside a block, and bounded on every side.

What other servers leave to a proxy in front is here, because a node has none: header bytes and
header time are limited, connections are counted, a client that does not read is dropped, and
malformed HTTP is answered in the caller's own error format.

    async with serving(app, [listener], limits, error_body=..., shutdown_grace_s=30):
        ...

Leaving the block in the normal way stops accepting, lets running requests end
within the grace, then cancels them. Leaving it by an exception or a cancellation
cancels at once. A cancelled request has a moment for its last words.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Final, cast

import anyio
from uvicorn.config import Config
from uvicorn.server import ServerState

from helexa.util.asgi import (
    App,
    BodyTooBig,
    BodyTooSlow,
    ClientGone,
    Receive,
    Scope,
    Send,
    UntilDisconnect,
    header,
    read_body,
)
from helexa.util.background import background
from helexa.util.byte_streams import ByteStream, StreamTransport
from helexa.util.deadlines import Deadlines
from helexa.util.http_connection import (
    WEBSOCKET_BYTES_MAX,
    ErrorBody,
    HttpConnection,
    ServerLimits,
    answer_of,
)
from helexa.util.starts import Starts
from helexa.util.tls_door import TlsDoor
from helexa.util.tls_server import TlsServer

__all__ = [
    "App",
    "BodyTooBig",
    "BodyTooSlow",
    "ClientGone",
    "HttpServer",
    "Receive",
    "Scope",
    "Send",
    "ServerLimits",
    "UntilDisconnect",
    "header",
    "read_body",
    "serving",
]

LAST_WORDS_S: Final = 1.0
"""After the grace: what cancelled handlers get to tell their clients so."""
CUT_WITHIN_S: Final = 2.0
"""After that: what handlers get to notice that their clients are gone."""


class HttpServer:
    """What `serving` yields."""

    def __init__(
        self,
        app: App,
        limits: ServerLimits,
        error_body: ErrorBody,
        *,
        error_bodies_below: Mapping[bytes, ErrorBody] | None = None,
        websockets: bool = False,
    ) -> None:
        # uvicorn's are the websockets; log_config None keeps it from configuring anybody's logging.
        self._config = Config(
            app,
            http=asyncio.Protocol,
            # Ours is made where it is needed; these are for it.
            ws="none",
            ws_max_size=WEBSOCKET_BYTES_MAX,
            ws_per_message_deflate=False,
            lifespan="off",
            interface="asgi3",
            log_config=None,
            log_level=logging.WARNING,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
        )
        self._config.load()
        self._state = ServerState()
        self._listening: list[asyncio.Server] = []
        self._emptied = asyncio.Event()
        self.limits = limits
        self.error_body = error_body
        self._error_bodies_below = error_bodies_below or {}
        self.websockets = websockets
        self.is_accepting = True
        self.starts = Starts()
        self.deadlines = Deadlines(self._connections)
        self._doors: list[anyio.CancelScope] = []

    @property
    def connections(self) -> int:
        return len(self._state.connections)

    def error_body_at(self, target: bytes) -> ErrorBody:
        for start, body in self._error_bodies_below.items():
            if target.startswith(start):
                return body
        return self.error_body

    def stop_accepting(self) -> None:
        """Close the listening sockets and idle connections; running requests go on. Idempotent."""
        if not self.is_accepting:
            return
        self.is_accepting = False
        for listening in self._listening:
            listening.close()
        for door in self._doors:
            door.cancel()
        for connection in list(self._connections()):
            connection.shutdown()

    async def serve_stream(self, stream: ByteStream, peer: str = "") -> None:
        """Serve one byte stream as if it were an accepted connection; returns at its end.

        `peer` is what requests find as their `client`: only the one who accepted the
        stream can say it.
        """
        await StreamTransport(stream, self._connection(), peer=peer).run()

    async def _listen(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        if listener.family == socket.AF_UNIX:
            serving_it = await loop.create_unix_server(self._connection, sock=listener)
        else:
            serving_it = await loop.create_server(self._connection, sock=listener)
        self._listening.append(serving_it)

    async def _listen_tls(self, listener: socket.socket, tls: TlsServer) -> None:
        """Until `stop_accepting`."""
        said = answer_of(400, self.error_body(400, "This port speaks TLS: use https://."))
        door = TlsDoor(
            self._connection,
            lambda: tls.context,
            within_s=self.limits.handshake_timeout_s,
            places=lambda: self.limits.connections_max - self.connections,
            plain_answer=said,
        )
        with anyio.CancelScope() as scope, closing(listener):
            self._doors.append(scope)
            await door.receive(listener)

    def connection_ended(self) -> None:
        if not self._state.connections:
            self._emptied.set()

    def _connection(self) -> asyncio.Protocol:
        return cast(asyncio.Protocol, HttpConnection(self._config, self._state, self))

    def _connections(self) -> Iterable[HttpConnection]:
        return cast(Iterable[HttpConnection], self._state.connections)

    async def _end(self, grace_s: float) -> None:
        self.stop_accepting()
        with anyio.move_on_after(grace_s):
            await self._settled()
        with anyio.CancelScope(shield=True):
            # A cancelled handler may still say why it stops: a stream that just breaks off
            # looks to many clients like one that is complete.
            self._cancel_handlers()
            with anyio.move_on_after(LAST_WORDS_S):
                await self._settled()
            for connection in list(self._connections()):
                connection.transport.abort()
            # Handlers see the disconnect and settle what they hold; then no more patience.
            with anyio.move_on_after(CUT_WITHIN_S):
                await self._settled()
            self._cancel_handlers()
            if self._state.tasks:
                await asyncio.wait(self._state.tasks)
            self.deadlines.close()

    def _cancel_handlers(self) -> None:
        for task in list(self._state.tasks):
            task.cancel()

    async def _settled(self) -> None:
        while self._state.tasks:
            await asyncio.wait(self._state.tasks)
        while self._state.connections:
            self._emptied.clear()
            await self._emptied.wait()


@asynccontextmanager
async def serving(
    app: App,
    sockets: Sequence[socket.socket],
    limits: ServerLimits,
    *,
    error_body: ErrorBody,
    error_bodies_below: Mapping[bytes, ErrorBody] | None = None,
    shutdown_grace_s: float,
    websockets: bool = False,
    tls: TlsServer | None = None,
) -> AsyncIterator[HttpServer]:
    """Serve `app` on listening sockets (TCP or Unix), which are closed at the end.

    With `tls` those of TCP speak nothing else.

    `error_body(status, message)` makes the JSON body for what never reaches the app, and those of
    `error_bodies_below` do for targets that begin so. With `websockets` the app gets them too, as
    ASGI has them.
    """
    paths = [
        Path(each.getsockname())
        for each in sockets
        if each.family == socket.AF_UNIX and isinstance(each.getsockname(), str)
    ]
    server = HttpServer(
        app, limits, error_body, error_bodies_below=error_bodies_below, websockets=websockets
    )
    grace_s = 0.0
    try:
        async with AsyncExitStack() as stack:
            # No task group where nothing needs one: what leaves it is wrapped.
            tasks = None if tls is None else await stack.enter_async_context(background())
            for listener in sockets:
                if tls is None or tasks is None or listener.family == socket.AF_UNIX:
                    await server._listen(listener)  # noqa: SLF001
                else:
                    tasks.start_soon(server._listen_tls, listener, tls)  # noqa: SLF001
            yield server
            grace_s = shutdown_grace_s
    finally:
        try:
            await server._end(grace_s)  # noqa: SLF001
        finally:
            for path in paths:
                with suppress(OSError):
                    path.unlink()
