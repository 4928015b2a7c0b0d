"""Where an answer ends, and which prompt is too long."""

from __future__ import annotations

import re

from helexa.testing.conformance import rows
from helexa.testing.conformance.case import case
from helexa.testing.conformance.subject import Subject

_CAP = 5


@case(rows.MAX_TOKENS)
async def an_answer_is_no_longer_than_asked_for(subject: Subject) -> None:
    """By either name of the limit, whole and streamed; and the client is told that it was cut."""
    question = subject.knowledge.questions[0]
    body = {"messages": [{"role": "user", "content": question}], "temperature": 0}
    for name in ("max_tokens", "max_completion_tokens"):
        for more in ({}, {"stream": True, "stream_options": {"include_usage": True}}):
            reply = await subject.answer({**body, name: _CAP, **more})
            used = reply.usage["completion_tokens"]
            assert 0 < used <= _CAP, f"{name}: {used} tokens"
            if subject.knowledge.is_exact:
                assert reply.finish_reason == "length", (name, more, reply.finish_reason)


@case(rows.STOP)
async def an_answer_ends_before_a_stop_string(subject: Subject) -> None:
    """It is not part of the answer, nor is a beginning of it, streamed or not."""
    question = subject.knowledge.questions[0]
    full = (await subject.answer(subject.chat(question))).text
    # From the middle of a word, so that it begins and ends inside of tokens.
    at = len(full) // 2
    stop = full[at : at + 3]
    wanted = full[: full.index(stop)]
    for more in ({}, {"stream": True}):
        reply = await subject.answer(subject.chat(question, stop=[stop], **more))
        assert reply.finish_reason == "stop", reply.finish_reason
        assert stop not in reply.text, reply.text
        if subject.knowledge.is_exact:
            assert reply.text == wanted, f"{reply.text!r} where {wanted!r} comes before {stop!r}"


@case(rows.CONTEXT)
async def a_prompt_that_is_too_long_is_refused_with_the_numbers(subject: Subject) -> None:
    """Not cut, and not the engine's own confusion: how long it is, and what is read here."""
    limit = (await subject.spec()).context_tokens
    for more in ({}, {"stream": True}):
        reply = await subject.ask(subject.chat("alpha " * limit, **more))
        assert reply.status == 400, f"{reply.status}: {reply.content[:300]!r}"
        error = reply.error
        assert error["code"] == "context_length_exceeded", error
        told = [int(number) for number in re.findall(r"\d+", error["message"])]
        assert limit in told, f"the limit is {limit}: {error['message']}"
        assert any(number > limit for number in told), error["message"]
    # Whatever was refused, the engine goes on.
    await subject.answer(subject.chat(subject.knowledge.questions[0]))


@case(rows.CONTEXT)
async def a_prompt_of_nearly_the_whole_context_is_read(subject: Subject) -> None:
    """What was promised to a request is there for it, however many slots there are."""
    limit = (await subject.spec()).context_tokens
    one = await subject.answer(subject.chat("alpha", max_tokens=1))
    two = await subject.answer(subject.chat("alpha " * 11, max_tokens=1))
    per_word = (two.usage["prompt_tokens"] - one.usage["prompt_tokens"]) / 10
    words = int((limit * 0.9 - one.usage["prompt_tokens"]) / per_word)
    reply = await subject.answer(subject.chat("alpha " * words, max_tokens=4))
    assert limit * 0.8 < reply.usage["prompt_tokens"] <= limit
