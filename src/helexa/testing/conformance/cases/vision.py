"""Pictures in a chat."""

from __future__ import annotations

import base64
import struct
import zlib
from typing import Any

from helexa.testing.conformance import rows
from helexa.testing.conformance.case import case
from helexa.testing.conformance.subject import Subject

_COLOURS = {
    "red": (255, 0, 0),
    "blue": (0, 0, 255),
    "green": (0, 160, 0),
    "yellow": (255, 255, 0),
    "white": (255, 255, 255),
    "black": (0, 0, 0),
}
_SIDE = 128
_QUESTION = "Describe this image."


@case(rows.VISION)
async def the_colours_of_a_picture_are_named(subject: Subject) -> None:
    """Of each picture its own, whole and streamed."""
    shown = (("red", "white"), ("yellow", "blue"), ("green", "black"))
    for at, (colour, ground) in enumerate(shown):
        content = [_text(_QUESTION), _picture(colour, ground)]
        reply = await subject.answer(subject.chat(content, stream=at % 2 == 1))
        said = reply.text.lower()
        assert colour in said, f"a {colour} square on {ground}: {reply.text!r}"
        assert ground in said, f"a {colour} square on {ground}: {reply.text!r}"


@case(rows.VISION)
async def a_picture_counts_as_a_part_of_the_prompt(subject: Subject) -> None:
    """And the same streamed and whole."""
    plain = await subject.answer(subject.chat(_QUESTION, max_tokens=1))
    asked = subject.chat([_text(_QUESTION), _picture("red", "white")], max_tokens=4)
    seen = await subject.answer(asked)
    assert seen.usage["prompt_tokens"] > plain.usage["prompt_tokens"]
    streaming = {**asked, "stream": True, "stream_options": {"include_usage": True}}
    streamed = await subject.answer(streaming)
    assert streamed.usage["prompt_tokens"] == seen.usage["prompt_tokens"]


@case(rows.VISION)
async def what_is_no_picture_is_the_clients_mistake(subject: Subject) -> None:
    """Broken bytes, and a URL that would have the engine fetch something, are a 400."""
    for url in (
        "data:image/png;base64,AAAA",
        "data:image/png;base64,not base64",
        "http://127.0.0.1:1/x.png",
        "file:///etc/passwd",
    ):
        content = [_text(_QUESTION), {"type": "image_url", "image_url": {"url": url}}]
        reply = await subject.ask(subject.chat(content))
        assert reply.status == 400, f"{url}: {reply.status} {reply.content[:300]!r}"
    await subject.answer(subject.chat([_text(_QUESTION), _picture("red", "white")]))


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _picture(colour: str, ground: str) -> dict[str, Any]:
    """A square in the middle, as a PNG in a data URL."""
    quarter = _SIDE // 4
    edge = bytes(_COLOURS[ground]) * _SIDE
    middle = bytes(_COLOURS[ground]) * quarter
    through = middle + bytes(_COLOURS[colour]) * (_SIDE - 2 * quarter) + middle
    lines = [edge] * quarter + [through] * (_SIDE - 2 * quarter) + [edge] * quarter
    pixels = b"".join(b"\x00" + line for line in lines)
    data = (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", struct.pack(">IIBBBBB", _SIDE, _SIDE, 8, 2, 0, 0, 0))
        + _chunk(b"IDAT", zlib.compress(pixels))
        + _chunk(b"IEND", b"")
    )
    url = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    return {"type": "image_url", "image_url": {"url": url}}


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
