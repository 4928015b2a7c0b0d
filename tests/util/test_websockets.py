"""Websockets of our server: what is bounded, what ends them, and who is answered over HTTP."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from tests.websockets import Closed, socket

from helexa.util.http_connection import WEBSOCKET_BYTES_MAX
from helexa.util.http_server import HttpServer, ServerLimits, serving
from helexa.util.sockets import Address, listen_tcp

pytestmark = pytest.mark.anyio

HANDSHAKE = (
    b"GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


class Echo:
    """Answers each message with its length; HTTP with a word."""

    def __init__(self) -> None:
        self.ended = anyio.Event()
        self.flood = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            start = {"type": "http.response.start", "status": 200}
            await send({**start, "headers": [(b"content-length", b"4")]})
            await send({"type": "http.response.body", "body": b"http"})
            return
        try:
            assert (await receive())["type"] == "websocket.connect"
            await send({"type": "websocket.accept"})
            while self.flood:
                await send({"type": "websocket.send", "text": json.dumps("x" * 65_536)})
            while (message := await receive())["type"] != "websocket.disconnect":
                said = message.get("text") or message.get("bytes")
                await send({"type": "websocket.send", "text": json.dumps(len(said))})
        finally:
            self.ended.set()


@asynccontextmanager
async def served(
    app: Any, *, websockets: bool = True, **limits: Any
) -> AsyncIterator[tuple[HttpServer, int]]:
    listener = listen_tcp(Address("127.0.0.1", 0))
    running = serving(
        app,
        [listener],
        ServerLimits(**limits),
        error_body=lambda status, _message: b"%d" % status,
        shutdown_grace_s=0.5,
        websockets=websockets,
    )
    async with running as server:
        yield server, listener.getsockname()[1]


async def until(true: Callable[[], bool]) -> None:
    with anyio.fail_after(10):
        while not true():
            await anyio.lowlevel.checkpoint()


async def test_messages_go_both_ways_and_the_app_hears_the_end() -> None:
    app = Echo()
    async with served(app) as (server, port):
        async with socket(port, "/") as one:
            await one.send("four")
            assert await one.message() == 4
            await one.send(b"bytes")
            assert await one.message() == 5
            assert server.connections == 1
        with anyio.fail_after(5):
            await app.ended.wait()
        await until(lambda: server.connections == 0)


async def test_a_message_beyond_the_bound_ends_the_socket() -> None:
    app = Echo()
    async with served(app) as (_, port), socket(port, "/") as one:
        await one.send("x" * WEBSOCKET_BYTES_MAX)
        assert await one.message() == WEBSOCKET_BYTES_MAX
        await one.send("x" * (WEBSOCKET_BYTES_MAX + 1))
        with pytest.raises(Closed) as closed:
            await one.message()
        assert closed.value.code == 1009
        with anyio.fail_after(5):
            await app.ended.wait()


async def test_one_that_reads_nothing_is_dropped() -> None:
    app = Echo()
    app.flood = True
    async with served(app, write_stall_s=0.2) as (server, port):
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            await stream.send(HANDSHAKE)
            with anyio.fail_after(10):
                await app.ended.wait()
        await until(lambda: server.connections == 0)


async def test_the_end_of_the_server_is_told() -> None:
    app = Echo()
    async with anyio.create_task_group() as tasks:
        told: list[int] = []

        async def read(port: int, *, task_status: Any) -> None:
            async with socket(port, "/") as one:
                task_status.started()
                with pytest.raises(Closed) as closed:
                    await one.message()
                told.append(closed.value.code)

        async with served(app) as (_, port):
            await tasks.start(lambda task_status: read(port, task_status=task_status))
    assert told == [1012]
    assert app.ended.is_set()


@pytest.mark.parametrize(
    "request_",
    [
        HANDSHAKE.replace(b"sec-websocket-key", b"x-other"),
        HANDSHAKE.replace(b"version: 13", b"version: 8"),
        HANDSHAKE.replace(b"upgrade: websocket", b"upgrade: h2c"),
        HANDSHAKE.replace(b"GET", b"POST"),
        HANDSHAKE.replace(b"\r\n\r\n", b"\r\ncontent-length: 2\r\n\r\nhi"),
    ],
)
async def test_what_is_no_handshake_is_answered_over_http(request_: bytes) -> None:
    async with served(Echo()) as (_, port):
        assert await answered(port, request_) == b"http"


async def test_a_server_without_websockets_answers_over_http() -> None:
    async with served(Echo(), websockets=False) as (_, port):
        assert await answered(port, HANDSHAKE) == b"http"


async def answered(port: int, request: bytes) -> bytes:
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        await stream.send(request)
        said = b""
        with anyio.fail_after(5):
            while not said.endswith(b"http"):
                said += await stream.receive()
    assert said.startswith(b"HTTP/1.1 200 ")
    return said[-4:]
