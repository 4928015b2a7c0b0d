"""Vectors of texts."""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Sequence
from typing import Any

from helexa.runtime.contract import Endpoint
from helexa.testing.conformance import rows
from helexa.testing.conformance.case import case
from helexa.testing.conformance.subject import Subject

_TEXTS = ("the neuron answers", "a cortex asks", "nothing at all")


@case(rows.EMBEDDING)
async def each_text_has_its_vector_in_order(subject: Subject) -> None:
    """As long as the others, and the same alone as among others."""
    together = await _vectors(subject, input=list(_TEXTS))
    assert len({len(each) for each in together}) == 1
    assert len(together[0]) > 1
    for text, vector in zip(_TEXTS, together, strict=True):
        (alone,) = await _vectors(subject, input=text)
        assert _cosine(alone, vector) > 0.999, text
    assert _cosine(together[0], together[2]) < 0.9999, "other texts, other vectors"


@case(rows.EMBEDDING)
async def vectors_come_as_numbers_and_as_bytes(subject: Subject) -> None:
    """`encoding_format` base64 holds the same numbers, as little-endian float32."""
    (plain,) = await _vectors(subject, input=_TEXTS[0], encoding_format="float")
    (packed,) = await _vectors(subject, input=_TEXTS[0], encoding_format="base64")
    assert isinstance(packed, str), type(packed)
    data = base64.b64decode(packed)
    unpacked = struct.unpack(f"<{len(data) // 4}f", data)
    assert len(unpacked) == len(plain)
    assert _cosine(plain, unpacked) > 0.99999


@case(rows.EMBEDDING)
async def what_was_read_is_counted(subject: Subject) -> None:
    """All texts together, and nothing but them."""
    one = (await _embedded(subject, input=_TEXTS[0])).json["usage"]
    all_of_them = (await _embedded(subject, input=list(_TEXTS))).json["usage"]
    assert 0 < one["prompt_tokens"] < all_of_them["prompt_tokens"]
    for usage in (one, all_of_them):
        assert usage["total_tokens"] == usage["prompt_tokens"], usage


@case(rows.EMBEDDING)
async def a_text_that_is_too_long_is_refused_with_the_numbers(subject: Subject) -> None:
    """Not cut in silence, and not an engine's confusion."""
    limit = (await subject.spec()).context_tokens
    reply = await subject.ask({"input": "alpha " * (2 * limit)}, Endpoint.EMBEDDINGS)
    assert reply.status == 400, f"{reply.status}: {reply.content[:300]!r}"
    assert reply.error["code"] == "context_length_exceeded", reply.error
    await _embedded(subject, input=_TEXTS[0])


@case(rows.DIMENSIONS)
async def a_shorter_vector_is_the_beginning_of_the_whole(subject: Subject) -> None:
    """Of length 1 again; a length that the model does not allow is a 400."""
    (whole,) = await _vectors(subject, input=_TEXTS[0])
    wanted = (await subject.spec()).files.dimensions[0]
    (short,) = await _vectors(subject, input=_TEXTS[0], dimensions=wanted)
    assert len(short) == wanted
    assert _cosine(short, whole[:wanted]) > 0.9999
    assert abs(sum(one * one for one in short) - 1) < 1e-3
    asked = {"input": _TEXTS[0], "dimensions": len(whole) + 1}
    assert (await subject.ask(asked, Endpoint.EMBEDDINGS)).status == 400


async def _embedded(subject: Subject, **body: Any) -> Any:
    return await subject.answer(body, Endpoint.EMBEDDINGS)


async def _vectors(subject: Subject, **body: Any) -> list[Any]:
    answer = (await _embedded(subject, **body)).json
    assert answer["object"] == "list"
    data = answer["data"]
    asked = body["input"]
    assert len(data) == (1 if isinstance(asked, str) else len(asked))
    assert [each["index"] for each in data] == list(range(len(data)))
    return [each["embedding"] for each in data]


def _cosine(one: Sequence[float], other: Sequence[float]) -> float:
    product = sum(a * b for a, b in zip(one, other, strict=True))
    return product / (math.hypot(*one) * math.hypot(*other))
