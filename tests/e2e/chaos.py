"""Clients of every temper, all at once, and what each may see of a fleet in trouble.

A client may be refused with an envelope, or its stream may end with an error event that has a
code. It may never see an answer that just stops, or one that is no answer. Everything else is a
`Fault` with the request that met it.
"""

from __future__ import annotations

import asyncio
import json
import random
import socket
import threading
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from tests.namespaces import Host

ANSWER_WITHIN_S = 90.0
"""Nothing takes longer than its own deadline; more is a hang."""
SLOW_READ_BYTES = 512
SLOW_PAUSE_S = 0.05
CHAT = "/v1/chat/completions"


@dataclass
class Seen:
    """What all clients together met."""

    outcomes: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    asked: int = 0


@dataclass(frozen=True)
class Clients:
    """`concurrency` clients that ask until they are told to stop, inside the host's network."""

    host: Host
    url: str
    key: str
    models: tuple[str, ...]
    seed: int
    concurrency: int

    def run(self, stop: threading.Event) -> Seen:
        """To be called in a thread of its own."""
        seen = Seen()
        with self.host.entered():
            asyncio.run(self._all(stop, seen))
        return seen

    async def _all(self, stop: threading.Event, seen: Seen) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(self.concurrency):
                chance = random.Random(f"{self.seed}/{number}")
                group.create_task(self._one(chance, stop, seen))

    async def _one(self, chance: random.Random, stop: threading.Event, seen: Seen) -> None:
        kinds = {
            self._stream: 5,
            self._plain: 3,
            self._hang_up: 3,
            self._slow: 1,
            self._half_a_request: 1,
        }
        while not stop.is_set():
            (kind,) = chance.choices(list(kinds), list(kinds.values()))
            seen.asked += 1
            name = kind.__name__.strip("_")
            try:
                async with asyncio.timeout(ANSWER_WITHIN_S):
                    outcome = await kind(chance)
            except TimeoutError:
                seen.faults.append(f"{name}: no end within {ANSWER_WITHIN_S:g} s")
            except (OSError, EOFError, ValueError, KeyError) as error:
                seen.faults.append(f"{name}: {type(error).__name__} {error}")
            else:
                seen.outcomes[f"{name} {outcome}"] += 1

    async def _stream(self, chance: random.Random) -> str:
        reader, writer = await self._asked(self._body(chance, stream=True))
        try:
            return await _end_of(reader)
        finally:
            await _closed(writer)

    async def _plain(self, chance: random.Random) -> str:
        reader, writer = await self._asked(self._body(chance, stream=False))
        try:
            status, headers = await _head(reader)
            body = json.loads(await reader.readexactly(int(headers["content-length"])))
            if status == 200:
                return str(body["choices"][0]["finish_reason"])
            return str(body["error"]["code"])
        finally:
            await _closed(writer)

    async def _hang_up(self, chance: random.Random) -> str:
        """Leave after so many bytes, now and then without a word."""
        reader, writer = await self._asked(self._body(chance, stream=True))
        try:
            await reader.read(chance.randrange(1, 4000))
            if chance.random() < 0.5:
                writer.transport.abort()
            return "left"
        finally:
            await _closed(writer)

    async def _slow(self, chance: random.Random) -> str:
        """Read so slowly that the answer waits for its reader."""
        reader, writer = await self._asked(self._body(chance, stream=True), receives=4096)
        try:
            for _ in range(chance.randrange(5, 40)):
                if not await reader.read(SLOW_READ_BYTES):
                    break
                await asyncio.sleep(SLOW_PAUSE_S)
            return "left"
        finally:
            await _closed(writer)

    async def _half_a_request(self, chance: random.Random) -> str:
        _, writer = await self._connected()
        head = self._head_of(1000)
        writer.write(head[: chance.randrange(1, len(head))])
        with suppress(OSError):
            await writer.drain()
        await _closed(writer)
        return "left"

    def _body(self, chance: random.Random, *, stream: bool) -> bytes:
        asked: dict[str, Any] = {
            "model": chance.choice(self.models),
            "messages": [{"role": "user", "content": f"What is helexa? ({chance.random()})"}],
            "max_tokens": chance.choice((8, 40, 200)),
            "temperature": chance.choice((0, 1)),
        }
        if stream:
            asked |= {"stream": True, "ignore_eos": True}
        return json.dumps(asked).encode()

    def _head_of(self, length: int) -> bytes:
        return (
            f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {self.key}\r\n"
            f"content-type: application/json\r\ncontent-length: {length}\r\n"
            "connection: close\r\n\r\n"
        ).encode()

    async def _connected(
        self, receives: int = 0
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        parts = urlsplit(self.url)
        made = socket.socket()
        made.setblocking(False)
        if receives:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receives)
        await asyncio.get_running_loop().sock_connect(made, (parts.hostname, parts.port))
        return await asyncio.open_connection(sock=made, limit=receives or 1 << 20)

    async def _asked(
        self, body: bytes, receives: int = 0
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await self._connected(receives)
        writer.write(self._head_of(len(body)) + body)
        await writer.drain()
        return reader, writer


async def _end_of(reader: asyncio.StreamReader) -> str:
    """How a stream ended, in a word. Raises ValueError for one that just stopped."""
    status, headers = await _head(reader)
    if status != 200:
        body = await reader.readexactly(int(headers["content-length"]))
        return str(json.loads(body)["error"]["code"])
    said = b""
    while size := int((await reader.readuntil(b"\r\n")), 16):
        said += (await reader.readexactly(size + 2))[:-2]
    payloads = [line[6:] for line in said.split(b"\n") if line.startswith(b"data: ")]
    if payloads and payloads[-1] == b"[DONE]":
        reasons = [_finish_reason(one) for one in payloads[:-1]]
        if sum(reason is not None for reason in reasons) != 1:
            raise ValueError(f"a complete stream with finish reasons {set(reasons)}")
        return "done"
    if payloads and "error" in (last := json.loads(payloads[-1])):
        return f"in-band {last['error']['code']}"
    raise ValueError(f"a stream that just stopped after {said[-300:]!r}")


def _finish_reason(payload: bytes) -> str | None:
    choices = json.loads(payload).get("choices") or [{}]
    reason = choices[0].get("finish_reason")
    return None if reason is None else str(reason)


async def _head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    fields = (line.split(": ", 1) for line in head[1:] if line)
    return int(head[0].split()[1]), {name.lower(): value for name, value in fields}


async def _closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
