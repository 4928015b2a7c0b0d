"""`POST /v1/responses` before scripted neurons: what they are asked, and what clients get."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from tests.gateway.broken import DIGEST, WORDS, breaking, going_on
from tests.gateway.parts import (
    DONE,
    KEY,
    USAGE,
    Answer,
    answering,
    gateway_to,
    refusal,
    streaming,
    token,
    whole,
)
from tests.util.http_parts import Caller

pytestmark = pytest.mark.anyio

PATH = "/v1/responses"
ASKED = {"model": "m", "input": "hi"}
FINISH = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'


def chat(message: dict[str, Any], finish: str = "stop") -> bytes:
    usage = {"prompt_tokens": 5, "completion_tokens": 2}
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}
    return whole(
        json.dumps({"id": "c", "model": "m", "choices": [choice], "usage": usage}).encode()
    )


def events_of(answer: Answer) -> list[dict[str, Any]]:
    return events_in(answer.body)


def events_in(body: bytes) -> list[dict[str, Any]]:
    """Their data, with the names of the `event:` lines held against it."""
    found = []
    for event in body.decode().split("\n\n")[:-1]:
        if event.startswith(":"):
            continue
        name, data = event.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
    assert [one["sequence_number"] for one in found] == list(range(len(found)))
    return found


async def test_a_neuron_is_asked_for_a_chat_completion() -> None:
    asked: list[bytes] = []

    async def script(caller: Caller) -> None:
        asked.append(await caller.request())
        await caller.say(chat({"content": "hello"}))

    async with gateway_to(script) as gateway:
        answer = await gateway.post(
            {**ASKED, "instructions": "Be brief.", "max_output_tokens": 9}, PATH
        )
    assert asked[0].startswith(b"POST /v1/chat/completions ")
    assert json.loads(asked[0].split(b"\r\n\r\n", 1)[1]) == {
        "model": "m",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "hi"},
        ],
        "max_completion_tokens": 9,
    }
    said = answer.json
    assert said["object"] == "response"
    assert said["status"] == "completed"
    assert said["instructions"] == "Be brief."
    assert [part["text"] for part in said["output"][0]["content"]] == ["hello"]
    assert said["usage"]["total_tokens"] == 7


async def test_a_stream_ends_with_the_whole_response_and_its_usage() -> None:
    async with gateway_to(streaming(token("hel"), token("lo"), FINISH, USAGE, DONE)) as gateway:
        answer = await gateway.post({**ASKED, "stream": True}, PATH)
    events = events_of(answer)
    assert [event["type"] for event in events] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    response = events[-1]["response"]
    assert response["output"][0]["content"][0]["text"] == "hello"
    assert response["usage"]["input_tokens_details"]["cached_tokens"] == 4
    assert response["usage"]["output_tokens_details"] == {"reasoning_tokens": 2}
    assert b"[DONE]" not in answer.body


async def test_a_stream_that_breaks_off_ends_with_an_error_and_a_failed_response() -> None:
    async with gateway_to(streaming(token("hel"))) as gateway:
        answer = await gateway.post({**ASKED, "stream": True}, PATH)
    *_, error, failed = events_of(answer)
    assert error["type"] == "error"
    assert error["error"]["code"] == error["code"] == "stream_interrupted"
    assert failed["type"] == "response.failed"
    assert failed["response"]["status"] == "failed"
    assert failed["response"]["error"]["code"] == "server_error"
    assert failed["response"]["output"][0]["status"] == "incomplete"
    assert failed["response"]["output"][0]["content"][0]["text"] == "hel"


async def test_a_neurons_error_in_its_stream_fails_the_response() -> None:
    error = b'data: {"error":{"message":"x","type":"server_error","code":"runtime_exited"}}\n\n'
    async with gateway_to(streaming(token("hel"), error)) as gateway:
        answer = await gateway.post(
            {**ASKED, "stream": True}, PATH, headers=[(b"x-helexa-resume", b"off")]
        )
    events = events_of(answer)
    assert [one["type"] for one in events[-2:]] == ["error", "response.failed"]
    assert events[-2]["code"] == "runtime_exited"
    assert events[-1]["response"]["error"] == {"code": "server_error", "message": "x"}


async def test_a_failure_after_comments_alone_is_a_whole_stream_still() -> None:
    pause = asyncio.Event()

    async def script(caller: Caller) -> None:
        await caller.request()
        await pause.wait()
        await caller.say(refusal(400, "bad_request"))

    async with gateway_to(script, keepalive_s=0.05) as gateway:
        body = json.dumps({**ASKED, "stream": True}).encode()
        key = (b"authorization", b"Bearer " + KEY.encode())
        with await gateway.pool.request("POST", PATH, [key], body) as response:
            comment = await response.chunk()
            pause.set()
            rest = await response.read(1 << 20)
    assert comment.startswith(b": ")
    assert [one["type"] for one in events_in(rest)] == [
        "response.created",
        "response.in_progress",
        "error",
        "response.failed",
    ]


async def test_a_neurons_refusal_names_the_clients_field() -> None:
    error = {
        "message": "`max_tokens` is 1 or more.",
        "type": "invalid_request_error",
        "param": "max_completion_tokens",
        "code": "bad_request",
    }
    far = answering(whole(json.dumps({"error": error}).encode(), 400))
    async with gateway_to(far) as gateway:
        answer = await gateway.post({**ASKED, "max_output_tokens": 0}, PATH)
    assert answer.status == 400
    assert answer.error["param"] == "max_output_tokens"
    assert answer.error["message"] == "`max_output_tokens` is 1 or more."


@pytest.mark.parametrize("body", [{"model": "m"}, {**ASKED, "background": True}, b"{"])
async def test_a_refused_request_reaches_nobody(body: Any) -> None:
    async with gateway_to(answering(chat({"content": "hello"}))) as gateway:
        answer = await gateway.post(body, PATH)
        assert not gateway.fleet.routed
    assert answer.status == 400
    assert answer.error["type"] == "invalid_request_error"


async def test_what_is_no_chat_completion_is_the_nodes_fault() -> None:
    async with gateway_to(answering(whole(b'{"choices":[]}'))) as gateway:
        answer = await gateway.post(ASKED, PATH)
    assert answer.status == 502
    assert answer.error["code"] == "runtime_malformed"


@pytest.mark.parametrize("sent", [1, 3, 5, 8])
async def test_a_stream_that_another_goes_on_with_is_one_response(sent: int) -> None:
    async with gateway_to(breaking(sent), going_on()) as gateway:
        gateway.fleet.digests = dict.fromkeys(gateway.fleet.ways, DIGEST)
        answer = await gateway.post({**ASKED, "stream": True}, PATH)
        assert len(gateway.neurons[1].requests) == 1
    *events, last = events_of(answer)
    deltas = [one["delta"] for one in events if one["type"] == "response.output_text.delta"]
    assert deltas == list(WORDS)
    assert last["type"] == "response.completed"
    assert [one["content"][0]["text"] for one in last["response"]["output"]] == ["".join(WORDS)]
    assert last["response"]["usage"]["output_tokens"] == len(WORDS)
