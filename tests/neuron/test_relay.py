"""Streams on their way: cut anywhere, they arrive the same."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tests.neuron.bench import events_of

from helexa.neuron.serving.counting import Bounds
from helexa.neuron.serving.relay import EVENT_BYTES_MAX, Relay, as_openai
from helexa.protocol.errors import HelexaError, RuntimeMalformed, RuntimeRefused
from helexa.protocol.openai import usage
from helexa.protocol.work import Usage


def relay(*, wants_usage: bool = False, choices: int = 1) -> Relay:
    def refusal(payload: bytes) -> HelexaError:
        return RuntimeRefused(reason=json.loads(payload)["error"]["message"])

    bounds = Bounds(choices=choices, context_tokens=1 << 20)
    return Relay(wants_usage=wants_usage, bounds=bounds, usage=usage.read, refusal=refusal)


def sse(*payloads: Any) -> bytes:
    return b"".join(
        b"data: " + (each if isinstance(each, bytes) else json.dumps(each).encode()) + b"\n\n"
        for each in payloads
    )


def delta(text: str, index: int = 0) -> dict[str, Any]:
    return {"choices": [{"index": index, "delta": {"content": text}}]}


END = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}


def counted(prompt: int, completion: int, cached: int = 0) -> dict[str, Any]:
    return {
        "choices": [],
        "usage": {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": cached},
        },
    }


def fed(subject: Relay, data: bytes, cuts: list[int] = []) -> bytes:  # noqa: B006
    places = sorted({0, *(cut % (len(data) + 1) for cut in cuts), len(data)})
    return b"".join(subject.feed(data[a:b]) for a, b in pairwise(places))


TEXTS = st.lists(st.text(max_size=20), max_size=8)
CUTS = st.lists(st.integers(0, 10_000), max_size=12)


@given(TEXTS, CUTS, st.booleans())
def test_however_a_stream_is_cut_the_same_events_arrive(
    texts: list[str], cuts: list[int], wants_usage: bool
) -> None:
    sent = [*(delta(text) for text in texts), END]
    data = sse(*sent, counted(5, len(texts)), b"[DONE]")
    subject = relay(wants_usage=wants_usage)
    arrived = events_of(fed(subject, data, cuts))
    expected = [*sent, *([counted(5, len(texts))] if wants_usage else []), "[DONE]"]
    assert arrived == expected
    assert subject.done
    assert subject.total() == Usage(prompt_uncached=5, completion=len(texts))


@given(st.text(max_size=40))
def test_plain_events_leave_byte_for_byte(text: str) -> None:
    data = sse(delta(text), delta('say "usage": 3'), delta('"error"'))
    assert relay().feed(data) == data


def test_only_whole_events_leave() -> None:
    subject = relay()
    assert subject.feed(b'data: {"choices":[') == b""
    assert subject.feed(b"]}\n") == b""
    assert subject.feed(b"\n") == b'data: {"choices":[]}\n\n'


def test_comments_and_null_events_do_not_pass() -> None:
    assert relay().feed(b": ping\n\ndata: null\n\n" + sse(delta("a"))) == sse(delta("a"))


def test_windows_line_ends_are_understood() -> None:
    data = sse(delta("a"), END, b"[DONE]").replace(b"\n", b"\r\n")
    subject = relay()
    assert events_of(subject.feed(data)) == [delta("a"), END, "[DONE]"]
    assert subject.done


def test_the_counts_of_several_choices_are_added_and_their_prompt_counted_once() -> None:
    subject = relay(wants_usage=True, choices=2)
    data = sse(delta("a"), delta("b", 1), END, counted(10, 3, 4), counted(10, 5, 4), b"[DONE]")
    *_, last, done = events_of(subject.feed(data))
    assert done == "[DONE]"
    assert last["usage"]["prompt_tokens"] == 10
    assert last["usage"]["completion_tokens"] == 8
    assert last["usage"]["prompt_tokens_details"] == {"cached_tokens": 4}


def test_usage_inside_a_choice_event_moves_to_an_event_of_its_own() -> None:
    finish = {**counted(4, 2), "choices": [{"index": 0, "text": "", "finish_reason": "stop"}]}
    kept = events_of(relay(wants_usage=True).feed(sse(finish, b"[DONE]")))
    assert [("usage" in each, len(each["choices"])) for each in kept[:2]] == [(False, 1), (True, 0)]
    dropped = events_of(relay().feed(sse(finish, b"[DONE]")))
    assert [each if each == "[DONE]" else each.keys() for each in dropped] == [
        {"choices": 0}.keys(),
        "[DONE]",
    ]


def test_an_error_event_fails_the_stream_after_what_was_good() -> None:
    subject = relay()
    passed = subject.feed(sse(delta("a"), {"error": {"message": "no luck"}}, delta("b")))
    assert passed == sse(delta("a"))
    assert isinstance(subject.failure, RuntimeRefused)
    assert subject.failure.message == "no luck"


def test_an_event_without_an_end_is_refused_before_it_fills_the_memory() -> None:
    subject = relay()
    subject.feed(b"data: {")
    while subject.failure is None:
        subject.feed(b"x" * (1 << 20))
    assert isinstance(subject.failure, RuntimeMalformed)
    assert len(subject._rest) <= EVENT_BYTES_MAX + (2 << 20)


@given(st.binary(max_size=200), CUTS)
def test_no_bytes_at_all_break_it_in_another_way(data: bytes, cuts: list[int]) -> None:
    subject = relay()
    fed(subject, data, cuts)
    assert subject.failure is None or isinstance(subject.failure, HelexaError)


@given(
    st.builds(
        Usage,
        *[st.integers(0, 1 << 40)] * 0,
        prompt_uncached=st.integers(0, 1 << 40),
        prompt_cached=st.integers(0, 1 << 40),
        completion=st.integers(0, 1 << 40),
        reasoning=st.integers(0, 1 << 40),
    )
)
def test_counts_survive_openais_overlapping_form(counts: Usage) -> None:
    body = json.dumps({"usage": as_openai(counts)}).encode()
    assert usage.read(body) == counts
