"""A scripted far side and raw clients: bytes in, bytes out, no HTTP library in between."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from helexa.util.sockets import Address, listen_tcp

Script: TypeAlias = Callable[["Caller"], Awaitable[None]]


@dataclass
class Caller:
    """One connection that the far side accepted, as its script sees it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    number: int
    requests: list[bytes] = field(default_factory=list)

    async def request(self) -> bytes:
        """Head and body of the next request. Raises IncompleteReadError at the end."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = 0
        for line in head.split(b"\r\n"):
            if line.lower().startswith(b"content-length:"):
                length = int(line[15:])
        request = head + await self.reader.readexactly(length)
        self.requests.append(request)
        return request

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def say_chunk(self, data: bytes) -> None:
        await self.say(b"%x\r\n%s\r\n" % (len(data), data))

    def reset(self) -> None:
        """End without a goodbye, as a killed process does."""
        self.writer.transport.abort()

    async def gone(self) -> None:
        """Return when the caller has hung up."""
        while await self._read():
            pass

    async def _read(self) -> bytes:
        try:
            return await self.reader.read(65536)
        except ConnectionError:
            return b""


@dataclass
class FarSide:
    port: int
    callers: list[Caller] = field(default_factory=list)
    joined: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def requests(self) -> list[bytes]:
        return [request for caller in self.callers for request in caller.requests]


@asynccontextmanager
async def far_side(script: Script) -> AsyncIterator[FarSide]:
    """A server that runs `script` for each connection; its failures fail the test."""
    listener = listen_tcp(Address("127.0.0.1", 0))
    side = FarSide(listener.getsockname()[1])
    failures: list[BaseException] = []
    tasks: set[asyncio.Task[Any]] = set()

    async def attend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        caller = Caller(reader, writer, len(side.callers))
        side.callers.append(caller)
        try:
            await script(caller)
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            pass  # The caller left, or the test is over.
        except Exception as error:  # noqa: BLE001 - raised again at the end of the test
            failures.append(error)
        finally:
            tasks.discard(task)
            writer.close()

    server = await asyncio.start_server(attend, sock=listener)
    try:
        yield side
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert not failures, failures


ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"


async def answers(caller: Caller) -> None:
    """A script: every request is answered with `hello`."""
    while True:
        await caller.request()
        await caller.say(ANSWER)


@asynccontextmanager
async def raw_client(port: int) -> AsyncIterator[Caller]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Caller(reader, writer, 0)
    finally:
        writer.transport.abort()


def small_buffers(writer: asyncio.StreamWriter) -> None:
    raw: socket.socket = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
