"""Bodies that come compressed: the neuron gets them whole, and nobody gets more than is allowed."""

from __future__ import annotations

import gzip
import json
import zlib

import pytest
from tests.gateway.parts import CHAT, answering, gateway_to, whole

pytestmark = pytest.mark.anyio

BODY = json.dumps(CHAT).encode()


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        (b"gzip", gzip.compress(BODY)),
        (b"deflate", zlib.compress(BODY)),
        (b"identity", BODY),
    ],
    ids=["gzip", "deflate", "identity"],
)
async def test_a_packed_body_reaches_the_neuron_as_it_was_before(
    coding: bytes, body: bytes
) -> None:
    async with gateway_to(answering(whole())) as gateway:
        answer = await gateway.post(body, headers=[(b"content-encoding", coding)])
        assert answer.status == 200
        head, _, sent = gateway.neurons[0].requests[0].partition(b"\r\n\r\n")
    assert sent == BODY
    assert b"content-encoding" not in head


async def test_what_a_packed_body_becomes_is_what_is_limited() -> None:
    large = json.dumps({**CHAT, "user": "x" * 40_000_000}).encode()
    async with gateway_to(answering(whole()), body_bytes_max=1_000_000) as gateway:
        answer = await gateway.post(
            gzip.compress(large, 1), headers=[(b"content-encoding", b"gzip")]
        )
        assert answer.status == 413
        assert answer.error["code"] == "body_too_large"
        assert not gateway.neurons[0].requests


@pytest.mark.parametrize(
    "headers", [[(b"content-encoding", b"zstd")], [(b"content-encoding", b"gzip")] * 2]
)
async def test_a_packing_that_is_not_opened_here_says_which_are(
    headers: list[tuple[bytes, bytes]],
) -> None:
    async with gateway_to(answering(whole())) as gateway:
        answer = await gateway.post(BODY, headers=headers)
    assert answer.status == 415
    assert answer.error["code"] == "unsupported_encoding"
    assert answer.error["param"] == "content-encoding"
    assert answer.headers["accept-encoding"] == "gzip, deflate"


async def test_a_body_that_is_not_packed_as_it_says_is_malformed() -> None:
    async with gateway_to(answering(whole())) as gateway:
        answer = await gateway.post(BODY, headers=[(b"content-encoding", b"gzip")])
    assert answer.status == 400
    assert answer.error["code"] == "invalid_body"
