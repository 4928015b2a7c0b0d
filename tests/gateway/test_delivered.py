"""What was delivered is kept as it passed, within bounds, and read back to the piece."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helexa.cortex.gateway.delivered import (
    BLOCK_BYTES,
    Record,
    Shelf,
    Unreadable,
    is_complete,
    joined,
    told,
)
from helexa.cortex.gateway.shares import divided
from helexa.protocol.work import Usage

WORDS = st.lists(st.text(min_size=1, max_size=12), max_size=8)


def shelf(**bounds: int) -> Shelf:
    return Shelf(**{"stream_bytes_max": 1 << 20, "bytes_max": 1 << 20, **bounds})


def event(*choices: dict[str, Any], **more: Any) -> bytes:
    chunk = {"id": "x", "created": 3, "model": "m", "choices": list(choices), **more}
    return b"data: %s\n\n" % json.dumps(chunk).encode()


def said(text: str, index: int = 0) -> bytes:
    return event({"index": index, "delta": {"content": text}})


@given(st.lists(st.binary(min_size=1, max_size=BLOCK_BYTES), max_size=12))
def test_what_was_kept_comes_back_in_order(chunks: list[bytes]) -> None:
    room = shelf(stream_bytes_max=1 << 30, bytes_max=1 << 30)
    record = Record(room)
    for chunk in chunks:
        record.keep(chunk)
    assert record.is_whole
    assert record.read() == b"".join(chunks)
    assert record.total_bytes == sum(map(len, chunks))
    record.close()
    assert room.bytes_held == 0


def test_events_that_are_alike_take_a_twentieth_of_their_room() -> None:
    room = shelf()
    record = Record(room)
    for number in range(3_000):
        record.keep(said(f" word{number}"))
    assert 0 < room.bytes_held < record.total_bytes / 8


@pytest.mark.parametrize("bounds", [{"stream_bytes_max": 2 * BLOCK_BYTES}, {"bytes_max": 300}])
def test_what_outgrows_a_bound_is_forgotten_and_gives_its_room_back(bounds: dict[str, int]) -> None:
    room = shelf(**bounds)
    record = Record(room)
    for number in range(3_000):
        record.keep(said(f" word{number}"))
    assert not record.is_whole
    assert room.bytes_held == 0


def test_the_bound_of_all_streams_counts_them_together() -> None:
    room = shelf(bytes_max=20_000)
    records = [Record(room) for _ in range(40)]
    for record in records:
        for number in range(1_000):
            record.keep(said(f" word{number}"))
        assert room.bytes_held <= 20_000
    assert not all(record.is_whole for record in records)
    assert any(record.is_whole for record in records)


@given(WORDS, WORDS)
def test_two_parts_are_told_as_one(first: list[str], second: list[str]) -> None:
    role = event({"index": 0, "delta": {"role": "assistant", "content": None}})
    one = told(role + b"".join(map(said, first)))
    two = told(b"".join(map(said, second)))
    both = joined(one.delivered, two.delivered)
    assert both is not None
    assert [choice.content for choice in both.choices] == [(*first, *second)]
    assert (one.pieces, two.pieces) == (len(first), len(second))
    whole = told(role + b"".join(map(said, first + second)))
    assert whole.delivered == both


def test_calls_thoughts_and_ends_are_told_by_choice() -> None:
    call = {"index": 0, "id": "c1", "function": {"name": "f", "arguments": ""}}
    more = {"index": 0, "function": {"arguments": '{"a":'}}
    part = told(
        b": keepalive\n\n"
        + event({"index": 0, "delta": {"role": "assistant"}}, system_fingerprint="fp")
        + event({"index": 0, "delta": {"reasoning_content": "hm"}})
        + event({"index": 1, "delta": {"content": "b"}})
        + event({"index": 0, "delta": {"tool_calls": [call]}})
        + event({"index": 0, "delta": {"tool_calls": [more]}})
        + event({"index": 1, "delta": {}, "finish_reason": "stop"})
    )
    assert part.delivered is not None
    first, second = part.delivered.choices
    assert part.delivered.fingerprint == "fp"
    assert first.reasoning == ("hm",)
    (made,) = first.tool_calls
    assert (made.id, made.name, made.arguments) == ("c1", "f", '{"a":')
    assert (second.content, second.finish_reason) == (("b",), "stop")
    assert part.pieces == 4
    assert not is_complete(part.delivered, 2)


def test_the_text_of_a_completion_is_its_content() -> None:
    part = told(event({"index": 0, "text": "a", "finish_reason": None}))
    assert part.delivered is not None
    assert part.delivered.choices[0].content == ("a",)


@pytest.mark.parametrize("raw", [b": keepalive\n\n", b"", b"data: [DONE]\n\n"])
def test_before_an_event_nothing_is_told(raw: bytes) -> None:
    assert told(raw).delivered is None


@given(st.binary(max_size=200))
def test_bytes_that_are_no_answer_are_unreadable_and_nothing_worse(data: bytes) -> None:
    with suppress(Unreadable):
        told(b"data: {" + data + b"\n\n")


COUNT = st.integers(0, 50)


@given(COUNT, COUNT, COUNT, st.integers(0, 120), st.lists(COUNT, max_size=4), st.booleans())
def test_shares_add_up_to_what_the_client_is_told(
    prompt: int,
    completion: int,
    reasoning: int,
    resumed: int,
    pieces: list[int],
    handed_over: bool,
) -> None:
    total = Usage(prompt_uncached=prompt, completion=completion, reasoning=reasoning)
    shares = divided(total, resumed, pieces, handed_over=handed_over)
    made = [*shares.before, shares.last]
    assert len(shares.before) == len(pieces)
    assert all(value >= 0 for one in made for value in (one.prompt, one.completion, one.reasoning))
    tokens = sum(one.completion + one.reasoning for one in made)
    assert tokens + shares.foreign_tokens == completion + reasoning
    assert sum(one.prompt for one in made) == (0 if handed_over else prompt)
    if not handed_over:
        assert shares.foreign_tokens == 0
        assert sum(one.reasoning for one in made) == reasoning
