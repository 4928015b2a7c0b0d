"""The HTTP server against clients that mean well, badly, or nothing at all."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from tests.util.http_parts import Caller, raw_client, small_buffers

from helexa.util.http_server import (
    App,
    BodyTooBig,
    BodyTooSlow,
    ClientGone,
    HttpServer,
    Receive,
    Scope,
    Send,
    ServerLimits,
    UntilDisconnect,
    read_body,
    serving,
)
from helexa.util.sockets import Address, listen_tcp
from helexa.util.upstream import Pool, Streams, Tcp, Unix

pytestmark = pytest.mark.anyio


def error_body(status: int, message: str) -> bytes:
    return b'{"error": {"message": "%s", "status": %d}}' % (message.encode(), status)


@asynccontextmanager
async def server_of(
    app: App, *, grace_s: float = 5.0, **limits: Any
) -> AsyncIterator[tuple[HttpServer, int]]:
    listener = listen_tcp(Address("127.0.0.1", 0))
    port = listener.getsockname()[1]
    async with serving(
        app, [listener], ServerLimits(**limits), error_body=error_body, shutdown_grace_s=grace_s
    ) as server:
        yield server, port


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    body = await read_body(scope, receive, bytes_max=1000, timeout_s=5)
    await send(
        {
            "type": "http.response.start",
            "status": 200,
            "headers": [(b"content-length", b"%d" % len(body))],
        }
    )
    await send({"type": "http.response.body", "body": body})


async def stream_one(scope: Scope, receive: Receive, send: Send) -> None:
    """Starts a stream with one chunk and leaves the rest to the test."""
    await read_body(scope, receive, bytes_max=1000, timeout_s=5)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"one", "more_body": True})


async def status_of(client: Caller) -> bytes:
    line = await client.reader.readline()
    return line.split(b" ")[1]


async def rest_of(client: Caller) -> bytes:
    try:
        return await client.reader.read()
    except ConnectionError:
        return b""


async def test_a_request_is_answered_and_the_connection_serves_the_next() -> None:
    async with server_of(echo) as (_, port), raw_client(port) as client:
        for body in (b"one", b"two"):
            await client.say(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\n" + body)
            head = await client.reader.readuntil(b"\r\n\r\n")
            assert head == b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n"
            assert await client.reader.readexactly(3) == body


async def test_pipelined_requests_are_answered_in_order() -> None:
    async with server_of(echo) as (_, port), raw_client(port) as client:
        await client.say(
            b"".join(
                b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\n%d" % n for n in range(5)
            )
            + b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
        )
        answer = await rest_of(client)
        assert [part[-1:] for part in answer.split(b"HTTP/1.1")[1:6]] == [
            b"0",
            b"1",
            b"2",
            b"3",
            b"4",
        ]


async def test_a_body_without_a_length_is_chunked() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        await send({"type": "http.response.body", "body": b"two"})

    async with server_of(app) as (_, port), raw_client(port) as client:
        await client.say(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        answer = await rest_of(client)
        assert answer.endswith(b"\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n")
        assert b"connection: close\r\n" in answer


async def test_a_head_request_gets_the_head_alone() -> None:
    async with server_of(echo) as (_, port), raw_client(port) as client:
        await client.say(b"HEAD / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert (await rest_of(client)).endswith(b"\r\n\r\n")


async def test_a_declared_body_that_is_too_big_is_refused_before_it_is_sent() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        with pytest.raises(BodyTooBig):
            await read_body(scope, receive, bytes_max=1000, timeout_s=5)
        await send({"type": "http.response.start", "status": 413, "headers": []})
        await send({"type": "http.response.body", "body": b"too big"})

    async with server_of(app) as (_, port), raw_client(port) as client:
        await client.say(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 100000000\r\n\r\n")
        assert await status_of(client) == b"413"


async def test_the_refusal_of_a_big_body_reaches_a_client_that_sends_it_all_first() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        with pytest.raises(BodyTooBig):
            await read_body(scope, receive, bytes_max=1000, timeout_s=5)
        await send({"type": "http.response.start", "status": 413, "headers": []})
        await send({"type": "http.response.body", "body": b"too big"})

    async with server_of(app) as (_, port), raw_client(port) as client:
        size = 20_000_000
        await client.say(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % size)
        for _ in range(20):
            await client.say(b"x" * 1_000_000)
        assert await status_of(client) == b"413"
        await client.reader.readuntil(b"0\r\n\r\n")
        # And the connection is still good for a request.
        await client.say(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5000\r\n\r\n")
        assert await status_of(client) == b"413"


async def test_a_chunked_body_is_counted_as_it_comes() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        with pytest.raises(BodyTooBig):
            await read_body(scope, receive, bytes_max=1000, timeout_s=5)
        await send({"type": "http.response.start", "status": 413, "headers": []})
        await send({"type": "http.response.body", "body": b"too big"})

    async with server_of(app) as (_, port), raw_client(port) as client:
        await client.say(b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
        for _ in range(3):
            await client.say_chunk(b"x" * 500)
        assert await status_of(client) == b"413"


async def test_a_body_that_never_comes_is_too_slow() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        with pytest.raises(BodyTooSlow):
            await read_body(scope, receive, bytes_max=1000, timeout_s=0.05)
        await send({"type": "http.response.start", "status": 408, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async with server_of(app) as (_, port), raw_client(port) as client:
        await client.say(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nhalf")
        assert await status_of(client) == b"408"


async def test_a_client_that_leaves_inside_its_body_is_gone() -> None:
    seen = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        with pytest.raises(ClientGone):
            await read_body(scope, receive, bytes_max=1000, timeout_s=5)
        seen.set()

    async with server_of(app) as (_, port):
        async with raw_client(port) as client:
            await client.say(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nhalf")
        await seen.wait()


async def test_a_client_that_expects_100_gets_it_when_the_body_is_wanted() -> None:
    async with server_of(echo) as (_, port), raw_client(port) as client:
        await client.say(
            b"POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n"
        )
        assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await client.say(b"ok")
        assert await status_of(client) == b"200"


@pytest.mark.parametrize(
    "nonsense",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"NONSENSE\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\nno colon here\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: -5\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nhost: x\r\n\r\n",
    ],
)
async def test_what_is_not_http_is_answered_in_our_own_form_and_closed(nonsense: bytes) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        # One of these fails only in its body; then the application waits for it.
        await read_body(scope, receive, bytes_max=1000, timeout_s=5)

    async with server_of(app) as (_, port), raw_client(port) as client:
        await client.say(nonsense)
        answer = await rest_of(client)
        assert answer == b"" or (
            answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
            and b"connection: close\r\n" in answer
            and answer.endswith(error_body(400, "This is not a valid HTTP/1.1 request."))
        )


async def test_nonsense_before_any_answer_is_a_400() -> None:
    async with server_of(echo) as (_, port), raw_client(port) as client:
        await client.say(b"NONSENSE\r\n\r\n")
        assert await status_of(client) == b"400"


async def test_nonsense_behind_a_request_does_not_corrupt_its_answer() -> None:
    went_on = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        with UntilDisconnect(scope) as client:
            await stream_one(scope, receive, send)
            await anyio.sleep_forever()
        assert client.gone
        went_on.set()

    async with server_of(app) as (_, port), raw_client(port) as client:
        await client.say(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        await client.reader.readuntil(b"one\r\n")
        await client.say(b"NONSENSE\r\n\r\n")
        await went_on.wait()
        assert await rest_of(client) == b""


@pytest.mark.parametrize("endless", [b"x: ", b"GET /", b"POST / HTTP/1.1\r\nhost: x\r\nx"])
async def test_a_header_without_end_is_cut_off_at_the_limit(endless: bytes) -> None:
    async with (
        server_of(echo, header_bytes_max=10_000) as (_, port),
        raw_client(port) as client,
    ):
        start = b"GET / HTTP/1.1\r\nhost: x\r\n" if endless == b"x: " else b""
        await client.say(start + endless)
        for _ in range(20):
            await client.say(b"y" * 1000)
        assert await status_of(client) == b"431"
        assert b"connection: close" in await rest_of(client)


async def test_many_small_headers_are_cut_off_at_the_limit() -> None:
    async with (
        server_of(echo, header_bytes_max=10_000) as (_, port),
        raw_client(port) as client,
    ):
        await client.say(b"GET / HTTP/1.1\r\nhost: x\r\n" + b"a: b\r\n" * 3000)
        assert await status_of(client) == b"431"


async def test_trailers_without_end_are_cut_off() -> None:
    gone = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        with pytest.raises(ClientGone):
            await read_body(scope, receive, bytes_max=1000, timeout_s=5)
        gone.set()

    async with server_of(app, header_bytes_max=10_000) as (_, port), raw_client(port) as client:
        await client.say(
            b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx: "
        )
        with suppress(ConnectionError):
            while not gone.is_set():
                await client.say(b"y" * 1000)
        await gone.wait()


async def test_headers_that_dribble_in_time_out() -> None:
    async with (
        server_of(echo, header_timeout_s=0.1) as (_, port),
        raw_client(port) as client,
    ):
        await client.say(b"GET / HTTP/1.1\r\nhost: x\r\n")
        async with anyio.create_task_group() as tasks:

            async def dribble() -> None:
                while True:
                    await client.say(b"a: b\r\n")
                    await anyio.sleep(0.02)

            tasks.start_soon(dribble)
            assert await status_of(client) == b"408"
            tasks.cancel_scope.cancel()


async def test_a_connection_that_never_speaks_is_closed() -> None:
    async with (
        server_of(echo, header_timeout_s=0.05) as (_, port),
        raw_client(port) as client,
    ):
        assert await rest_of(client) == b""


async def test_an_idle_connection_is_closed_after_its_time() -> None:
    async with server_of(echo, keep_alive_s=0.05) as (_, port), raw_client(port) as client:
        await client.say(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        assert (await rest_of(client)).startswith(b"HTTP/1.1 200 OK\r\n")


async def test_a_client_that_does_not_read_is_dropped_and_its_handler_ended() -> None:
    ended = asyncio.Event()
    chunk = b"z" * 65536

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        with UntilDisconnect(scope):
            await send({"type": "http.response.start", "status": 200, "headers": []})
            while True:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        ended.set()

    async with (
        server_of(app, write_stall_s=0.1) as (_, port),
        raw_client(port) as client,
    ):
        small_buffers(client.writer)
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await client.say(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        await ended.wait()


async def test_a_client_that_reads_slowly_but_reads_is_kept() -> None:
    total = 30_000_000
    pauses = 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal pauses
        await send({"type": "http.response.start", "status": 200, "headers": []})
        body = b"z" * 100_000
        for _ in range(total // len(body)):
            with anyio.move_on_after(0) as waited:
                await send({"type": "http.response.body", "body": body, "more_body": True})
            if waited.cancelled_caught:
                pauses += 1
                await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async with (
        server_of(app, write_stall_s=0.5) as (_, port),
        raw_client(port) as client,
    ):
        await client.say(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        received = 0
        while part := await client.reader.read(1_000_000):
            received += part.count(b"z")
            await anyio.sleep(0.01)
        assert received == total
        assert pauses


async def test_a_disconnect_cancels_the_handler_at_once() -> None:
    started, ended = asyncio.Event(), asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        with UntilDisconnect(scope) as client:
            await stream_one(scope, receive, send)
            started.set()
            await anyio.sleep_forever()
        assert client.gone
        # The cancellation is over with the block.
        await anyio.lowlevel.checkpoint()
        ended.set()

    async with server_of(app) as (_, port):
        async with raw_client(port) as client:
            await client.say(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            await started.wait()
        await ended.wait()


async def test_a_client_that_left_before_the_handler_looked_is_noticed() -> None:
    arrived, go, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        arrived.set()
        await go.wait()
        with UntilDisconnect(scope) as client:
            await anyio.sleep_forever()
        assert client.gone
        ended.set()

    async with server_of(app) as (server, port):
        async with raw_client(port) as client:
            await client.say(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            await arrived.wait()
        while server.connections:
            await anyio.lowlevel.checkpoint()
        go.set()
        await ended.wait()


async def test_another_cancellation_passes_through_the_block() -> None:
    started = asyncio.Event()
    outcome: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        with anyio.CancelScope() as scope_of_ours:
            with UntilDisconnect(scope) as client:
                started.set()
                scope_of_ours.cancel()
                await anyio.sleep_forever()
            outcome.append("swallowed")
        assert not client.gone
        outcome.append("passed")
        await echo(scope, receive, send)

    async with server_of(app) as (_, port), raw_client(port) as client:
        await client.say(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        assert await status_of(client) == b"200"
    assert outcome == ["passed"]


async def test_connections_beyond_the_limit_are_told_so() -> None:
    async with server_of(echo, connections_max=1) as (_, port), raw_client(port) as first:
        await first.say(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        assert await status_of(first) == b"200"
        async with raw_client(port) as second:
            assert await status_of(second) == b"503"
            assert b"connection: close" in await rest_of(second)


async def test_leaving_lets_running_requests_end() -> None:
    started, go = asyncio.Event(), asyncio.Event()
    answers: list[bytes] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await stream_one(scope, receive, send)
        started.set()
        await go.wait()
        await send({"type": "http.response.body", "body": b"two"})

    async with anyio.create_task_group() as tasks, server_of(app) as (server, port):

        async def call() -> None:
            async with raw_client(port) as client:
                await client.say(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
                answers.append(await rest_of(client))

        tasks.start_soon(call)
        await started.wait()
        server.stop_accepting()
        with pytest.raises(OSError, match="111"):
            await asyncio.open_connection("127.0.0.1", port)
        go.set()
    assert answers[0].endswith(b"3\r\ntwo\r\n0\r\n\r\n")


async def test_after_the_grace_a_running_request_has_its_last_words() -> None:
    started = asyncio.Event()
    gone: list[bool] = []
    heard: list[bytes] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        with UntilDisconnect(scope) as client:
            try:
                await stream_one(scope, receive, send)
                started.set()
                await anyio.sleep_forever()
            except asyncio.CancelledError:
                gone.append(client.gone)
                await send({"type": "http.response.body", "body": b"bye"})
                raise

    async def call(port: int) -> None:
        async with raw_client(port) as client:
            await client.say(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            heard.append(await rest_of(client))

    async with anyio.create_task_group() as tasks, server_of(app, grace_s=0.05) as (_, port):
        tasks.start_soon(call, port)
        await started.wait()
    assert gone == [False]
    assert heard[0].endswith(b"3\r\nbye\r\n0\r\n\r\n")


async def test_a_request_that_clings_to_its_client_is_cut_in_the_end() -> None:
    started = asyncio.Event()
    gone: list[bool] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        with UntilDisconnect(scope) as client:
            started.set()
            while not client.gone:
                with suppress(asyncio.CancelledError):
                    await anyio.sleep_forever()
        gone.append(client.gone)

    async with raw_client_after(server_of(app, grace_s=0.05)) as client:
        await client.say(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        await started.wait()
    assert gone == [True]


@asynccontextmanager
async def raw_client_after(server: Any) -> AsyncIterator[Caller]:
    """A client that outlives the server."""
    async with AsyncExitStack() as stack, server as (_, port):
        yield await stack.enter_async_context(raw_client(port))


async def test_leaving_by_an_exception_does_not_wait_for_anybody() -> None:
    started = asyncio.Event()
    ended: list[bool] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            started.set()
            await anyio.sleep_forever()
        finally:
            ended.append(True)

    async def fail_inside() -> None:
        async with raw_client_after(server_of(app, grace_s=3600)) as client:
            await client.say(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            await started.wait()
            raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        await fail_inside()
    assert ended == [True]


async def test_a_handler_that_ignores_everything_is_cancelled_in_the_end() -> None:
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        started.set()
        try:
            await anyio.sleep_forever()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async with raw_client_after(server_of(app, grace_s=0)) as client:
        await client.say(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        await started.wait()
    assert cancelled.is_set()


async def test_an_idle_connection_does_not_hold_up_the_end() -> None:
    async with raw_client_after(server_of(echo, grace_s=3600)) as client:
        await client.say(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        assert await status_of(client) == b"200"


async def test_several_sockets_serve_the_same_app_and_a_unix_socket_leaves_no_file(
    tmp_path: Path,
) -> None:
    path = tmp_path / "s"
    unix = socket.socket(socket.AF_UNIX)
    unix.bind(str(path))
    unix.listen()
    tcp = listen_tcp(Address("127.0.0.1", 0))
    port = tcp.getsockname()[1]
    async with serving(
        echo, [unix, tcp], ServerLimits(), error_body=error_body, shutdown_grace_s=1
    ):
        for dial in (Unix(str(path)), Tcp("127.0.0.1", port)):
            async with Pool(dial).running() as pool:
                with await pool.request("POST", "/", (), b"hi") as response:
                    assert await response.read(10) == b"hi"
    assert not path.exists()


class Half:
    """One end of an in-memory stream."""

    def __init__(self, inbox: asyncio.Queue[bytes], outbox: asyncio.Queue[bytes]) -> None:
        self._inbox, self._outbox = inbox, outbox

    async def read(self) -> bytes:
        return await self._inbox.get()

    async def write(self, data: bytes) -> None:
        await self._outbox.put(data)

    async def finish(self) -> None:
        await self._outbox.put(b"")

    def abort(self) -> None:
        self._outbox.put_nowait(b"")


async def test_a_byte_stream_is_served_like_a_connection() -> None:
    async with server_of(echo) as (server, _), anyio.create_task_group() as tasks:

        async def open_stream() -> Half:
            there: asyncio.Queue[bytes] = asyncio.Queue()
            back: asyncio.Queue[bytes] = asyncio.Queue()
            tasks.start_soon(server.serve_stream, Half(there, back))
            return Half(back, there)

        async with Pool(Streams(open_stream)).running() as pool:
            for body in (b"one", b"x" * 900):
                with await pool.request("POST", "/", (), body) as response:
                    assert await response.read(1000) == body


async def test_an_offer_to_upgrade_is_declined_and_the_body_is_read() -> None:
    async with server_of(echo) as (_, port), raw_client(port) as client:
        # What Java's client sends with its first request.
        await client.say(
            b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n"
            b"connection: Upgrade, HTTP2-Settings\r\n"
            b"http2-settings: AAEAAEAAAAIAAAABAAMAAABk\r\nupgrade: h2c\r\n\r\nhe"
        )
        await client.say(b"llo")
        answer = await rest_of(client)
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert answer.endswith(b"hello")


async def test_an_offer_to_upgrade_without_a_body_is_a_plain_request() -> None:
    async with server_of(echo) as (_, port), raw_client(port) as client:
        await client.say(
            b"GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
        )
        assert await status_of(client) == b"200"


async def test_a_line_break_in_a_response_header_never_leaves() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"x-id", b"1\r\nset-cookie: evil=1")]
        with pytest.raises(RuntimeError, match="line break"):
            await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.start", "status": 500, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async with server_of(app) as (_, port), raw_client(port) as client:
        await client.say(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert b"evil" not in await rest_of(client)


async def test_a_faulty_handler_is_a_500_and_the_server_goes_on() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/bad":
            raise ValueError("on purpose")
        await echo(scope, receive, send)

    async with server_of(app) as (_, port):
        for path, status in ((b"/bad", b"500"), (b"/good", b"200")):
            async with raw_client(port) as client:
                await client.say(b"GET " + path + b" HTTP/1.1\r\nhost: x\r\n\r\n")
                assert await status_of(client) == status
