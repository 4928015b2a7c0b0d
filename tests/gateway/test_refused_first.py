"""What the body alone shows to be wrong is refused before any neuron is asked, which would load."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from tests.gateway.parts import answering, gateway_to, whole
from tests.neuron.test_fetching import png

from helexa.protocol.errors import BodyMalformed
from helexa.protocol.openai import text

pytestmark = pytest.mark.anyio

CHAT = "/v1/chat/completions"
URL = "messages[0].content[0].image_url.url"
PNG = "data:image/png;base64," + base64.b64encode(png()).decode()


def look_at(url: Any) -> dict[str, Any]:
    part = {"type": "image_url", "image_url": {"url": url}}
    return {"model": "m", "messages": [{"role": "user", "content": [part]}]}


def of(content: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": content}]}


@pytest.mark.parametrize(
    ("path", "body", "code", "param"),
    [
        (CHAT, look_at("data:image/png;base64,@@@"), "invalid_image", URL),
        (CHAT, look_at(PNG.upper()), "invalid_image", URL),
        (CHAT, look_at(PNG[:-8]), "invalid_image", URL),
        (CHAT, look_at("data:image/png;base64,AAAA"), "invalid_image", URL),
        (CHAT, look_at("data:image/png;base64," + "A" * 400_000), "invalid_image", URL),
        (CHAT, look_at("file:///etc/passwd"), "invalid_image", URL),
        (CHAT, look_at(5), "invalid_body", URL),
        (CHAT, of([{"type": "hologram"}]), "invalid_body", "messages[0].content[0].type"),
        (CHAT, of([{"type": 5}]), "invalid_body", "messages[0].content[0].type"),
        (CHAT, of({"type": "text"}), "invalid_body", "messages[0].content"),
        (CHAT, of("\ud800"), "invalid_body", "messages[0].content"),
        ("/v1/completions", {"model": "m", "prompt": {}}, "invalid_body", "prompt"),
        ("/v1/completions", {"model": "m", "prompt": "a\ude00"}, "invalid_body", "prompt"),
        ("/v1/embeddings", {"model": "m", "input": [{}]}, "invalid_body", "input[0]"),
        ("/v1/embeddings", {"model": "m", "input": 5}, "invalid_body", "input"),
        ("/v1/embeddings", {"model": "m", "input": ["a", "\ud800"]}, "invalid_body", "input[1]"),
        (
            "/v1/rerank",
            {"model": "m", "query": "q", "documents": ["a", 5]},
            "invalid_body",
            "documents[1]",
        ),
        (
            "/v1/rerank",
            {"model": "m", "query": "q\udfff", "documents": ["a"]},
            "invalid_body",
            "query",
        ),
    ],
)
async def test_it_is_refused_with_its_place_and_nobody_is_asked(
    path: str, body: dict[str, Any], code: str, param: str
) -> None:
    async with gateway_to(answering(whole())) as gateway:
        answer = await gateway.post(body, path)
        assert (answer.status, answer.error["code"]) == (400, code)
        assert answer.error["param"] == param
        assert not gateway.fleet.counts
        assert not gateway.neurons[0].requests


@pytest.mark.parametrize(
    "body",
    [
        look_at(PNG),
        look_at("https://a.test/x.png"),
        of([{"type": "text", "text": "\U0001f600 \\ud800"}]),
        {**of("hi"), "tools": [{"type": "function", "function": {"name": "hologram"}}]},
    ],
)
async def test_what_a_neuron_may_take_reaches_it(body: dict[str, Any]) -> None:
    async with gateway_to(answering(whole())) as gateway:
        assert (await gateway.post(body)).status == 200
        sent = gateway.neurons[0].requests[0].partition(b"\r\n\r\n")[2]
        assert json.loads(sent) == body


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"a": "\\ud83d\\ude00"}', None),
        (b'{"a": "\\\\ud800"}', None),
        (b'{"a": "\\\\\\\\ud800"}', None),
        (b'{"a": "\\\\\\ud800"}', "a"),
        (b'{"a": "\\ud83d\\ud83d\\ude00"}', "a"),
        (b'{"a": [1, {"b": "\\uDE00\\uD83D"}]}', "a[1].b"),
        (b'{"a": {"\\ud800": 1}}', "a"),
    ],
)
def test_half_a_character_is_found_where_it_stands(body: bytes, field: str | None) -> None:
    if field is None:
        text.check(body)
        return
    with pytest.raises(BodyMalformed, match="half of a character") as caught:
        text.check(body)
    assert caught.value.field == field


BLOCK = 64 * 1024


@pytest.mark.parametrize(
    ("body", "at", "field"),
    [
        (b'{"a": "h\xff"}', 8, "a"),
        (b'{"a": "\xc3\xbc\xe2\x82"}', 9, "a"),
        (b'{"a": "\xed\xa0\x80"}', 7, "a"),
        (b'{"a": [1, {"b": "\x80"}]}', 17, "a[1].b"),
        (b'{"a\xfe": 1}', 3, None),
        (b'{"' + b"n" * 201 + b'": "\xff"}', 207, None),
        (b'\xff{"a": 1}', 0, None),
        (b'{"a": "\xc3', 7, None),
        (b'{"a": "' + b"x" * BLOCK + b'\xe2\x82"}', BLOCK + 7, "a"),
        (b'{"a": "' + b"\xc3\xbc" * BLOCK + b'\xe2"}', 2 * BLOCK + 7, "a"),
        (b'{"a": "' + b"x" * text.NAMED_BYTES_MAX + b'\xff"}', text.NAMED_BYTES_MAX + 7, None),
    ],
)
def test_a_byte_that_is_no_utf8_is_told_by_its_position_in_the_body(
    body: bytes, at: int, field: str | None
) -> None:
    with pytest.raises(BodyMalformed, match=f"0x{body[at]:02x} at position {at}\\b") as caught:
        text.check(body)
    assert caught.value.field == field


@pytest.mark.parametrize("letter", ["a", "ü", "中", "\U0001f600"])
def test_letters_of_several_bytes_pass_wherever_they_stand(letter: str) -> None:
    for before in range(5):
        text.check(("x" * before + letter * BLOCK).encode())


@pytest.mark.parametrize("path", [CHAT, "/v1/completions", "/v1/embeddings", "/v1/tokenize"])
async def test_a_body_that_is_no_utf8_is_refused_whatever_is_read_of_it(path: str) -> None:
    whole_body = {**of("hi"), "prompt": "hi", "input": "hi"}
    body = json.dumps({**whole_body, "unknown": "?"}).encode().replace(b"?", b"\xc3(")
    async with gateway_to(answering(whole())) as gateway:
        answer = await gateway.post(body, path)
        assert (answer.status, answer.error["code"]) == (400, "invalid_body")
        assert answer.error["param"] == "unknown"
        assert f"position {body.index(0xC3)}" in answer.error["message"]
        assert not gateway.neurons[0].requests
