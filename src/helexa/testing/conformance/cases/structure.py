"""Answers of a given form."""

from __future__ import annotations

import json
from typing import Final

from helexa.testing.conformance import rows
from helexa.testing.conformance.case import case
from helexa.testing.conformance.subject import Subject

_NOTATIONS: Final = ('root ::= "yes" | "no"', 'start: "yes" | "no"')
"""GBNF, as llama.cpp and vLLM read it; Lark, as llguidance does."""


@case(rows.JSON_OBJECT)
async def an_answer_is_a_json_object(subject: Subject) -> None:
    """Or the beginning of one, where it was cut at its limit; never anything else."""
    for more in ({}, {"stream": True}):
        asked = subject.chat(
            f"{subject.knowledge.questions[0]} Answer in JSON.",
            response_format={"type": "json_object"},
            max_tokens=128,
            **more,
        )
        reply = await subject.answer(asked)
        assert reply.text.lstrip().startswith("{"), reply.text
        if reply.finish_reason == "stop":
            assert isinstance(json.loads(reply.text), dict), reply.text


@case(rows.JSON_SCHEMA)
async def an_answer_follows_its_schema(subject: Subject) -> None:
    """Every member, of its kind, and none besides; whole and streamed."""
    for question in subject.knowledge.questions[:2]:
        for more in ({}, {"stream": True}):
            _, body = rows.JSON_SCHEMA.asks or (None, {})
            form = body["response_format"]
            asked = subject.chat(question, response_format=form, max_tokens=128, **more)
            reply = await subject.answer(asked)
            answer = json.loads(reply.text)
            assert set(answer) == {"kind", "ok"}, reply.text
            assert answer["kind"] in ("neuron", "cortex"), reply.text
            assert isinstance(answer["ok"], bool), reply.text
            assert reply.finish_reason == "stop", reply.finish_reason


@case(rows.GRAMMAR)
async def an_answer_follows_its_grammar(subject: Subject) -> None:
    """In whichever notation the engine reads; one that is none is a 400."""
    question = subject.knowledge.questions[0]
    replies = [await subject.ask(subject.chat(question, grammar=one)) for one in _NOTATIONS]
    taken = [reply for reply in replies if reply.status == 200]
    assert taken, [reply.content[:300] for reply in replies]
    for reply in taken:
        assert reply.text in ("yes", "no"), reply.text
    broken = await subject.ask(subject.chat(question, grammar='root ::= "a'))
    assert broken.status == 400, broken.content[:300]


@case(rows.JSON_SCHEMA)
async def a_schema_that_makes_no_sense_is_the_clients_mistake(subject: Subject) -> None:
    """A 400, not a crash; and the engine goes on."""
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nonsense"}}}
    reply = await subject.ask(subject.chat("hi", response_format=form))
    assert reply.status == 400, f"{reply.status}: {reply.content[:300]!r}"
    await subject.answer(subject.chat("hi"))
