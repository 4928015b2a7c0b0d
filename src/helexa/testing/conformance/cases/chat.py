"""Chats, whole and streamed."""

from __future__ import annotations

import json

from helexa.testing.conformance import rows
from helexa.testing.conformance.case import case
from helexa.testing.conformance.subject import Subject

_REPLACEMENT = "\ufffd"


@case(rows.CHAT)
async def a_question_is_answered_in_openais_shape(subject: Subject) -> None:
    """A strict client finds every field that it knows."""
    question = subject.knowledge.questions[0]
    reply = await subject.answer(subject.chat(question))
    answer = reply.json
    assert answer["object"] == "chat.completion", answer
    assert answer["id"], "an answer has an id"
    assert isinstance(answer["created"], int)
    assert reply.message["role"] == "assistant"
    assert subject.knowledge.is_right(question, reply.text), f"{question!r}: {reply.text!r}"
    if subject.knowledge.is_exact:
        assert reply.finish_reason == "stop", reply.finish_reason


@case(rows.CHAT)
async def earlier_turns_and_a_system_message_are_taken(subject: Subject) -> None:
    """A conversation goes on; whatever a template does with a system message, it is no error."""
    first, second, *_ = subject.knowledge.questions
    messages = [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": first},
        {"role": "assistant", "content": subject.knowledge.answers[first]},
        {"role": "user", "content": [{"type": "text", "text": second}]},
    ]
    reply = await subject.answer(subject.chat("", messages=messages))
    assert subject.knowledge.is_right(second, reply.text), reply.text


@case(rows.CHAT)
async def an_answer_of_no_chosen_length_ends_within_the_context(subject: Subject) -> None:
    """A client that sets no limit gets a whole answer."""
    question = subject.knowledge.questions[1]
    body = subject.chat(question)
    del body["max_tokens"]
    reply = await subject.answer(body)
    assert subject.knowledge.is_right(question, reply.text), reply.text
    assert reply.usage["total_tokens"] <= (await subject.spec()).context_tokens


@case(rows.STREAMS)
async def an_answer_comes_in_pieces_that_are_the_answer(subject: Subject) -> None:
    """Several events, put together the same text; then why it ended, then [DONE]."""
    question = subject.knowledge.questions[0]
    whole = await subject.answer(subject.chat(question))
    streamed = await subject.answer(subject.chat(question, stream=True))
    pieces = [delta["content"] for delta in streamed.deltas if delta.get("content")]
    assert len(pieces) >= min(3, whole.usage["completion_tokens"] - 1), pieces
    assert subject.knowledge.is_right(question, streamed.text), streamed.text
    assert streamed.finish_reason == whole.finish_reason
    if subject.knowledge.is_exact:
        assert streamed.text == whole.text
    for event in streamed.events:
        assert event["object"] == "chat.completion.chunk", event


@case(rows.WHOLE_CHARACTERS)
async def no_character_is_cut_in_two(subject: Subject) -> None:
    """A character of several tokens is held back until it is whole."""
    reply = await subject.answer(subject.chat(subject.knowledge.wide, stream=True))
    assert any(ord(each) > 127 for each in reply.text), f"nothing wide was said: {reply.text!r}"
    for event in reply.events:
        assert _REPLACEMENT not in json.dumps(event, ensure_ascii=False), event
    whole = await subject.answer(subject.chat(subject.knowledge.wide))
    assert _REPLACEMENT not in whole.text, whole.text
