"""What clients meet at the edge of a surface: who is asking, odd paths, and the right envelope."""

from __future__ import annotations

import pytest
from tests.gateway.parts import KEY, Gateway, gateway_to
from tests.util.http_parts import raw_client

pytestmark = pytest.mark.anyio

THREAD = {"type": "create"}
MESSAGE = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}


async def said(gateway: Gateway, request: bytes) -> bytes:
    async with raw_client(gateway.port) as client:
        await client.say(request)
        return await client.reader.read()


async def test_a_thread_is_refused_so_that_clients_go_on_without_it() -> None:
    async with gateway_to() as gateway:
        answer = await gateway.post({**MESSAGE, "thread": THREAD}, "/v1/messages")
        other = await gateway.post({**MESSAGE, "threads": THREAD}, "/v1/messages")
    error = answer.json["error"]
    assert (answer.status, error["param"]) == (400, "thread")
    assert error["details"] == {
        "error_code": "thread_unsupported_request",
        "unsupported": ["thread"],
    }
    assert (other.status, other.json["error"]["param"]) == (400, "threads")
    assert "details" not in other.json["error"]


async def test_no_key_and_a_wrong_one_are_told_apart() -> None:
    async with gateway_to() as gateway:
        none = await gateway.get("/v1/models", key=None)
        wrong = await gateway.get("/v1/models", key="hx_live_nobody")
    assert none.status == wrong.status == 401
    assert none.error["code"] == wrong.error["code"] == "invalid_api_key"
    assert none.error["message"] != wrong.error["message"]


async def test_of_two_keys_the_bearers_is_taken() -> None:
    good, bad = KEY.encode(), b"hx_live_nobody"
    async with gateway_to() as gateway:
        for bearer, other, status in ((good, bad, 200), (bad, good, 401)):
            headers = [(b"authorization", b"Bearer " + bearer), (b"x-api-key", other)]
            answer = await gateway.post(b"", "/v1/models", key=None, headers=headers, method="GET")
            assert answer.status == status


async def test_the_list_of_models_may_end_in_a_slash() -> None:
    async with gateway_to() as gateway:
        listed = await gateway.get("/v1/models")
        assert (await gateway.get("/v1/models/")).json == listed.json
        assert (await gateway.get("/v1/models/", key=None)).status == 401


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (b"expect: foo", 417),
        (b"transfer-encoding: xchunked", 501),
        (b"bad header: x", 400),
        (b"x: " + b"x" * 100_000, 431),
    ],
)
async def test_what_the_server_refuses_has_the_envelope_of_the_path(
    header: bytes, status: int
) -> None:
    async with gateway_to() as gateway:
        for path, is_anthropic in ((b"/v1/messages", True), (b"/v1/chat/completions", False)):
            answer = await said(
                gateway, b"POST %s HTTP/1.1\r\nhost: x\r\n%s\r\n\r\n" % (path, header)
            )
            assert answer.startswith(b"HTTP/1.1 %d " % status)
            assert (b'"type":"error"' in answer) is is_anthropic
            assert b'"message":' in answer
