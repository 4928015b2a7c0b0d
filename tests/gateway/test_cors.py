"""What a browser is told about the gateway, and about every kind of its answers."""

from __future__ import annotations

import pytest
from tests.gateway.parts import (
    CHAT,
    DONE,
    STREAM,
    Gateway,
    answering,
    gateway_to,
    streaming,
    token,
    whole,
)

from helexa.util.upstream import Headers

pytestmark = pytest.mark.anyio

PAGE = "https://app.example.org"
FROM_PAGE = [(b"origin", PAGE.encode())]
PREFLIGHT: Headers = (
    *FROM_PAGE,
    (b"access-control-request-method", b"POST"),
    (b"access-control-request-headers", b"authorization, content-type, x-stainless-os"),
)


async def preflight(gateway: Gateway, headers: Headers = PREFLIGHT) -> dict[str, str]:
    answer = await gateway.post(
        b"", "/v1/chat/completions", key=None, headers=headers, method="OPTIONS"
    )
    return {**answer.headers, "status": str(answer.status)}


async def test_no_page_is_let_in_unless_it_is_listed() -> None:
    async with gateway_to(answering(whole())) as gateway:
        told = await preflight(gateway)
        assert told["status"] == "405"
        answer = await gateway.post(CHAT, headers=FROM_PAGE)
        assert answer.status == 200
        assert not [name for name in {**told, **answer.headers} if name.startswith("access-")]


async def test_a_listed_page_is_told_beforehand_what_it_may_send() -> None:
    async with gateway_to(answering(whole()), cors_origins=(PAGE,)) as gateway:
        told = await preflight(gateway)
    assert told == {
        "status": "204",
        "access-control-allow-origin": PAGE,
        "vary": "origin",
        "access-control-allow-methods": "GET, POST, DELETE",
        "access-control-allow-headers": "authorization, content-type, x-stainless-os",
        "access-control-max-age": "7200",
    }


async def test_another_page_is_told_nothing() -> None:
    async with gateway_to(answering(whole()), cors_origins=(PAGE,)) as gateway:
        for other in (b"https://evil.example.org", b"null", PAGE.encode() + b".evil.org", b""):
            headers = [(b"origin", other), *PREFLIGHT[1:]]
            told = await preflight(gateway, headers)
            assert told["status"] == "405"
            assert told["vary"] == "origin"
            answer = await gateway.post(CHAT, headers=[(b"origin", other)])
            assert answer.headers["vary"] == "origin"
            assert not [name for name in {**told, **answer.headers} if name.startswith("access-")]


async def test_every_answer_to_a_listed_page_can_be_read_by_it() -> None:
    async with gateway_to(streaming(token("a"), DONE), cors_origins=(PAGE,)) as gateway:
        answers = [
            await gateway.post(STREAM, headers=FROM_PAGE),
            await gateway.post(CHAT, headers=FROM_PAGE, key=None),
            await gateway.post({**CHAT, "model": "unknown"}, headers=FROM_PAGE),
            await gateway.post(b"", "/v1/models", headers=FROM_PAGE, method="GET"),
            await gateway.post(b"", "/v1/nothing", headers=FROM_PAGE, method="GET"),
        ]
    assert [answer.status for answer in answers] == [200, 401, 404, 200, 404]
    for answer in answers:
        assert answer.headers["access-control-allow-origin"] == PAGE
        assert "x-request-id" in answer.headers["access-control-expose-headers"]
        assert "access-control-allow-credentials" not in answer.headers


async def test_with_a_star_every_page_is_let_in_and_none_by_name() -> None:
    async with gateway_to(answering(whole()), cors_origins=("*",)) as gateway:
        told = await preflight(gateway)
        answer = await gateway.post(CHAT, headers=FROM_PAGE)
    for headers in (told, answer.headers):
        assert headers["access-control-allow-origin"] == "*"
        assert "vary" not in headers
        assert "access-control-allow-credentials" not in headers


async def test_header_names_that_are_none_are_not_repeated() -> None:
    asked = (*PREFLIGHT[:2], (b"access-control-request-headers", b"a\xff: b"))
    async with gateway_to(answering(whole()), cors_origins=(PAGE,)) as gateway:
        told = await preflight(gateway, asked)
    assert told["status"] == "204"
    assert "access-control-allow-headers" not in told
