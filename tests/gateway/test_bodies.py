"""What the bodies of all requests under way may take together."""

from __future__ import annotations

import asyncio
import gzip
import json
from typing import Any

import pytest
from tests.gateway.parts import CHAT, KEY, WHOLE, Answer, answering, gateway_to, whole
from tests.util.http_parts import Caller, raw_client

pytestmark = pytest.mark.anyio

ROOM = 400_000


class Slow:
    """A neuron that answers each request when it is let."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.go = asyncio.Event()

    async def __call__(self, caller: Caller) -> None:
        while True:
            await caller.request()
            self.asked.set()
            await self.go.wait()
            await caller.say(whole())


def chat(size: int) -> bytes:
    bare = json.dumps({**CHAT, "user": ""}).encode()
    return json.dumps({**CHAT, "user": "x" * (size - len(bare))}).encode()


def is_refused(answer: Answer) -> None:
    assert (answer.status, answer.error["code"]) == (503, "overloaded")
    assert int(answer.headers["retry-after"]) >= 1


@pytest.mark.parametrize("size", [ROOM // 2 + 1, 64])
async def test_one_that_finds_no_room_is_told_to_come_back_and_then_served(size: int) -> None:
    """The first one takes all but what is short of the second."""
    slow = Slow()
    async with gateway_to(slow, bodies_bytes_max=ROOM) as gateway:
        first = asyncio.ensure_future(gateway.post(chat(ROOM - 300)))
        await slow.asked.wait()
        is_refused(await gateway.post(chat(max(size, 301))))
        slow.go.set()
        assert (await first).status == 200
        assert (await gateway.post(chat(ROOM))).body == WHOLE


@pytest.mark.parametrize("shape", ["unknown length", "packed"])
async def test_what_does_not_say_how_large_it_is_is_counted_as_it_comes(shape: str) -> None:
    slow = Slow()
    async with gateway_to(slow, bodies_bytes_max=ROOM) as gateway:
        first = asyncio.ensure_future(gateway.post(chat(ROOM // 2)))
        await slow.asked.wait()
        large = chat(ROOM * 3 // 4)
        if shape == "packed":
            is_refused(
                await gateway.post(gzip.compress(large), headers=[(b"content-encoding", b"gzip")])
            )
        else:
            async with raw_client(gateway.port) as client:
                await client.say(
                    b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n"
                    b"authorization: Bearer %s\r\ntransfer-encoding: chunked\r\n\r\n" % KEY.encode()
                )
                await client.say(b"%x\r\n%s\r\n0\r\n\r\n" % (len(large), large))
                assert (await client.reader.readline()).startswith(b"HTTP/1.1 503 ")
        slow.go.set()
        assert (await first).status == 200
        assert (await gateway.post(chat(ROOM))).status == 200


async def test_a_client_that_leaves_in_its_body_gives_its_room_back() -> None:
    async with gateway_to(answering(whole()), bodies_bytes_max=ROOM) as gateway:
        async with raw_client(gateway.port) as client:
            await client.say(
                b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer %s\r\n"
                b"content-length: %d\r\n\r\n%s" % (KEY.encode(), ROOM, b" " * (ROOM - 1))
            )
        answer: Any = None
        while answer is None or answer.status == 503:
            answer = await gateway.post(chat(ROOM))
        assert answer.status == 200


async def test_whatever_becomes_of_a_request_its_room_is_given_back() -> None:
    async with gateway_to(answering(whole()), bodies_bytes_max=ROOM) as gateway:
        large = chat(ROOM)
        for body, status in (
            (large[:-1], 400),
            (large.replace(b'"m"', b'"n"'), 404),
            (large + b" ", 503),
            (large, 200),
        ):
            assert (await gateway.post(body)).status == status


@pytest.mark.parametrize(("path", "status"), [("/v1/responses", 503), ("/v1/messages", 503)])
async def test_what_is_translated_is_counted_as_it_came_and_as_it_goes_on(
    path: str, status: int
) -> None:
    words = "x" * (ROOM * 2 // 3)
    body: dict[str, Any] = {"model": "m", "max_tokens": 5}
    if path == "/v1/messages":
        body["messages"] = [{"role": "user", "content": words}]
    else:
        del body["max_tokens"]
        body["input"] = words
    async with gateway_to(answering(whole()), bodies_bytes_max=ROOM) as gateway:
        answer = await gateway.post(body, path)
        assert answer.status == status
        assert "retry-after" in answer.headers
        assert not gateway.neurons[0].requests
        assert (await gateway.post(CHAT)).status == 200
