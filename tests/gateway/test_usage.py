"""The usage tap, as the function of bytes that it is."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helexa.cortex.gateway.usage import UsageTap
from helexa.protocol import sse
from helexa.protocol.work import Usage


def event(**fields: object) -> bytes:
    return sse.event(json.dumps(fields, separators=(",", ":")).encode())


CHOICES = [{"index": 0, "delta": {"content": 'the word "usage"'}}]
COUNTS = {"prompt_tokens": 5, "completion_tokens": 3}
PLAIN = event(id="x", choices=CHOICES)
DONE = sse.event(sse.DONE)

events = st.lists(
    st.sampled_from(
        [
            PLAIN,
            event(id="x", choices=CHOICES, usage=None),
            event(id="x", choices=CHOICES, usage=COUNTS),
            event(id="x", choices=[], usage=COUNTS),
            sse.comment(b"keepalive"),
        ]
    ),
    max_size=6,
)


@given(st.data(), events)
def test_who_did_not_ask_sees_no_usage_and_everything_else(
    data: st.DataObject, stream: list[bytes]
) -> None:
    whole = b"".join([*stream, DONE])
    borders = data.draw(st.lists(st.integers(0, len(whole)), max_size=6).map(sorted))
    tap = UsageTap(show=False)
    out = b""
    for start, end in zip([0, *borders], [*borders, len(whole)], strict=True):
        if start < end:
            out += tap.pass_on(whole[start:end])
            # A client's stream never stands inside an event.
            assert sse.is_whole(out) or not out
    assert tap.is_done
    wanted = [
        PLAIN if b'"choices":[{' in one else one for one in stream if b'"choices":[]' not in one
    ]
    assert out == b"".join([*wanted, DONE])
    counted = any(b'"prompt_tokens"' in one for one in stream)
    assert tap.usage == (Usage(prompt_uncached=5, completion=3) if counted else None)


@given(events)
def test_who_asked_sees_every_byte(stream: list[bytes]) -> None:
    tap = UsageTap(show=True)
    assert tap.pass_on(b"".join(stream) or DONE) == (b"".join(stream) or DONE)


@pytest.mark.parametrize(
    "strange",
    [
        b'data: {"usage": broken\n\n',
        b'data: ["usage"]\n\n',
        b'data: {"x":"usage"}\n\n',
        b'data: {"usage":{"prompt_tokens":-1}}\n\n',
        b'data: {"a":"usage","usage":{"prompt_tokens":"many"},"choices":[{}]}\n\n',
        b'data: \xff"usage"\n\n',
        b'event: "usage"\n\n',
    ],
)
def test_strange_events_do_not_stop_a_stream(strange: bytes) -> None:
    tap = UsageTap(show=False)
    tap.pass_on(strange)
    assert tap.pass_on(PLAIN + DONE) == PLAIN + DONE
    assert tap.usage is None


def test_a_last_event_without_its_empty_line_is_handed_out_at_the_end() -> None:
    tap = UsageTap(show=False)
    assert tap.pass_on(PLAIN + b"data: [DONE]\n") == PLAIN
    assert not tap.is_done
    assert tap.rest() == b"data: [DONE]\n"
    assert tap.is_done
