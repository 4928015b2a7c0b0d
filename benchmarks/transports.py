"""What a mesh transport costs beside a bare asyncio TLS echo: round trips and 64 KiB chunks.

Each server is a process of its own, all of them at once; this process dials them
and measures in turn, so that a ratio compares one moment of a busy machine with
the same moment. The bare echo is asyncio's own TLS on uvloop, written against
Protocols: no framing, no streams, one connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import anyio
import uvloop

from benchmarks.measure import Figures, ratio
from helexa.mesh.identity import NodeKey
from helexa.mesh.transport import Stream, StreamReset, TransportSettings
from helexa.mesh.transports import load
from helexa.mesh.transports._tls_proof import client_context, server_context
from helexa.protocol.ids import NodeId
from helexa.util.sockets import Address

NAMES = ("bare", "tls", "iroh")
LOOPBACK = Address("127.0.0.1", 0)
PING_BYTES = 100
CHUNK_BYTES = 1 << 16
IN_FLIGHT_BYTES = 4 << 20
ROUND_TRIP_MAX = 1.5
THROUGHPUT_MIN = 0.6


@dataclass(frozen=True)
class Plan:
    rounds: int
    pings: int
    seconds: float


FULL = Plan(rounds=11, pings=2_000, seconds=2)
QUICK = Plan(rounds=3, pings=1_000, seconds=1)


class Way(Protocol):
    """A way to an echo: what both kinds can do."""

    async def write(self, data: bytes) -> None: ...

    async def read(self) -> bytes: ...

    def abort(self) -> None: ...


@contextlib.contextmanager
def _apart() -> Iterator[int]:
    """This process on the first core; yields the core for servers.

    Where the kernel puts two processes that take turns changes a round trip by half.
    """
    before = os.sched_getaffinity(0)
    cores = sorted(before)
    try:
        os.sched_setaffinity(0, {cores[0]})
        yield cores[-1]
    finally:
        os.sched_setaffinity(0, before)


Open: TypeAlias = Callable[[], Awaitable[Way]]


# --- servers, each in a child process


async def serve(name: str) -> None:
    key = NodeKey.generate()
    if name == "bare":
        server = await asyncio.get_running_loop().create_server(
            _Echo, LOOPBACK.host, 0, ssl=server_context(key)
        )
        print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
        await asyncio.Event().wait()
    async with load(name)(key, TransportSettings(bind=LOOPBACK)) as transport:
        said = {"node": key.node_id, "addresses": list(transport.addresses)}
        print(json.dumps(said), flush=True)
        link = await transport.accept()
        async with anyio.create_task_group() as tasks:
            while True:
                tasks.start_soon(_echo, await link.accept_stream())


async def _echo(stream: Stream) -> None:
    with contextlib.suppress(StreamReset):
        while data := await stream.read():
            await stream.write(data)
    stream.abort()


class _Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)

    def pause_writing(self) -> None:
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._transport.resume_reading()


# --- clients


class _Bare(asyncio.Protocol):
    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        self._paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def data_received(self, data: bytes) -> None:
        self._chunks.append(data)
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        if self._writer is not None and not self._writer.done():
            self._writer.set_result(None)

    async def write(self, data: bytes) -> None:
        while self._paused:
            self._writer = asyncio.get_running_loop().create_future()
            await self._writer
        self._transport.write(data)

    async def read(self) -> bytes:
        while not self._chunks:
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        return self._chunks.pop(0)

    def abort(self) -> None:
        self._transport.abort()


@contextlib.asynccontextmanager
async def _dialled(name: str, said: Mapping[str, Any]) -> AsyncIterator[Open]:
    """What opens a way to that server: a connection for `bare`, else a stream of one link."""
    if name == "bare":
        context = client_context()

        async def connect() -> Way:
            _, way = await asyncio.get_running_loop().create_connection(
                _Bare, LOOPBACK.host, said["port"], ssl=context, server_hostname=""
            )
            return way

        yield connect
        return
    async with load(name)(NodeKey.generate(), TransportSettings(bind=LOOPBACK)) as here:
        link = await here.dial(NodeId(said["node"]), said["addresses"], timeout_s=10)
        yield link.open_stream


async def _fresh_us(open_way: Open, count: int) -> float:
    """To open a way and get the first answer over it."""
    took = []
    for _ in range(count):
        began = time.perf_counter()
        way = await open_way()
        await way.write(b"x")
        await way.read()
        took.append((time.perf_counter() - began) * 1e6)
        way.abort()
    return statistics.median(took)


async def _beside_bulk_us(open_way: Open, plan: Plan) -> float:
    """Round trips on one way while another carries chunks as fast as it can."""
    bulk, small = await open_way(), await open_way()
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_echoed_mb_s, bulk, 1e9)
            took = await _round_trips_us(small, plan.pings // 10)
            tasks.cancel_scope.cancel()
    finally:
        bulk.abort()
        small.abort()
    return statistics.median(took)


async def _round_trips_us(way: Way, count: int) -> Sequence[float]:
    message, took = bytes(PING_BYTES), []
    for _ in range(count):
        began = time.perf_counter()
        await way.write(message)
        left = PING_BYTES
        while left:
            left -= len(await way.read())
        took.append((time.perf_counter() - began) * 1e6)
    return sorted(took)


async def _echoed_mb_s(way: Way, seconds: float) -> float:
    """Chunks out and back at once, with a bounded amount on the way."""
    chunk = bytes(CHUNK_BYTES)
    sent = received = 0
    more = asyncio.Event()
    began = time.perf_counter()

    async def receive() -> None:
        nonlocal received
        # Given up by the end of the block below, perhaps in the middle of a read.
        with contextlib.suppress(StreamReset):
            while True:
                received += len(await way.read())
                more.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(receive)
        while (going := time.perf_counter() - began < seconds) or received < sent:
            if going and sent - received < IN_FLIGHT_BYTES:
                await way.write(chunk)
                sent += CHUNK_BYTES
            else:
                more.clear()
                await more.wait()
        tasks.cancel_scope.cancel()
    return received / (time.perf_counter() - began) / 1e6


# --- rounds


@contextlib.contextmanager
def _server(name: str, core: int) -> Iterator[Mapping[str, Any]]:
    argv = [sys.executable, "-m", "benchmarks.transports", name, str(core)]
    # A server whose client went ends by being killed; what it thinks of that is no news.
    with subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield json.loads(process.stdout.readline())
        finally:
            process.kill()


def measure(plan: Plan, say: Callable[[str], None]) -> dict[str, Figures]:
    with _apart() as core:
        return uvloop.run(_measure(plan, say, core))


async def _measure(plan: Plan, say: Callable[[str], None], core: int) -> dict[str, Figures]:
    figures = {name: Figures(name, "") for name in NAMES}
    async with contextlib.AsyncExitStack() as stack:
        ways: dict[str, tuple[Open, Way]] = {}
        for name in NAMES:
            said = stack.enter_context(_server(name, core))
            open_way = await stack.enter_async_context(_dialled(name, said))
            way = await open_way()
            stack.callback(way.abort)
            ways[name] = open_way, way
            # Windows, caches and the other side's memory settle outside the measurement.
            await _round_trips_us(way, 200)
            await _echoed_mb_s(way, 0.5)
        for number in range(plan.rounds):
            say(f"round {number + 1} of {plan.rounds}: transports")
            for name, (open_way, way) in ways.items():
                took = await _round_trips_us(way, plan.pings)
                figures[name].add("rtt_p50_us", statistics.median(took))
                figures[name].add("rtt_p99_us", took[int(len(took) * 0.99)])
                figures[name].add("mb_s", await _echoed_mb_s(way, plan.seconds))
                figures[name].add("fresh_us", await _fresh_us(open_way, plan.pings // 20))
                figures[name].add("beside_us", await _beside_bulk_us(open_way, plan))
    return figures


# --- the page


def markdown(figures: Mapping[str, Figures], machine: Sequence[tuple[str, str]], plan: Plan) -> str:
    rows = (
        ("rtt_p50_us", f"round trip of {PING_BYTES} B, p50 us"),
        ("rtt_p99_us", f"round trip of {PING_BYTES} B, p99 us"),
        ("mb_s", "64 KiB chunks echoed, MB/s each way"),
        ("fresh_us", "a fresh connection (bare) or stream, to its first answer, p50 us"),
        (
            "beside_us",
            "round trip beside chunks on the same link (bare: another connection), p50 us",
        ),
    )
    lines = [
        "# Mesh transports",
        "",
        (
            "Written by `python -m benchmarks --only transports`. `bare` is asyncio's own TLS on "
            "uvloop: one connection, Protocols, no framing. Each server is a process of its own on "
            "the last core, the client stays on the first; "
            f"medians of {plan.rounds} interleaved rounds."
        ),
        "",
        "| | " + " | ".join(figures) + " |",
        "|---|" + "---:|" * len(figures),
    ]
    for name, words in rows:
        cells = [f"{one.median(name) or 0:,.0f}" for one in figures.values()]
        lines.append(f"| {words} | " + " | ".join(cells) + " |")
    lines += ["", "## Aims", "", "Medians of the ratios inside each round.", ""]
    lines += ["| aim | wanted | measured | met |", "|---|---:|---:|---|"]
    bare, tls = figures["bare"], figures["tls"]
    slower, kept = ratio(tls, bare, "rtt_p50_us"), ratio(tls, bare, "mb_s")
    assert slower is not None
    assert kept is not None
    aims = (
        ("round trip p50 of `tls` against bare", "at most", ROUND_TRIP_MAX, slower),
        ("throughput of `tls` against bare", "at least", THROUGHPUT_MIN, kept),
    )
    for words, sign, bound, value in aims:
        met = value <= bound if sign == "at most" else value >= bound
        lines.append(f"| {words} | {sign} {bound:g} | {value:.2f} | {'yes' if met else 'no'} |")
    lines += ["", "## Machine", "", "| | |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in machine]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    os.sched_setaffinity(0, {int(sys.argv[2])})
    uvloop.run(serve(sys.argv[1]))
