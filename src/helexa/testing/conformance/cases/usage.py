"""The counts that somebody pays by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from helexa.testing.conformance import rows
from helexa.testing.conformance.case import case
from helexa.testing.conformance.subject import Subject

_CAP = 16


@case(rows.USAGE)
async def a_prompt_counts_the_same_streamed_and_whole(subject: Subject) -> None:
    """Sums are sums, and an answer counts no more than it was allowed."""
    body = subject.chat(subject.knowledge.questions[0], max_tokens=_CAP)
    whole = (await subject.answer(body)).usage
    streaming = {**body, "stream": True, "stream_options": {"include_usage": True}}
    streamed = await subject.answer(streaming)
    _adds_up(whole)
    _adds_up(streamed.usage)
    assert whole["prompt_tokens"] == streamed.usage["prompt_tokens"]
    assert whole["completion_tokens"] == streamed.usage["completion_tokens"]
    assert streamed.events[-1]["choices"] == [], "usage comes by itself, at the end"


@case(rows.USAGE)
async def a_longer_prompt_counts_more(subject: Subject) -> None:
    """The counts follow the text; a system message counts, too."""
    question = subject.knowledge.questions[0]
    short = await subject.answer(subject.chat(question, max_tokens=1))
    long = await subject.answer(subject.chat(f"{'alpha ' * 20}{question}", max_tokens=1))
    assert long.usage["prompt_tokens"] >= short.usage["prompt_tokens"] + 20


@case(rows.USAGE)
async def who_did_not_ask_for_usage_gets_none_in_a_stream(subject: Subject) -> None:
    """Clients that do not expect it stumble over an event without choices."""
    streamed = await subject.answer(subject.chat("hi", stream=True, max_tokens=4))
    assert not any(event.get("usage") for event in streamed.events)


def _adds_up(usage: Mapping[str, Any]) -> None:
    prompt, completion = usage["prompt_tokens"], usage["completion_tokens"]
    assert prompt > 0, usage
    assert 0 < completion <= _CAP, usage
    assert usage["total_tokens"] == prompt + completion, usage
    details = usage.get("prompt_tokens_details") or {}
    assert 0 <= details.get("cached_tokens", 0) <= prompt, usage
