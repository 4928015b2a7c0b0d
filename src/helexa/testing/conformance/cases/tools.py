"""Tools: calls that a question needs, calls that are insisted on, several at once."""

from __future__ import annotations

import json
from typing import Any

from helexa.testing.conformance import rows
from helexa.testing.conformance.case import case
from helexa.testing.conformance.subject import Reply, Subject

_CLOCK = {
    "type": "function",
    "function": {
        "name": "get_time",
        "description": "Get the time",
        "parameters": {
            "type": "object",
            "properties": {"sunny": {"type": "boolean"}},
            "required": ["sunny"],
        },
    },
}


@case(rows.TOOLS)
async def a_question_that_needs_a_tool_is_answered_by_a_call(subject: Subject) -> None:
    """Name and arguments as a client reads them, whole and streamed; no text instead of it."""
    for city, more in (("Paris", {}), ("Rome", {"stream": True})):
        question = subject.knowledge.city_question.format(city)
        reply = await subject.answer(subject.chat(question, tools=[rows.TOOL], **more))
        (call,) = _calls(reply)
        assert call["function"]["name"] == "get_weather", call
        assert json.loads(call["function"]["arguments"]) == {"city": city}, call
        assert reply.finish_reason == "tool_calls", reply.finish_reason
        assert not reply.text, reply.text


@case(rows.TOOLS)
async def what_a_tool_said_is_taken_into_the_answer(subject: Subject) -> None:
    """The conversation goes on with the result of a call."""
    function = {"name": "get_weather", "arguments": json.dumps({"city": "Paris"})}
    messages = [
        {"role": "user", "content": subject.knowledge.city_question.format("Paris")},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "call_1", "type": "function", "function": function}],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "17 C, fog"},
    ]
    reply = await subject.answer(subject.chat("", messages=messages, tools=[rows.TOOL]))
    assert "17" in reply.text, reply.text


@case(rows.TOOLS)
async def tools_that_are_not_needed_or_not_wanted_are_not_called(subject: Subject) -> None:
    """`tool_choice` none is kept also for a question that needs one."""
    question = subject.knowledge.questions[0]
    reply = await subject.answer(subject.chat(question, tools=[rows.TOOL]))
    assert subject.knowledge.is_right(question, reply.text), reply.content
    needed = subject.knowledge.city_question.format("Paris")
    reply = await subject.answer(subject.chat(needed, tools=[rows.TOOL], tool_choice="none"))
    assert not reply.message.get("tool_calls"), reply.content


@case(rows.TOOL_CHOICE)
async def a_call_that_is_required_is_made(subject: Subject) -> None:
    """Of any tool for `required`, of that one by its name, whatever the question."""
    question = subject.knowledge.questions[0]
    named = {"type": "function", "function": {"name": "get_time"}}
    for choice, names in (("required", {"get_time", "get_weather"}), (named, {"get_time"})):
        for more in ({}, {"stream": True}):
            asked = subject.chat(
                question, tools=[rows.TOOL, _CLOCK], tool_choice=choice, max_tokens=200, **more
            )
            reply = await subject.answer(asked)
            first, *_ = _calls(reply)
            assert first["function"]["name"] in names, first
            arguments = json.loads(first["function"]["arguments"])
            if first["function"]["name"] == "get_time":
                assert isinstance(arguments["sunny"], bool), first
            assert not reply.text, reply.text


@case(rows.PARALLEL_TOOLS)
async def two_calls_come_in_one_answer(subject: Subject) -> None:
    """Each with an id of its own; whole and streamed."""
    question = subject.knowledge.city_question.format("Paris and Rome")
    for more in ({}, {"stream": True}):
        asked = subject.chat(question, tools=[rows.TOOL], parallel_tool_calls=True, **more)
        calls = _calls(await subject.answer(asked))
        cities = [json.loads(call["function"]["arguments"])["city"] for call in calls]
        assert sorted(cities) == ["Paris", "Rome"], calls
        assert len({call["id"] for call in calls}) == 2, calls


@case(rows.PARALLEL_TOOLS)
async def who_wants_one_call_at_a_time_gets_one(subject: Subject) -> None:
    """`parallel_tool_calls` false."""
    question = subject.knowledge.city_question.format("Paris and Rome")
    asked = subject.chat(question, tools=[rows.TOOL], parallel_tool_calls=False)
    assert len(_calls(await subject.answer(asked))) == 1


@case(rows.PARALLEL_TOOLS)
async def one_call_comes_where_one_is_wanted(subject: Subject) -> None:
    """`parallel_tool_calls` false, for a question that needs two."""
    question = subject.knowledge.city_question.format("Paris and Rome")
    for more in ({}, {"stream": True}):
        asked = subject.chat(question, tools=[rows.TOOL], parallel_tool_calls=False, **more)
        (call,) = _calls(await subject.answer(asked))
        assert "Paris" in json.loads(call["function"]["arguments"])["city"], call


def _calls(reply: Reply) -> list[dict[str, Any]]:
    calls: list[dict[str, Any]] = reply.message.get("tool_calls") or []
    assert calls, f"no call was made: {reply.content[:500]!r}"
    for call in calls:
        assert call["id"], call
        assert call["type"] == "function", call
    return calls
