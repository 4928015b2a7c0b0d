"""Streams, retries, and every way in which a neuron or a client can leave."""

from __future__ import annotations

import asyncio
import json

import anyio
import anyio.lowlevel
import pytest
from tests.gateway.parts import (
    CHAT,
    DONE,
    KEY,
    SSE_HEAD,
    STREAM,
    USAGE,
    WHOLE,
    Gateway,
    answering,
    gateway_to,
    refusal,
    streaming,
    token,
    whole,
)
from tests.util.http_parts import Caller, raw_client

pytestmark = pytest.mark.anyio

NOT_RESUMED = ((b"x-helexa-resume", b"off"),)
"""`test_resume` has the other case."""


def stream_request(body: object = STREAM) -> bytes:
    data = json.dumps(body).encode()
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer %s\r\n"
        b"content-length: %d\r\n\r\n%s" % (KEY.encode(), len(data), data)
    )


async def test_a_stream_passes_as_it_is() -> None:
    async with gateway_to(streaming(token("a"), token("b"), DONE)) as gateway:
        answer = await gateway.post(STREAM)
        assert answer.body == token("a") + token("b") + DONE
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-cache"
        assert answer.headers["x-accel-buffering"] == "no"
        assert "x-request-id" in answer.headers


async def test_tokens_are_passed_on_when_they_come_and_not_later() -> None:
    pause = asyncio.Event()
    async with (
        gateway_to(streaming(token("a"), token("b"), DONE, pause=pause)) as gateway,
        raw_client(gateway.port) as client,
    ):
        await client.say(stream_request())
        await client.reader.readuntil(token("b"))
        pause.set()
        await client.reader.readuntil(b"[DONE]")


@pytest.mark.parametrize("asked", [True, False])
async def test_usage_is_shown_to_who_asked_for_it(asked: bool) -> None:
    body = {**STREAM, "stream_options": {"include_usage": asked}}
    async with gateway_to(streaming(token("a"), USAGE, DONE)) as gateway:
        answer = await gateway.post(body)
        assert answer.body == token("a") + (USAGE if asked else b"") + DONE
        assert gateway.value("helexa_gateway_tokens_total", kind="completion") == 5


async def test_usage_beside_a_choice_is_taken_out_and_the_choice_stays() -> None:
    last = (
        b'data: {"id":"x", "choices":[{"index":0,"delta":{}}],'
        b'"usage":{"prompt_tokens":1},"t":1.50}\n\n'
    )
    async with gateway_to(streaming(token("a"), last, DONE)) as gateway:
        answer = await gateway.post(STREAM)
        assert answer.body == token("a") + (
            b'data: {"id":"x","choices":[{"index":0,"delta":{}}],"t":1.50}\n\n' + DONE
        )


async def test_events_cut_anywhere_come_out_whole() -> None:
    stream = token("a") + token('say \\"usage\\" twice') + USAGE + DONE
    for size in (1, 2, 3, 7, 50):
        pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
        async with gateway_to(streaming(*pieces)) as gateway:
            answer = await gateway.post(STREAM)
            assert answer.body == token("a") + token('say \\"usage\\" twice') + DONE
            assert gateway.value("helexa_gateway_tokens_total", kind="reasoning") == 2


async def test_an_answer_that_is_not_streamed_keeps_its_usage() -> None:
    async with gateway_to(answering(whole())) as gateway:
        answer = await gateway.post(CHAT)
        assert answer.body == WHOLE
        assert answer.headers["content-length"] == str(len(WHOLE))


async def test_a_neuron_that_dies_before_the_first_byte_is_replaced_unseen() -> None:
    async def dies(caller: Caller) -> None:
        await caller.request()
        caller.reset()

    async with gateway_to(dies, streaming(token("a"), DONE)) as gateway:
        answer = await gateway.post(STREAM)
        assert (answer.status, answer.body) == (200, token("a") + DONE)
        assert len(gateway.fleet.under_way) == 2


async def test_a_neuron_that_dies_after_its_head_alone_is_replaced_unseen() -> None:
    async def dies(caller: Caller) -> None:
        await caller.request()
        await caller.say(SSE_HEAD)
        caller.reset()

    async with gateway_to(dies, streaming(token("a"), DONE)) as gateway:
        answer = await gateway.post(STREAM)
        assert (answer.status, answer.body) == (200, token("a") + DONE)


async def test_a_whole_answer_that_is_cut_short_is_asked_for_elsewhere() -> None:
    async def dies(caller: Caller) -> None:
        await caller.request()
        await caller.say(whole()[:-10])
        caller.reset()

    async with gateway_to(dies, answering(whole())) as gateway:
        answer = await gateway.post(CHAT)
        assert (answer.status, answer.body) == (200, WHOLE)


@pytest.mark.parametrize(
    ("status", "code"), [(503, "draining"), (429, "queue_full"), (502, "runtime_exited")]
)
async def test_a_neuron_that_cannot_now_is_passed_over(status: int, code: str) -> None:
    async with gateway_to(answering(refusal(status, code)), answering(whole())) as gateway:
        assert (await gateway.post(CHAT)).status == 200


@pytest.mark.parametrize(
    ("status", "code"), [(503, "draining"), (429, "queue_full"), (502, "runtime_exited")]
)
async def test_when_no_neuron_can_the_last_ones_words_are_passed_on(status: int, code: str) -> None:
    said = refusal(status, code, b"retry-after: 7\r\n")
    async with gateway_to(answering(said), answering(said)) as gateway:
        answer = await gateway.post(STREAM)
        assert answer.status == status
        assert answer.error["code"] == code
        assert answer.headers["retry-after"] == "7"


async def test_a_neuron_that_let_go_of_this_cortex_is_lost_and_says_nothing_of_keys() -> None:
    said = refusal(401, "invalid_api_key")
    async with gateway_to(answering(said), answering(whole())) as gateway:
        assert (await gateway.post(CHAT)).status == 200
    async with gateway_to(answering(said)) as gateway:
        answer = await gateway.post(CHAT)
        assert (answer.status, answer.error["code"]) == (503, "peer_lost")


async def test_a_clients_mistake_is_not_tried_twice() -> None:
    async with gateway_to(
        answering(refusal(400, "context_length_exceeded")), answering(whole())
    ) as gateway:
        answer = await gateway.post(CHAT)
        assert (answer.status, answer.error["code"]) == (400, "context_length_exceeded")
        assert gateway.neurons[1].requests == []


@pytest.mark.parametrize("code", ["unsupported_capability", "unsupported_modality"])
async def test_what_one_runtime_cannot_do_another_neurons_may(code: str) -> None:
    async with gateway_to(answering(refusal(400, code)), answering(whole())) as gateway:
        assert (await gateway.post(CHAT)).status == 200
        assert len(gateway.neurons[1].requests) == 1
    async with gateway_to(*(answering(refusal(400, code)) for _ in range(2))) as gateway:
        answer = await gateway.post(CHAT)
        assert (answer.status, answer.error["code"]) == (400, code)


@pytest.mark.parametrize(
    "nonsense",
    [
        whole(b"<html>oops</html>", 502),
        whole(b'{"detail":"no envelope"}', 500),
        whole(b'{"error":"a string"}', 500),
    ],
)
async def test_an_error_without_an_envelope_gets_one(nonsense: bytes) -> None:
    async with gateway_to(answering(nonsense)) as gateway:
        answer = await gateway.post(CHAT)
        assert (answer.status, answer.error["code"]) == (502, "runtime_refused")
        assert "oops" not in answer.error["message"]


@pytest.mark.parametrize(
    "garbage", [b"SSH-2.0-x\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n"]
)
async def test_a_neuron_that_speaks_no_http_is_a_503(garbage: bytes) -> None:
    async with gateway_to(answering(garbage)) as gateway:
        answer = await gateway.post(CHAT)
        assert (answer.status, answer.error["code"]) == (503, "peer_lost")
        assert answer.headers["retry-after"] == "2"


async def test_neurons_that_left_since_they_were_chosen_are_passed_over() -> None:
    async with gateway_to(answering(whole()), answering(whole())) as gateway:
        first, second = gateway.fleet.ways
        gateway.fleet.lost.add(first)
        assert (await gateway.post(CHAT)).status == 200
        gateway.fleet.lost.add(second)
        answer = await gateway.post(CHAT)
        assert (answer.status, answer.error["code"]) == (503, "peer_lost")


async def test_a_neuron_that_dies_while_it_streams_ends_the_stream_with_the_reason() -> None:
    async def dies(caller: Caller) -> None:
        await caller.request()
        await caller.say(SSE_HEAD)
        await caller.say_chunk(token("a"))
        # Half an event must not stand before the error.
        await caller.say_chunk(b'data: {"choices":[{"ind')
        caller.reset()

    async with gateway_to(dies, streaming(token("b"), DONE)) as gateway:
        answer = await gateway.post(STREAM, headers=NOT_RESUMED)
        assert answer.status == 200
        first, last = answer.events
        assert first == token("a").decode().removeprefix("data: ").strip()
        assert json.loads(last)["error"]["code"] == "peer_lost"
        assert gateway.neurons[1].requests == []


async def test_a_stream_that_ends_without_saying_so_is_not_taken_for_complete() -> None:
    async with gateway_to(streaming(token("a"))) as gateway:
        last = (await gateway.post(STREAM, headers=NOT_RESUMED)).events[-1]
        assert json.loads(last)["error"]["code"] == "upstream_failed"


async def test_a_neurons_own_last_words_are_enough() -> None:
    words = b'data: {"error":{"message":"gone","type":"server_error","code":"runtime_exited"}}\n\n'
    async with gateway_to(streaming(token("a"), words)) as gateway:
        assert (await gateway.post(STREAM, headers=NOT_RESUMED)).body == token("a") + words


async def test_a_neuron_that_falls_silent_inside_its_answer_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("helexa.cortex.gateway.job.SILENCE_S_MIN", 0.05)

    async def stalls(caller: Caller) -> None:
        await caller.request()
        await caller.say(SSE_HEAD)
        await caller.say_chunk(token("a"))
        await caller.gone()

    async with gateway_to(stalls, keepalive_s=0.01) as gateway:
        last = (await gateway.post(STREAM, headers=NOT_RESUMED)).events[-1]
        assert json.loads(last)["error"]["code"] == "upstream_timeout"


async def test_a_neuron_that_never_answers_is_a_504() -> None:
    async def mute(caller: Caller) -> None:
        await caller.request()
        await caller.gone()

    async with gateway_to(mute, first_byte_timeout_s=0.05) as gateway:
        answer = await gateway.post(CHAT)
        assert (answer.status, answer.error["code"]) == (504, "upstream_timeout")


async def test_a_long_prefill_is_bridged_with_comments() -> None:
    waited = asyncio.Event()

    async def slow(caller: Caller) -> None:
        await caller.request()
        await waited.wait()
        await caller.say(SSE_HEAD)
        await caller.say_chunk(token("a") + DONE)
        await caller.say(b"0\r\n\r\n")
        await caller.gone()

    async with (
        gateway_to(slow, keepalive_s=0.02) as gateway,
        raw_client(gateway.port) as client,
    ):
        await client.say(stream_request())
        assert (await client.reader.readline()).startswith(b"HTTP/1.1 200 ")
        for _ in range(3):
            await client.reader.readuntil(b": keepalive\n\n")
        waited.set()
        await client.reader.readuntil(token("a") + DONE)


@pytest.mark.parametrize("streamed", [True, False])
async def test_an_error_after_the_first_comment_is_an_event(streamed: bool) -> None:
    asked, go = asyncio.Event(), asyncio.Event()

    async def slow(caller: Caller) -> None:
        await caller.request()
        asked.set()
        await go.wait()
        await caller.say(refusal(400, "context_length_exceeded"))
        await caller.gone()

    async with (
        gateway_to(slow, keepalive_s=0.02) as gateway,
        raw_client(gateway.port) as client,
    ):
        await client.say(stream_request({**CHAT, "stream": streamed}))
        if streamed:
            await client.reader.readuntil(b": keepalive\n\n")
        await asked.wait()
        go.set()
        if streamed:
            await client.reader.readuntil(b'data: {"error"')
            assert b"context_length_exceeded" in await client.reader.readuntil(b"\n\n")
            await client.reader.readuntil(b"0\r\n\r\n")
        else:
            assert (await client.reader.readline()).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("when", ["before the answer", "inside the stream", "whole answer"])
async def test_a_client_that_leaves_takes_its_request_with_it(when: str) -> None:
    asked, hung_up = asyncio.Event(), asyncio.Event()

    async def neuron(caller: Caller) -> None:
        await caller.request()
        if when == "inside the stream":
            await caller.say(SSE_HEAD)
            await caller.say_chunk(token("a"))
        asked.set()
        await caller.gone()
        hung_up.set()

    body = CHAT if when == "whole answer" else STREAM
    async with gateway_to(neuron) as gateway:
        async with raw_client(gateway.port) as client:
            await client.say(stream_request(body))
            await asked.wait()
            if when == "inside the stream":
                await client.reader.readuntil(token("a"))
        await hung_up.wait()
        status = {"path": "/v1/chat/completions", "status": "499"}
        while gateway.value("helexa_gateway_requests_total", **status) != 1:
            await anyio.lowlevel.checkpoint()
        assert not any(gateway.fleet.under_way.values())


async def test_a_client_that_reads_nothing_holds_back_the_neuron_and_not_the_memory() -> None:
    held = asyncio.Event()
    event = token("z" * 8000)
    events = 8000

    async def neuron(caller: Caller) -> None:
        await caller.request()
        await caller.say(SSE_HEAD)
        for _ in range(events):
            caller.writer.write(b"%x\r\n%s\r\n" % (len(event), event))
            try:
                async with asyncio.timeout(0.2):
                    await caller.writer.drain()
            except TimeoutError:
                held.set()
                await caller.writer.drain()
        await caller.say_chunk(DONE)
        await caller.say(b"0\r\n\r\n")
        await caller.gone()

    async with gateway_to(neuron) as gateway, raw_client(gateway.port) as client:
        await client.say(stream_request())
        await held.wait()
        received = 0
        while received < events:
            await client.reader.readuntil(b"\n\n")
            received += 1
        await client.reader.readuntil(b"[DONE]")


async def test_more_requests_than_the_bound_are_told_to_come_back() -> None:
    asked, go = asyncio.Event(), asyncio.Event()

    async def slow(caller: Caller) -> None:
        await caller.request()
        asked.set()
        await go.wait()
        await caller.say(whole())
        await caller.gone()

    async with gateway_to(slow, queue_max=1) as gateway, anyio.create_task_group() as tasks:

        async def call(gateway: Gateway) -> None:
            assert (await gateway.post(CHAT)).status == 200

        tasks.start_soon(call, gateway)
        await asked.wait()
        answer = await gateway.post(CHAT)
        assert (answer.status, answer.error["code"]) == (429, "queue_full")
        assert answer.headers["retry-after"] == "1"
        go.set()


async def test_two_hundred_clients_that_leave_at_random_leave_nothing_behind() -> None:
    async with gateway_to(streaming(token("a"), token("b"), USAGE, DONE)) as gateway:

        async def client(number: int) -> None:
            async with raw_client(gateway.port) as one:
                request = stream_request()
                await one.say(request[: 20 + number * 3])
                if 20 + number * 3 >= len(request):
                    await one.reader.readuntil(b"a" if number % 2 else b"[DONE]")

        async with anyio.create_task_group() as tasks:
            for number in range(200):
                tasks.start_soon(client, number)
        while any(gateway.fleet.under_way.values()):
            await anyio.lowlevel.checkpoint()
        assert (await gateway.post(STREAM)).status == 200


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_node_that_stops_says_so_to_who_still_waits(streamed: bool) -> None:
    asked = asyncio.Event()
    answers: list[bytes] = []

    async def slow(caller: Caller) -> None:
        await caller.request()
        if streamed:
            await caller.say(SSE_HEAD)
            await caller.say_chunk(token("a"))
        asked.set()
        await caller.gone()

    async def call(port: int, heard: asyncio.Event) -> None:
        async with raw_client(port) as client:
            await client.say(stream_request({**CHAT, "stream": streamed}))
            if streamed:
                await client.reader.readuntil(token("a"))
            await asked.wait()
            heard.set()
            answers.append(await client.reader.read())

    async with anyio.create_task_group() as tasks:
        heard = asyncio.Event()
        async with gateway_to(slow, grace_s=0.0) as gateway:
            tasks.start_soon(call, gateway.port, heard)
            await heard.wait()
    (answer,) = answers
    assert b'"code":"draining"' in answer
    assert answer.startswith(b"HTTP/1.1 503 ") or (streamed and answer.endswith(b"0\r\n\r\n"))
