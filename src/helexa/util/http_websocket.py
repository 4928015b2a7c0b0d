"""A connection that became a websocket: uvicorn's protocol with the limits that it lacks.

Imported when the first one does, since a node that nobody watches needs no wsproto. What a
client sends is bounded by uvicorn: one message of WEBSOCKET_BYTES_MAX waits, and the socket is
not read meanwhile. A client that reads nothing is dropped here, and one that answers no ping by
uvicorn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Protocol

from uvicorn.config import Config
from uvicorn.protocols.websockets.wsproto_impl import WSProtocol
from uvicorn.server import ServerState

from helexa.util.deadlines import NEVER, Deadlines


class Limits(Protocol):
    @property
    def write_stall_s(self) -> float: ...


class Host(Protocol):
    """What a connection needs of its server."""

    @property
    def limits(self) -> Limits: ...

    deadlines: Deadlines

    def connection_ended(self) -> None: ...


class WebsocketConnection(WSProtocol):
    def __init__(self, config: Config, state: ServerState, host: Host) -> None:
        super().__init__(config, state, {})
        self.deadline = NEVER
        self._host = host

    def begin(
        self,
        transport: asyncio.Transport,
        url: bytes,
        headers: Iterable[tuple[bytes, bytes]],
        rest: bytes,
    ) -> None:
        """Take over from the HTTP connection that read a request to become one; `rest` is what came
        behind it.
        """
        self.connection_made(transport)
        transport.set_protocol(self)
        lines = (b"%s: %s\r\n" % header for header in headers)
        self.data_received(b"GET %s HTTP/1.1\r\n%s\r\n" % (url, b"".join(lines)))
        if rest and not transport.is_closing():
            self.data_received(rest)

    def connection_lost(self, exc: Exception | None) -> None:
        self.deadline = NEVER
        super().connection_lost(exc)
        self._host.connection_ended()

    def pause_writing(self) -> None:
        super().pause_writing()
        self.deadline = until = self.loop.time() + self._host.limits.write_stall_s
        self._host.deadlines.watch(until)

    def resume_writing(self) -> None:
        super().resume_writing()
        self.deadline = NEVER

    def expire(self, now: float) -> None:  # noqa: ARG002 - the contract's
        """Called by the server's Deadlines."""
        self.deadline = NEVER
        self.transport.abort()
