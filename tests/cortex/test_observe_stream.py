"""The stream of news over the real server: events as browsers read them, and coming back."""

from __future__ import annotations

import json
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from tests.cortex.fleets import capability, descriptor, node
from tests.websockets import Refused, socket

from helexa.cortex.orchestrator import policies
from helexa.cortex.orchestrator.api import application
from helexa.cortex.orchestrator.fleet import NeuronLeft, NeuronRegistered
from helexa.cortex.orchestrator.neurons import Neurons
from helexa.cortex.orchestrator.observe import Log
from helexa.cortex.orchestrator.reception import Timing
from helexa.protocol.errors import http_refusal
from helexa.protocol.sse import Splitter
from helexa.util.http_server import ServerLimits, serving
from helexa.util.sockets import Address, listen_tcp
from helexa.util.upstream import Pool, Tcp

pytestmark = pytest.mark.anyio

TOKEN = "hx_admin_of_this_test"
BEARER = ((b"authorization", f"Bearer {TOKEN}".encode()),)


class World:
    def __init__(self, neurons: Neurons, log: Log, port: int) -> None:
        self.neurons = neurons
        self.log = log
        self.port = port

    def comes(self, number: int) -> None:
        self.neurons.post(
            NeuronRegistered(
                descriptor=descriptor(number), capabilities=(capability(),), now_s=time.monotonic()
            )
        )

    def goes(self, number: int) -> None:
        self.neurons.post(NeuronLeft(node=node(number), reason="bye", now_s=time.monotonic()))


async def no_keys() -> Any:
    raise AssertionError("nobody asks for keys here")


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    log = Log(epoch="e", monotonic=time.monotonic, unix=time.time)
    neurons = Neurons(
        policy=policies.named("least_loaded"),
        timing=Timing(1, 4),
        name="",
        monotonic=time.monotonic,
        random=random.random,
        log=log,
    )
    app = application(admin_token=TOKEN, neurons=neurons, keys=no_keys, status=dict, log=log)
    listener = listen_tcp(Address("127.0.0.1", 0))
    served = serving(
        app,
        [listener],
        ServerLimits(),
        error_body=http_refusal,
        shutdown_grace_s=0,
        websockets=True,
    )
    async with served:
        yield World(neurons, log, listener.getsockname()[1])


class Reader:
    """One stream; `next` is its next event, keepalives left out."""

    def __init__(self, response: Any) -> None:
        self._response = response
        self._events: list[dict[str, Any]] = []
        self._splitter = Splitter()

    async def next(self) -> dict[str, Any]:
        with anyio.fail_after(5):
            while not self._events:
                chunk = await self._response.chunk()
                assert chunk, "the stream ended"
                for event in self._splitter.feed(chunk):
                    fields = dict(line.split(b": ", 1) for line in event.strip().splitlines())
                    if b"data" in fields:
                        news = json.loads(fields[b"data"])
                        assert fields[b"id"].decode() == news["id"]
                        assert fields[b"event"].decode() == news["event"]
                        self._events.append(news)
            return self._events.pop(0)


@asynccontextmanager
async def reading(
    world: World, query: str = "", *headers: tuple[bytes, bytes]
) -> AsyncIterator[Reader]:
    dial = Tcp("127.0.0.1", world.port)
    async with Pool(dial, connections_max=4, waiting_max=4).running() as pool:
        path = f"/api/v1/observe{query}"
        with await pool.request("GET", path, (*BEARER, *headers), b"") as response:
            await response.head()
            assert response.status == 200
            yield Reader(response)


async def test_a_reader_gets_all_that_there_is_and_then_what_happens() -> None:
    async with world() as here:
        here.comes(1)
        async with reading(here) as reader:
            first = await reader.next()
            assert first["event"] == "snapshot"
            assert [one["node"] for one in first["nodes"]] == [node(1)]
            assert [one["model"] for one in first["models"]] == ["m"]
            here.goes(1)
            assert (await reader.next())["event"] == "neuron_removed"
        with anyio.fail_after(5):
            while here.log.is_watched:
                await anyio.lowlevel.checkpoint()


@pytest.mark.parametrize("how", ["query", "header"])
async def test_whoever_comes_back_gets_what_it_missed(how: str) -> None:
    async with world() as here:
        async with reading(here) as reader:
            seen = (await reader.next())["id"]
        here.comes(1)
        query, headers = (
            (f"?since={seen}", ()) if how == "query" else ("", ((b"last-event-id", seen.encode()),))
        )
        async with reading(here, query, *headers) as reader:
            assert (await reader.next())["event"] == "neuron_registered"
            assert (await reader.next())["event"] == "model_state_changed"


async def test_only_the_words_that_were_asked_for_are_told() -> None:
    async with world() as here, reading(here, "?only=neuron_removed") as reader:
        assert (await reader.next())["event"] == "snapshot"
        here.comes(1)
        here.goes(1)
        assert (await reader.next())["event"] == "neuron_removed"


async def test_a_reader_too_many_or_one_that_asks_nonsense_is_refused() -> None:
    async with world() as here:
        dial = Tcp("127.0.0.1", here.port)
        async with Pool(dial, connections_max=4, waiting_max=4).running() as pool:

            async def refused(query: str) -> tuple[int, str]:
                path = f"/api/v1/observe{query}"
                with await pool.request("GET", path, BEARER, b"") as response:
                    await response.head()
                    return response.status, json.loads(await response.read(65536))["error"]["code"]

            assert await refused("?only=weather") == (400, "bad_request")
            assert await refused("?since=" + "x" * 200) == (400, "bad_request")


# --- as a websocket


WS = "/api/v1/observe/ws"


async def test_a_websocket_tells_the_same_and_goes_on_from_where_one_was() -> None:
    async with world() as here:
        async with socket(here.port, WS, [*BEARER]) as first:
            snapshot = await first.message()
            assert (snapshot["event"], snapshot["nodes"]) == ("snapshot", [])
            here.comes(1)
            came = await first.message()
            assert came["event"] == "neuron_registered"
        async with socket(
            here.port, f"{WS}?since={came['id']}&only=neuron_removed", [*BEARER]
        ) as again:
            here.goes(1)
            assert (await again.message())["event"] == "neuron_removed"


async def test_a_websocket_that_leaves_watches_no_longer() -> None:
    async with world() as here:
        async with socket(here.port, WS, [*BEARER]) as one:
            await one.message()
            await one.send("whatever a reader says is not heard")
            here.comes(1)
            assert (await one.message())["event"] == "neuron_registered"
            assert here.log.is_watched
        with anyio.fail_after(5):
            while here.log.is_watched:
                await anyio.lowlevel.checkpoint()


@pytest.mark.parametrize(
    ("target", "headers", "status", "code"),
    [
        (WS, [], 401, "invalid_admin_token"),
        (f"{WS}?only=weather", [*BEARER], 400, "bad_request"),
        (f"{WS}?sinse=1", [*BEARER], 400, "bad_request"),
        ("/api/v1/observe", [*BEARER], 404, "unknown_url"),
        ("/nothing", [*BEARER], 404, "unknown_url"),
    ],
)
async def test_a_websocket_is_refused_in_the_envelope(
    target: str, headers: list[tuple[bytes, bytes]], status: int, code: str
) -> None:
    async with world() as here:
        with pytest.raises(Refused) as refusal:
            async with socket(here.port, target, headers):
                pass
        assert refusal.value.status == status
        assert json.loads(refusal.value.body)["error"]["code"] == code


async def test_half_a_handshake_is_told_to_be_a_whole_one() -> None:
    async with world() as here:
        dial = Tcp("127.0.0.1", here.port)
        async with Pool(dial, connections_max=4, waiting_max=4).running() as pool:
            upgrade = ((b"connection", b"upgrade"), (b"upgrade", b"websocket"))
            for headers in (BEARER, (*BEARER, *upgrade)):
                with await pool.request("GET", WS, headers, b"") as response:
                    await response.head()
                    said = json.loads(await response.read(65536))
                assert (response.status, said["error"]["code"]) == (426, "upgrade_required")
