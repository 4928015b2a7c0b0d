"""Thoughts that come before an answer, and are no part of it."""

from __future__ import annotations

from typing import Final

from helexa.runtime.contract import Ability
from helexa.testing.conformance import rows
from helexa.testing.conformance.case import case
from helexa.testing.conformance.subject import Body, Reply, Subject

_FORCED: Final = (
    'root ::= "<think>" [a-z]{3} "</think>" [a-z]{3}',
    'start: "<think>" /[a-z]{3}/ "</think>" /[a-z]{3}/',
)
"""For a model that has the template of a thinking one, and no thoughts; GBNF, and Lark."""


@case(rows.REASONING)
async def thoughts_come_apart_from_the_answer(subject: Subject) -> None:
    """In `reasoning_content`, whole and streamed; no tag is left in either."""
    for more in ({}, {"stream": True}):
        reply = await _thinking(subject, subject.chat("hi", max_tokens=400, **more))
        thoughts = reply.message.get("reasoning_content") or ""
        assert thoughts.strip(), f"no thoughts: {reply.content[:500]!r}"
        for text in (thoughts, reply.text):
            assert "think>" not in text, text
        if reply.finish_reason == "stop":
            assert reply.text.strip(), "thoughts, and no answer"


async def _thinking(subject: Subject, body: Body) -> Reply:
    reply = await subject.answer(body)
    if reply.message.get("reasoning_content"):
        return reply
    if Ability.GRAMMAR in (await subject.offered()).abilities:
        for grammar in _FORCED:
            forced = await subject.ask({**body, "grammar": grammar})
            if forced.status == 200:
                return forced
    return reply
