"""A server of somebody else's over TCP or TLS: it says what a test wrote for it, byte by byte."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio

PATIENCE_S = 30.0


@dataclass(frozen=True)
class Asked:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Say = Callable[[Asked], Sequence[bytes]]
"""Pieces of a raw HTTP answer, each sent by itself; b"" among them holds until the client goes."""


@dataclass
class Scripted:
    """`on[path]` answers; what is not there is a 404. Lists `models` at `/v1/models`."""

    models: list[dict[str, Any]] = field(default_factory=list)
    on: dict[str, Say] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    port: int = 0
    aborts: bool = False
    """It breaks off after each answer."""
    gone: anyio.Event = field(default_factory=anyio.Event)
    """A client left while it was held."""
    holds: anyio.Event = field(default_factory=anyio.Event)
    clients: set[asyncio.StreamWriter] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def of(self, path: str) -> list[Asked]:
        return [one for one in self.asked if one.path == path]

    def say(self, asked: Asked) -> Sequence[bytes]:
        self.asked.append(asked)
        if asked.path in self.on:
            return self.on[asked.path](asked)
        if asked.path == "/v1/models":
            return [whole({"object": "list", "data": self.models})]
        return [whole({"detail": "Not Found"}, status=404)]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.clients.add(writer)
        try:
            while await self._one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            self.gone.set()
        finally:
            self.clients.discard(writer)
            writer.transport.abort() if self.aborts else writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.strip().split("\r\n")
        method, path, _ = first.split(" ")
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        pieces = self.say(Asked(method, path, headers, body))
        for piece in pieces:
            if not piece:
                self.holds.set()
                await reader.read(1)
                self.gone.set()
                return False
            writer.write(piece)
            await writer.drain()
        return b"connection: close" not in pieces[0] and not self.aborts


@asynccontextmanager
async def scripted(
    *models: str, port: int = 0, tls: ssl.SSLContext | None = None, **on: Say
) -> AsyncIterator[Scripted]:
    server = Scripted(models=[{"id": one, "object": "model"} for one in models])
    server.on.update({f"/v1/{path.replace('_', '/')}": say for path, say in on.items()})
    listening = await asyncio.start_server(server.serve, "127.0.0.1", port, ssl=tls)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()
        for writer in tuple(server.clients):
            writer.transport.abort()


def whole(
    content: Any, *, status: int = 200, headers: Sequence[str] = (), kind: str = "application/json"
) -> bytes:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    lines = [f"HTTP/1.1 {status} x", f"content-type: {kind}", f"content-length: {len(body)}"]
    return "\r\n".join([*lines, *headers, "", ""]).encode() + body


def stream(*pieces: bytes, ends: bool = True) -> list[bytes]:
    """An event stream in chunks."""
    head = (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    chunks = [b"%x\r\n%s\r\n" % (len(one), one) if one else b"" for one in pieces]
    return [head, *chunks, *([b"0\r\n\r\n"] if ends else [])]


def data(content: Any) -> bytes:
    return b"data: " + (content if isinstance(content, bytes) else json.dumps(content).encode())


def delta(text: str | None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    piece = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    return {
        "id": "c",
        "object": "chat.completion.chunk",
        "model": "there",
        "choices": [piece],
    } | more


USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
COUNTED = {"id": "c", "model": "there", "choices": [], "usage": USAGE}
HELLO = [
    data(delta("hel")) + b"\n\n",
    data(delta("lo")) + b"\n\n",
    data(delta(None, "stop")) + b"\n\n",
    data(COUNTED) + b"\n\n",
    b"data: [DONE]\n\n",
]
