"""A node that falls silent with its connection open loses its requests to others that are ready."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from tests.gateway.broken import DIGEST, answer, going_on
from tests.gateway.parts import (
    CHAT,
    KEY,
    SSE_HEAD,
    STREAM,
    WHOLE,
    Gateway,
    answering,
    gateway_to,
    whole,
)
from tests.util.http_parts import Caller

from helexa.cortex.gateway import silence
from helexa.protocol.ids import NodeId
from helexa.util.upstream import Headers, Response

pytestmark = pytest.mark.anyio

SHOWN = {**STREAM, "stream_options": {"include_usage": True}}


class Stopped:
    """A neuron that says so many events of an answer, and then nothing until it is let go."""

    def __init__(self, events: int = 0, rest: bytes = b"") -> None:
        self.said = asyncio.Event()
        self.left = asyncio.Event()
        self.go = asyncio.Event()
        self._events = events
        self._rest = rest

    async def __call__(self, caller: Caller) -> None:
        await caller.request()
        if self._events:
            await caller.say(SSE_HEAD)
            await caller.say_chunk(b"".join(answer()[: self._events]))
        self.said.set()
        if self._rest:
            await self.go.wait()
            await caller.say(self._rest)
        await caller.gone()
        self.left.set()


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(silence, "QUIET_S", 0.0)


def first(gateway: Gateway) -> NodeId:
    return next(iter(gateway.fleet.ways))


@pytest.mark.parametrize("body", [CHAT, STREAM])
async def test_before_its_first_byte_a_request_goes_to_the_next(body: object) -> None:
    stopped = Stopped()
    async with gateway_to(stopped, answering(whole())) as gateway:
        posted = asyncio.ensure_future(gateway.post(body))
        await stopped.said.wait()
        gateway.fleet.look({first(gateway)})
        got = await posted
        assert (got.status, got.body) == (200, WHOLE)
        assert gateway.fleet.outcomes == ["peer_lost", "ok"]
        await asyncio.wait_for(stopped.left.wait(), 10)


@asynccontextmanager
async def streaming(gateway: Gateway, headers: Headers = ()) -> AsyncIterator[Response]:
    """An answer of which the client has the beginning."""
    sent = [*headers, (b"authorization", b"Bearer " + KEY.encode())]
    body = json.dumps(SHOWN).encode()
    with await gateway.pool.request("POST", "/v1/chat/completions", sent, body) as response:
        assert await response.ready(10)
        yield response


async def test_a_stream_goes_on_by_the_same_weights_elsewhere() -> None:
    stopped = Stopped(4)
    async with gateway_to(stopped, going_on()) as gateway:
        gateway.fleet.digests = dict.fromkeys(gateway.fleet.ways, DIGEST)
        async with streaming(gateway) as response:
            gateway.fleet.look({first(gateway)})
            assert await response.read(1 << 20) == b"".join(answer())
        assert gateway.fleet.outcomes == ["peer_lost", "ok"]


@pytest.mark.parametrize("others", ["nobody", "other weights", "unwanted"])
async def test_where_nobody_can_go_on_it_waits_for_the_silent_one(others: str) -> None:
    rest = b"".join(b"%x\r\n%s\r\n" % (len(one), one) for one in answer()[4:]) + b"0\r\n\r\n"
    stopped = Stopped(4, rest)
    neurons = [stopped] if others == "nobody" else [stopped, going_on()]
    headers = [(b"x-helexa-resume", b"off")] if others == "unwanted" else []
    async with gateway_to(*neurons) as gateway:
        gateway.fleet.digests = {
            node: DIGEST if others != "other weights" else f"sha256:{number}"
            for number, node in enumerate(gateway.fleet.ways)
        }
        async with streaming(gateway, headers) as response:
            gateway.fleet.look({first(gateway)})
            stopped.go.set()
            assert await response.read(1 << 20) == b"".join(answer())
        assert gateway.fleet.outcomes == ["ok"]


async def test_who_is_heard_keeps_its_requests() -> None:
    stopped = Stopped(0, whole())
    async with gateway_to(stopped, answering(whole())) as gateway:
        posted = asyncio.ensure_future(gateway.post(CHAT))
        await stopped.said.wait()
        gateway.fleet.look({list(gateway.fleet.ways)[1]})
        stopped.go.set()
        assert (await posted).status == 200
        assert gateway.fleet.outcomes == ["ok"]


async def test_a_stream_on_which_something_comes_is_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(silence, "QUIET_S", 3_600.0)
    stopped = Stopped(0, whole())
    async with gateway_to(stopped, answering(whole())) as gateway:
        posted = asyncio.ensure_future(gateway.post(CHAT))
        await stopped.said.wait()
        gateway.fleet.look({first(gateway)})
        stopped.go.set()
        assert (await posted).status == 200
        assert gateway.fleet.outcomes == ["ok"]
