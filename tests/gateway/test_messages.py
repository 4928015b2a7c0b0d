"""`POST /v1/messages` before scripted neurons: what they are asked, and what clients get."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from tests.gateway.broken import DIGEST, WORDS, breaking, going_on
from tests.gateway.messages_parts import added_up, events_in
from tests.gateway.parts import (
    DONE,
    KEY,
    USAGE,
    Gateway,
    answering,
    gateway_to,
    refusal,
    streaming,
    token,
    whole,
)

pytestmark = pytest.mark.anyio

PATH = "/v1/messages"
COUNT = "/v1/messages/count_tokens"
ASKED: dict[str, Any] = {
    "model": "m",
    "max_tokens": 50,
    "messages": [{"role": "user", "content": "hi"}],
}
PICTURE = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJg"
    "gg=="
)


def chat(message: dict[str, Any], finish: str = "stop", **more: Any) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}
    usage = {
        "prompt_tokens": 10,
        "completion_tokens": 7,
        "prompt_tokens_details": {"cached_tokens": 4},
    }
    body = {"id": "c", "model": "m-1", "choices": [{**choice, **more}], "usage": usage}
    return whole(json.dumps(body).encode())


def finish(reason: str = "stop", **more: Any) -> bytes:
    choice = {"index": 0, "delta": {}, "finish_reason": reason, **more}
    return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"


def sent(gateway: Gateway) -> dict[str, Any]:
    """The body that the neuron got last."""
    _, _, body = gateway.neurons[0].requests[-1].partition(b"\r\n\r\n")
    found: dict[str, Any] = json.loads(body)
    return found


async def test_a_neuron_is_asked_for_a_chat_completion() -> None:
    request = {
        **ASKED,
        "system": "Be brief.",
        "stop_sequences": ["."],
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 3,
        "metadata": {"user_id": "u-1"},
        "service_tier": "auto",
        "thinking": {"type": "enabled", "budget_tokens": 40},
    }
    async with gateway_to(answering(chat({"content": "hello"}))) as gateway:
        answer = await gateway.post(request, PATH)
        assert gateway.neurons[0].requests[0].startswith(b"POST /v1/chat/completions ")
        assert sent(gateway) == {
            "model": "m",
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "hi"},
            ],
            "max_tokens": 50,
            "stop": ["."],
            "temperature": 0.5,
            "top_p": 0.9,
            "top_k": 3,
            "user": "u-1",
            "chat_template_kwargs": {"enable_thinking": True},
            "thinking_budget_tokens": 40,
        }
        # One user's requests are one conversation to whoever routes them.
        assert gateway.fleet.routed[0][2].session == "u-1"
    assert answer.status == 200
    said = answer.json
    assert said.pop("id") == "msg_" + answer.headers["request-id"].removeprefix("req_")
    assert said == {
        "type": "message",
        "role": "assistant",
        "model": "m-1",
        "content": [{"type": "text", "text": "hello", "citations": None}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "stop_details": None,
        "container": None,
        "usage": {
            "input_tokens": 6,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 4,
            "output_tokens": 7,
            "output_tokens_details": None,
            "server_tool_use": None,
            "cache_creation": None,
            "inference_geo": None,
            "service_tier": "standard",
        },
    }


async def test_a_stream_is_a_message_by_and_by() -> None:
    pieces = (b'data: {"model":"m-1","choices":[{"index":0,"delta":{"role":"assistant"}}]}\n\n',)
    pieces += (token("hel"), b": keepalive\n\n", token("lo"), finish("length"), USAGE, DONE)
    async with gateway_to(streaming(*pieces)) as gateway:
        answer = await gateway.post({**ASKED, "stream": True}, PATH)
        assert sent(gateway)["stream_options"] == {"include_usage": True}
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = [one for one in events_in(answer.body) if one["type"] != "ping"]
    assert [one["type"] for one in events] == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    message = added_up(events)
    assert message["content"] == [{"type": "text", "text": "hello", "citations": None}]
    assert message["stop_reason"] == "max_tokens"
    assert events[-2]["usage"] == {
        "input_tokens": 6,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 4,
        "output_tokens": 7,
        "output_tokens_details": {"thinking_tokens": 2},
        "server_tool_use": None,
    }


async def test_an_image_and_the_results_of_tools_reach_the_neuron() -> None:
    picture = {
        "type": "image",
        "source": {"type": "base64", "media_type": "image/png", "data": PICTURE},
    }
    call = {"type": "tool_use", "id": "t1", "name": "look", "input": {"a": [1, 2.50]}}
    result = {"type": "tool_result", "tool_use_id": "t1", "is_error": True}
    body = (
        b'{"model":"m","max_tokens":5,"messages":'
        + json.dumps(
            [
                {"role": "user", "content": [{"type": "text", "text": "see"}, picture]},
                {"role": "assistant", "content": [call]},
                {
                    "role": "user",
                    "content": [
                        {**result, "content": [{"type": "text", "text": "seen"}, picture]},
                        {"type": "text", "text": "and?"},
                    ],
                },
            ]
        )
        .encode()
        .replace(b"2.5]", b"2.50]")
        + b"}"
    )
    async with gateway_to(answering(chat({"content": "x"}))) as gateway:
        assert (await gateway.post(body, PATH)).status == 200
        url = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PICTURE}"}}
        messages = sent(gateway)["messages"]
        assert messages[0]["content"] == [{"type": "text", "text": "see"}, url]
        assert messages[1]["content"] is None
        # The input's own bytes: not a number is written otherwise than the model wrote it.
        assert messages[1]["tool_calls"][0]["function"] == {
            "name": "look",
            "arguments": '{"a": [1, 2.50]}',
        }
        assert messages[2]["role"] == "tool"
        assert messages[2]["tool_call_id"] == "t1"
        assert messages[2]["content"] == [{"type": "text", "text": "seen"}, url]
        assert messages[3] == {"role": "user", "content": "and?"}


async def test_a_last_message_of_the_assistants_is_gone_on_with() -> None:
    turns = [*ASKED["messages"], {"role": "assistant", "content": "The answer is ("}]
    async with gateway_to(answering(chat({"content": "B)"}))) as gateway:
        answer = await gateway.post({**ASKED, "messages": turns}, PATH)
        asked = sent(gateway)
    assert asked["messages"][-1] == {"role": "assistant", "content": "The answer is ("}
    assert (asked["continue_final_message"], asked["add_generation_prompt"]) == (True, False)
    assert answer.json["content"][0]["text"] == "B)"


async def test_tokens_are_counted_by_the_models_own_tokenizer() -> None:
    body = {key: value for key, value in ASKED.items() if key != "max_tokens"}
    count = whole(b'{"count": 31, "max_model_len": 2048, "tokens": [1, 2]}')
    async with gateway_to(answering(count)) as gateway:
        answer = await gateway.post({**body, "system": "s"}, COUNT)
        assert gateway.neurons[0].requests[0].startswith(b"POST /v1/tokenize ")
        assert [one["role"] for one in sent(gateway)["messages"]] == ["system", "user"]
        refused = await gateway.post({**body, "max_tokens": 3}, COUNT)
    assert (answer.status, answer.json) == (200, {"input_tokens": 31})
    assert (refused.status, refused.json["error"]["param"]) == (400, "max_tokens")


@pytest.mark.parametrize("key_header", ["x-api-key", "authorization"])
async def test_both_places_for_a_key_are_good(key_header: str) -> None:
    value = KEY.encode() if key_header == "x-api-key" else b"Bearer " + KEY.encode()
    headers = [(key_header.encode(), value), (b"anthropic-version", b"2023-06-01")]
    headers += [(b"anthropic-beta", b"nobody-knows-this-2099-01-01")]
    async with gateway_to(answering(chat({"content": "x"}))) as gateway:
        answer = await gateway.post(ASKED, f"{PATH}?beta=true", key=None, headers=headers)
    assert answer.status == 200


@pytest.mark.parametrize(
    ("path", "method", "key", "body", "expected"),
    [
        (PATH, "POST", None, ASKED, (401, "authentication_error", "invalid_api_key", None)),
        (PATH, "POST", KEY, b"{", (400, "invalid_request_error", "invalid_body", None)),
        (PATH, "GET", KEY, b"", (405, "invalid_request_error", "method_not_allowed", None)),
        (
            PATH,
            "POST",
            KEY,
            {**ASKED, "model": "x"},
            (404, "not_found_error", "model_not_found", "model"),
        ),
        (
            PATH,
            "POST",
            KEY,
            {**ASKED, "metadata": {"user_id": "x" * 5000}},
            (413, "request_too_large", "body_too_large", None),
        ),
        (f"{PATH}/batches", "POST", KEY, {}, (404, "not_found_error", "unknown_url", None)),
        (COUNT, "POST", None, {}, (401, "authentication_error", "invalid_api_key", None)),
    ],
)
async def test_a_refusal_has_anthropics_envelope(
    path: str, method: str, key: str | None, body: Any, expected: tuple[Any, ...]
) -> None:
    async with gateway_to(answering(chat({"content": "x"})), body_bytes_max=4096) as gateway:
        answer = await gateway.post(body, path, key=key, method=method)
        assert gateway.neurons[0].requests == []
    said = answer.json
    assert set(said) == {"type", "error", "request_id"}
    error = said["error"]
    assert said["type"] == "error"
    assert said["request_id"] == answer.headers["request-id"]
    assert (answer.status, error["type"], error["code"], error["param"]) == expected
    assert error["message"]


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("stop", "stop_sequences"),
        ("reasoning_effort", "output_config.effort"),
        ("thinking_budget_tokens", "thinking.budget_tokens"),
        ("messages[0].content", "system"),
        ("messages[1].content[1].image_url.url", "messages.0.content.1.source"),
        ("messages[9].content", "messages"),
        (
            "tools[0].function.parameters.properties.a.type",
            "tools.0.input_schema.properties.a.type",
        ),
        ("tools[0].function.name", "tools.0.name"),
        (
            "response_format.json_schema.schema.properties.b",
            "output_config.format.schema.properties.b",
        ),
        ("continue_final_message", "messages"),
        ("temperature", "temperature"),
    ],
)
async def test_a_neurons_refusal_names_the_clients_field(theirs: str, ours: str) -> None:
    error = {
        "message": f"`{theirs}` is wrong.",
        "type": "invalid_request_error",
        "param": theirs,
        "code": "invalid_body",
    }
    text = {"type": "text", "text": "see"}
    picture = {
        "type": "image",
        "source": {"type": "base64", "media_type": "image/png", "data": PICTURE},
    }
    request = {**ASKED, "system": "s", "messages": [{"role": "user", "content": [text, picture]}]}
    script = answering(whole(json.dumps({"error": error}).encode(), 400))
    async with gateway_to(script) as gateway:
        answer = await gateway.post(request, PATH)
    assert answer.status == 400
    said = answer.json["error"]
    assert said["param"] == ours
    assert said["message"] == f"`{ours}` is wrong."
    assert said["code"] == "invalid_body"


async def test_a_busy_neuron_is_overload_and_says_when_to_come_back() -> None:
    async with gateway_to(answering(refusal(503, "overloaded", b"retry-after: 7\r\n"))) as gateway:
        answer = await gateway.post(ASKED, PATH)
    assert (answer.status, answer.headers["retry-after"]) == (503, "7")
    assert answer.json["error"]["type"] == "overloaded_error"


async def test_a_failure_in_a_stream_is_its_last_event() -> None:
    error = b'data: {"error":{"message":"out","type":"server_error","code":"runtime_exited"}}\n\n'
    async with gateway_to(streaming(token("hel"), error)) as gateway:
        answer = await gateway.post({**ASKED, "stream": True}, PATH)
    *_, before, last = events_in(answer.body)
    assert before["type"] == "content_block_delta"
    assert last["type"] == "error"
    # By then another replica was looked for.
    assert last["error"]["type"] == "api_error"
    assert last["error"]["code"] == "stream_interrupted"
    assert last["error"]["message"].startswith("out")
    assert last["request_id"] == answer.headers["request-id"]


async def test_a_stream_that_breaks_off_is_one_message_all_the_same() -> None:
    async with gateway_to(breaking(4), going_on()) as gateway:
        gateway.fleet.digests = dict.fromkeys(gateway.fleet.ways, DIGEST)
        answer = await gateway.post({**ASKED, "stream": True}, PATH)
    message = added_up(events_in(answer.body))
    assert [one["text"] for one in message["content"]] == ["".join(WORDS)]
    assert message["stop_reason"] == "end_turn"
    assert message["usage"]["output_tokens"] == len(WORDS)


@pytest.mark.parametrize("pieces", [(token("a"), DONE), (DONE,)])
async def test_a_stream_without_a_reason_to_end_is_not_taken_for_a_message(
    pieces: tuple[bytes, ...],
) -> None:
    async with gateway_to(streaming(*pieces)) as gateway:
        answer = await gateway.post({**ASKED, "stream": True}, PATH)
    last = events_in(answer.body)[-1]
    assert (last["type"], last["error"]["code"]) == ("error", "runtime_malformed")


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b'{"choices":[]}',
        b'{"choices":[{"index":0}]}',
        b'{"choices":[{"message":{"content":"x"}}]}',
        b'{"choices":[{"message":{"tool_calls":[{"function":{"arguments":"{}"}}]},"finish_reason":"stop"}]}',
        b'{"choices":[{"message":{"tool_calls":[{"function":{"name":"f","arguments":"[]"}}]},"finish_reason":"stop"}]}',
    ],
)
async def test_what_is_no_completion_is_the_nodes_fault(body: bytes) -> None:
    async with gateway_to(answering(whole(body))) as gateway:
        answer = await gateway.post(ASKED, PATH)
    assert answer.status == 502
    assert answer.json["error"]["type"] == "api_error"
    assert answer.json["error"]["code"] == "runtime_malformed"


async def test_who_waits_for_the_next_token_is_pinged() -> None:
    pinged = asyncio.Event()
    pieces = (b": keepalive\n\n", token("a") + finish() + DONE)
    async with gateway_to(streaming(*pieces, pause=pinged)) as gateway:
        headers = [(b"x-api-key", KEY.encode())]
        body = json.dumps({**ASKED, "stream": True}).encode()
        with await gateway.pool.request("POST", PATH, headers, body) as response:
            first = await response.chunk()
            pinged.set()
            rest = await response.read(1 << 16)
    assert events_in(first) == [{"type": "ping"}]
    assert added_up(events_in(rest))["content"][0]["text"] == "a"


@pytest.mark.parametrize("name", ["stop_reason", "matched_stop"])
async def test_a_stop_sequence_is_told_where_the_engine_tells_it(name: str) -> None:
    request = {**ASKED, "stop_sequences": ["END"]}
    scripts = (
        (answering(chat({"content": "a"}, **{name: "END"})), False),
        (streaming(token("a"), finish(**{name: "END"}), DONE), True),
    )
    for script, stream in scripts:
        async with gateway_to(script) as gateway:
            answer = await gateway.post({**request, "stream": stream}, PATH)
        said = added_up(events_in(answer.body)) if stream else answer.json
        assert (said["stop_reason"], said["stop_sequence"]) == ("stop_sequence", "END")
    # A number is a token that ends all answers of the model.
    async with gateway_to(answering(chat({"content": "a"}, **{name: 2}))) as gateway:
        assert (await gateway.post(request, PATH)).json["stop_reason"] == "end_turn"


async def test_models_are_listed_in_the_shape_of_whoever_asks() -> None:
    version = [(b"anthropic-version", b"2023-06-01")]
    async with gateway_to(answering(whole())) as gateway:
        listed = await gateway.post(b"", "/v1/models?limit=5", method="GET", headers=version)
        one = await gateway.post(b"", "/v1/models/m", method="GET", headers=version)
        none = await gateway.post(b"", "/v1/models/x", method="GET", headers=version)
        wrong = await gateway.post(b"", "/v1/models?limit=0", method="GET", headers=version)
        openai = await gateway.get("/v1/models")
    assert listed.json["data"] == [one.json]
    assert (listed.json["has_more"], listed.json["first_id"]) == (False, "m")
    assert (one.json["type"], one.json["id"], one.json["max_input_tokens"]) == ("model", "m", 2048)
    assert (none.status, none.json["error"]["type"]) == (404, "not_found_error")
    assert (wrong.status, wrong.json["error"]["param"]) == (400, "limit")
    assert openai.json["object"] == "list"
