"""A websocket client for tests: wsproto on a plain connection."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
from anyio.abc import SocketStream
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)

PATIENCE_S = 10


class Refused(Exception):
    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(f"{status}: {body[:200]!r}")
        self.status = status
        self.body = body


class Closed(Exception):
    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Socket:
    def __init__(self, stream: SocketStream) -> None:
        self._stream = stream
        self._protocol = WSConnection(ConnectionType.CLIENT)
        self._events: list[Event] = []

    async def send(self, data: str | bytes) -> None:
        message = TextMessage(data) if isinstance(data, str) else BytesMessage(data)
        await self._stream.send(self._protocol.send(message))

    async def message(self) -> Any:
        """The next message as JSON. Raises Closed when there is none any more."""
        text = ""
        while True:
            match await self._event():
                case TextMessage(data=data, message_finished=finished):
                    text += data
                    if finished:
                        return json.loads(text)
                case Ping() as ping:
                    await self._stream.send(self._protocol.send(ping.response()))
                case CloseConnection(code=code):
                    raise Closed(code)

    async def begin(self, host: str, target: str, headers: list[tuple[bytes, bytes]]) -> None:
        request = Request(host=host, target=target, extra_headers=headers)
        await self._stream.send(self._protocol.send(request))
        match await self._event():
            case AcceptConnection():
                return
            case RejectConnection(status_code=status):
                body = b""
                while isinstance(event := await self._event(), RejectData):
                    body += event.data
                    if event.body_finished:
                        break
                raise Refused(status, body)

    async def _event(self) -> Event:
        with anyio.fail_after(PATIENCE_S):
            while not self._events:
                try:
                    data = await self._stream.receive()
                except (anyio.EndOfStream, anyio.BrokenResourceError):
                    raise Closed(1006) from None
                self._protocol.receive_data(data)
                self._events += self._protocol.events()
        return self._events.pop(0)


@asynccontextmanager
async def socket(
    port: int, target: str, headers: list[tuple[bytes, bytes]] | None = None
) -> AsyncIterator[Socket]:
    """Raises Refused where it was none."""
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        made = Socket(stream)
        await made.begin(f"127.0.0.1:{port}", target, headers or [])
        yield made
