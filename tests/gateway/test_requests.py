"""What reaches a neuron, and what a client gets for what it sends."""

from __future__ import annotations

import json

import pytest
from tests.gateway.parts import (
    CHAT,
    DONE,
    KEY,
    STREAM,
    USAGE,
    WHOLE,
    answering,
    gateway_to,
    refusal,
    streaming,
    token,
    whole,
)
from tests.util.http_parts import raw_client

from helexa.protocol.routing import Wish
from helexa.protocol.work import WorkloadClass

pytestmark = pytest.mark.anyio


async def test_the_body_reaches_the_neuron_byte_for_byte() -> None:
    body = (
        b'{ "model":"m",\n "zzz": [1.0, 1e5, "\\u00e9"],'
        b' "messages":[{"role":"user","content":"hi"}] }'
    )
    async with gateway_to(answering(whole())) as gateway:
        answer = await gateway.post(body, headers=[(b"x-request-id", b"mine-1")])
        assert answer.status == 200
        assert answer.body == WHOLE
        head, _, sent = gateway.neurons[0].requests[0].partition(b"\r\n\r\n")
        assert sent == body
        lines = head.split(b"\r\n")
        assert lines[0] == b"POST /v1/chat/completions HTTP/1.1"
        assert b"x-helexa-usage: 1" in lines
        assert b"x-helexa-token: token-0" in lines
        ours = answer.headers["x-helexa-request-id"]
        assert ours.startswith("req_")
        assert b"x-helexa-request-id: " + ours.encode() in lines
        assert answer.headers["x-request-id"] == "mine-1"
        # The client's key is for the gateway alone.
        assert KEY.encode() not in head


async def test_the_neurons_that_a_request_came_through_are_told_to_the_next() -> None:
    passed = b"0123456789abcdef,fedcba9876543210"
    async with gateway_to(answering(whole())) as gateway:
        await gateway.post(CHAT, headers=[(b"x-helexa-via", passed)])
        await gateway.post(CHAT, headers=[(b"x-helexa-via", b"nonsense\xff")])
        marked, unmarked = (one.split(b"\r\n") for one in gateway.neurons[0].requests)
    assert b"x-helexa-via: " + passed in marked
    assert not any(line.startswith(b"x-helexa-via") for line in unmarked)


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (b"application/json", 200),
        (b"Application/JSON;charset=UTF-8", 200),
        (b"application/vnd.api+json", 200),
        (b"text/plain", 200),
        (b"text/plain; charset=us-ascii", 200),
        (b"application/octet-stream", 200),
        (b"multipart/form-data; boundary=x", 415),
        (b"application/x-www-form-urlencoded", 415),
        (b"application/json; charset=utf-16", 415),
        (b'text/plain; format=flowed; charset="latin1"', 415),
        (b"application/jsonx", 415),
        (b";;;", 415),
    ],
)
async def test_a_body_that_says_that_it_is_something_else_is_refused(
    said: bytes, status: int
) -> None:
    async with gateway_to(answering(whole())) as gateway:
        answer = await gateway.post(CHAT, headers=[(b"content-type", said)])
        assert answer.status == status
        if status == 415:
            assert answer.error["code"] == "unsupported_media_type"
            assert gateway.neurons[0].requests == []


async def test_a_class_of_work_that_is_none_is_refused() -> None:
    async with gateway_to(answering(whole())) as gateway:
        answer = await gateway.post(CHAT, headers=[(b"x-helexa-workload", b"zzz")])
        assert (answer.status, answer.error["param"]) == (400, "x-helexa-workload")
        answer = await gateway.post(CHAT, headers=[(b"x-helexa-workload", b"chat_bulk")])
        assert answer.status == 200


async def test_a_request_id_that_is_not_sane_is_replaced() -> None:
    async with gateway_to(answering(whole())) as gateway:
        answer = await gateway.post(CHAT, headers=[(b"x-request-id", b"<script>")])
        assert answer.headers["x-request-id"] == answer.headers["x-helexa-request-id"]


@pytest.mark.parametrize(
    "headers",
    [
        [(b"authorization", b"Bearer " + KEY.encode())],
        [(b"authorization", b"bearer  " + KEY.encode())],
        [(b"x-api-key", KEY.encode())],
    ],
)
async def test_both_places_for_a_key_are_good(headers: list[tuple[bytes, bytes]]) -> None:
    async with gateway_to(answering(whole())) as gateway:
        assert (await gateway.post(CHAT, key=None, headers=headers)).status == 200


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ([], "invalid_api_key"),
        ([(b"authorization", b"Basic abc")], "invalid_api_key"),
        ([(b"authorization", b"Bearer")], "invalid_api_key"),
        ([(b"authorization", b"Bearer hx_live_wrong")], "invalid_api_key"),
        ([(b"authorization", b"Bearer \xff\xfe")], "invalid_api_key"),
        ([(b"authorization", b"Bearer hx_live_revoked")], "revoked_api_key"),
    ],
)
async def test_no_key_no_work(headers: list[tuple[bytes, bytes]], code: str) -> None:
    async with gateway_to(answering(whole())) as gateway:
        for path in ("/v1/chat/completions", "/v1/models"):
            method = "POST" if "chat" in path else "GET"
            answer = await gateway.post(CHAT, path, key=None, headers=headers, method=method)
            assert answer.status == 401
            assert answer.error["code"] == code
            assert answer.headers["www-authenticate"] == "Bearer"
        assert gateway.neurons[0].requests == []


MESSAGES = b'"messages":[{"role":"user","content":"x"}]'


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"", None),
        (b"{", None),
        (b"not json", None),
        (b"[]", None),
        (b'"text"', None),
        (b'{"model":"m"}', "messages"),
        (b"{" + MESSAGES + b"}", "model"),
        (b'{"model":5,' + MESSAGES + b"}", "model"),
        (b'{"model":null,' + MESSAGES + b"}", "model"),
        (b'{"model":"m","messages":"hi"}', "messages"),
        (b'{"model":"m","messages":[]}', "messages"),
        (b'{"model":"m","messages":["hi"]}', "messages[0]"),
        (b'{"model":"m","messages":[{"content":"x"}]}', "messages[0].role"),
        (b'{"model":"m","messages":[{"role":1}]}', "messages[0].role"),
        (b'{"model":"m","stream":"yes",' + MESSAGES + b"}", "stream"),
        (b'{"model":"m","max_tokens":"many",' + MESSAGES + b"}", "max_tokens"),
        (b'{"model":"m","stream_options":true,' + MESSAGES + b"}", "stream_options"),
        (b'{"model":"m\xff",' + MESSAGES + b"}", "model"),
        (b'{"model":"\\ud800",' + MESSAGES + b"}", "model"),
        (b'{"model":"m","x":NaN,' + MESSAGES + b"}", None),
        (b'{"model":"m","x":' + b"[" * 50_000 + b"]" * 50_000 + b"," + MESSAGES + b"}", None),
    ],
)
async def test_a_body_that_is_wrong_is_a_400_that_names_the_field(
    body: bytes, param: str | None
) -> None:
    async with gateway_to(answering(whole())) as gateway:
        answer = await gateway.post(body)
        assert answer.status == 400
        assert answer.error["type"] == "invalid_request_error"
        assert answer.error["param"] == param
        assert gateway.neurons[0].requests == []


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/v1/completions", {"model": "m"}, "prompt"),
        ("/v1/completions", {"model": "m", "prompt": 5}, "prompt"),
        ("/v1/completions", {"model": "m", "prompt": {}}, "prompt"),
        ("/v1/completions", {"model": "m", "prompt": []}, "prompt"),
        ("/v1/embeddings", {"model": "m"}, "input"),
        ("/v1/embeddings", {"model": "m", "input": None}, "input"),
        ("/v1/embeddings", {"model": "m", "input": ""}, "input"),
        ("/v1/rerank", {"model": "m", "documents": ["a"]}, "query"),
        ("/v1/rerank", {"model": "m", "query": "", "documents": ["a"]}, "query"),
        ("/v1/rerank", {"model": "m", "query": "q"}, "documents"),
        ("/v1/rerank", {"model": "m", "query": "q", "documents": []}, "documents"),
        ("/v1/rerank", {"model": "m", "query": "q", "documents": "a"}, "documents"),
        ("/v1/rerank", {"model": "m", "query": "q", "documents": ["a"], "top_n": 0}, "top_n"),
    ],
)
async def test_the_other_endpoints_check_what_they_need(
    path: str, body: object, param: str
) -> None:
    async with gateway_to(answering(whole())) as gateway:
        answer = await gateway.post(body, path)
        assert answer.status == 400
        assert answer.error["param"] == param


@pytest.mark.parametrize(
    ("path", "body", "workload"),
    [
        ("/v1/chat/completions", CHAT, WorkloadClass.CHAT_INTERACTIVE),
        ("/v1/chat/completions", {**CHAT, "x": "y" * 300_000}, WorkloadClass.CHAT_BULK),
        (
            "/v1/chat/completions",
            {"model": "m", "messages": [{"role": "user", "content": [
                {"type": "image_url", "image_url": {"url": "http://a.test"}}]}]},
            WorkloadClass.VISION,
        ),
        (
            "/v1/chat/completions",
            {"model": "m", "messages": [{"role": "user", "content": [
                {"type": "input_audio", "input_audio": {"data": ""}}]}]},
            WorkloadClass.AUDIO,
        ),
        (
            "/v1/chat/completions",
            {"model": "m", "messages": [{"role": "user", "content": '"type": "image_url"'}]},
            WorkloadClass.CHAT_INTERACTIVE,
        ),
        (
            "/v1/chat/completions",
            {**CHAT, "tools": [{"type": "function", "function": {"name": "f", "parameters": {
                "type": "object", "properties": {"image_url": {"type": "string"},
                "input_audio": {"type": "string"}}}}}]},
            WorkloadClass.CHAT_INTERACTIVE,
        ),
        (
            "/v1/chat/completions",
            {"model": "m", "messages": [{"role": "user", "content": "x"}, {"role": "tool",
                "tool_call_id": "1", "content": [{"type": "text", "text": "t"},
                {"type": "image_url", "image_url": {"url": "http://a.test"}}]}]},
            WorkloadClass.VISION,
        ),
        (
            "/v1/rerank",
            {"model": "m", "query": "q", "documents": ["a", {"text": "b"}]},
            WorkloadClass.RERANK,
        ),
        ("/v1/completions", {"model": "m", "prompt": "x"}, WorkloadClass.COMPLETION),
        ("/v1/completions", {"model": "m", "prompt": [1, 2]}, WorkloadClass.COMPLETION),
        ("/v1/embeddings", {"model": "m", "input": ["x"]}, WorkloadClass.EMBEDDING),
    ],
)  # fmt: skip
async def test_work_is_classified_and_routed(
    path: str, body: object, workload: WorkloadClass
) -> None:
    async with gateway_to(answering(whole())) as gateway:
        assert (await gateway.post(body, path)).status == 200
        (routed,) = gateway.fleet.routed
        assert routed[0] is workload
        assert routed[2].prompt_bytes == len(json.dumps(body))
        assert gateway.neurons[0].requests[0].startswith(b"POST " + path.encode() + b" ")


async def test_the_callers_hints_reach_the_scheduler() -> None:
    async with gateway_to(answering(whole())) as gateway:
        hints = [(b"x-helexa-workload", b"chat_bulk"), (b"x-helexa-session", b"s1")]
        await gateway.post(CHAT, headers=hints)
        await gateway.post({**CHAT, "prompt_cache_key": "k1", "user": "u1"})
        await gateway.post({**CHAT, "user": "u1"}, headers=[(b"x-helexa-workload", b"embedding")])
        assert [(one[0], one[2].session) for one in gateway.fleet.routed] == [
            (WorkloadClass.CHAT_BULK, "s1"),
            (WorkloadClass.CHAT_INTERACTIVE, "k1"),
            (WorkloadClass.CHAT_INTERACTIVE, "u1"),
        ]


async def test_an_unknown_model_is_a_404_that_names_it() -> None:
    async with gateway_to(answering(whole())) as gateway:
        for name in ("nope", "../../etc/passwd", "x" * 5000):
            answer = await gateway.post({**CHAT, "model": name})
            assert answer.status == 404
            assert answer.error["code"] == "model_not_found"
            assert answer.error["param"] == "model"


async def test_no_neuron_is_a_503_with_the_reason_and_when_to_come_back() -> None:
    async with gateway_to() as gateway:
        answer = await gateway.post(CHAT)
        assert answer.status == 503
        assert answer.error["code"] == "no_capacity"
        assert "gone for 3 s" in answer.error["message"]
        assert answer.headers["retry-after"] == "2"
        assert (await gateway.get("/readyz")).status == 503


async def test_wrong_methods_and_unknown_paths_keep_the_envelope() -> None:
    async with gateway_to(answering(whole())) as gateway:
        answer = await gateway.get("/v1/chat/completions")
        assert (answer.status, answer.headers["allow"]) == (405, "POST")
        assert answer.error["code"] == "method_not_allowed"
        answer = await gateway.post(CHAT, "/v1/models")
        assert (answer.status, answer.error["code"]) == (405, "method_not_allowed")
        for path in ("/", "/v1", "/v1/chat", "/v1/chat/completions/", "/v1/%2e%2e/x", "/v2/models"):
            answer = await gateway.get(path)
            assert (answer.status, answer.error["code"]) == (404, "unknown_url")


async def test_a_body_over_the_limit_is_refused_before_it_is_read() -> None:
    async with (
        gateway_to(answering(whole()), body_bytes_max=2048) as gateway,
        raw_client(gateway.port) as client,
    ):
        await client.say(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer %s\r\n"
            b"content-length: 100000000\r\n\r\n" % KEY.encode()
        )
        assert (await client.reader.readline()).startswith(b"HTTP/1.1 413 ")
        answer = await gateway.post(b"x" * 2049)
        assert answer.status == 413
        assert answer.error["code"] == "body_too_large"


async def test_a_body_that_does_not_come_is_a_408() -> None:
    async with (
        gateway_to(answering(whole()), body_timeout_s=0.05) as gateway,
        raw_client(gateway.port) as client,
    ):
        await client.say(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer %s\r\n"
            b"content-length: 100\r\n\r\n{" % KEY.encode()
        )
        assert (await client.reader.readline()).startswith(b"HTTP/1.1 408 ")


async def test_models_are_listed_and_shown() -> None:
    async with gateway_to(answering(whole())) as gateway:
        listed = (await gateway.get("/v1/models")).json
        assert listed["object"] == "list"
        (model,) = listed["data"]
        assert (model["id"], model["object"], model["state"]) == ("m", "model", "loaded")
        assert model["context_length"] == 2048
        assert (await gateway.get("/v1/models/m")).json == model
        missing = await gateway.get("/v1/models/some/where")
        assert (missing.status, missing.error["code"]) == (404, "model_not_found")


async def test_health_needs_no_key_and_metrics_count() -> None:
    async with gateway_to(streaming(token("a"), USAGE, DONE)) as gateway:
        assert (await gateway.get("/healthz", key=None)).status == 200
        assert (await gateway.get("/readyz", key=None)).status == 200
        await gateway.post(STREAM)
        await gateway.post(CHAT, key=None)
        text = (await gateway.get("/metrics", key=None)).body.decode()
        assert 'helexa_gateway_requests_total{path="/v1/chat/completions",status="200"} 1.0' in text
        assert 'helexa_gateway_requests_total{path="/v1/chat/completions",status="401"} 1.0' in text
        for kind, count in (
            ("prompt_uncached", 6), ("prompt_cached", 4), ("completion", 5), ("reasoning", 2)
        ):  # fmt: skip
            assert gateway.value("helexa_gateway_tokens_total", kind=kind) == count


async def test_nothing_is_said_to_other_origins() -> None:
    async with gateway_to(answering(whole())) as gateway:
        answer = await gateway.post(CHAT, headers=[(b"origin", b"https://evil.example")])
        assert not any(name.startswith("access-control") for name in answer.headers)
        answer = await gateway.post(b"", headers=[(b"origin", b"https://x")], method="OPTIONS")
        assert answer.status == 405


async def test_a_request_may_say_where_it_wants_to_go_in_one_header_or_several() -> None:
    async with gateway_to(answering(whole())) as gateway:
        await gateway.post(CHAT)
        await gateway.post(
            CHAT, headers=[(b"x-helexa-policy", b"only=a"), (b"x-helexa-policy", b"max-price=3")]
        )
        wishes = [hints.wish for _, _, hints in gateway.fleet.routed]
        assert wishes == [None, Wish(only=("a",), price_max=3)]
        for bad in (b"", b"only", b"only=a;only=b"):
            answer = await gateway.post(CHAT, headers=[(b"x-helexa-policy", bad)])
            assert answer.status == 400
            assert answer.error["param"] == "x-helexa-policy"
        assert len(gateway.neurons[0].requests) == 2


async def test_how_attempts_ended_is_told_to_the_fleet() -> None:
    async with gateway_to(
        answering(refusal(503, "draining")), answering(refusal(400, "a b\u00e9"))
    ) as gateway:
        await gateway.post(CHAT)
        assert gateway.fleet.outcomes == ["draining", "upstream_failed"]
