"""A Responses request as a chat completion's, and what of it stands in the answer again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from helexa.cortex.gateway.translation.items import Messages, Origin, refused
from helexa.cortex.gateway.translation.responses_asked import Asked
from helexa.protocol.errors import BodyMalformed
from helexa.protocol.openai.responses import (
    FunctionTool,
    Item,
    JsonObjectFormat,
    JsonSchemaFormat,
    ReasoningSaid,
    ReasoningWish,
    Response,
    ResponsesRequest,
    Text,
    TextFormat,
    TextSaid,
    ToolAsked,
    ToolChoice,
)

_AS_THEY_ARE: Final = (
    "temperature", "top_p", "presence_penalty", "frequency_penalty", "parallel_tool_calls",
    "service_tier", "stream", "user", "safety_identifier", "prompt_cache_key",
)  # fmt: skip
_encode: Final = msgspec.json.Encoder().encode


@dataclass(slots=True)
class Chat:
    """What a neuron is asked."""

    body: bytes
    origins: Sequence[Origin]


def chat_of(asked: Asked, earlier: Sequence[Item] = ()) -> Chat:
    """The chat completion to ask for; `earlier` is the conversation before the request's input.

    Raises RequestRejected.
    """
    request = asked.request
    messages = Messages()
    if request.instructions is not None:
        messages.instruct(request.instructions)
    messages.add(earlier, earlier=True)
    if isinstance(request.input, str):
        messages.say(request.input)
    else:
        messages.add(request.input or ())
    said = messages.closed()
    if not said:
        raise BodyMalformed("There must be at least one item.", "input")
    body: dict[str, Any] = {"model": request.model} if request.model else {}
    body["messages"] = said
    if asked.tools:
        body["tools"] = [_chat_tool(tool) for tool in asked.tools]
    if request.tool_choice is not None:
        body["tool_choice"] = _chat_choice(request.tool_choice)
    body.update(_wishes(request))
    if asked.wants_logprobs:
        body.update(logprobs=True, top_logprobs=request.top_logprobs or 0)
    known = {name: getattr(request, name) for name in _AS_THEY_ARE}
    body.update({name: value for name, value in known.items() if value is not None})
    if request.stream:
        body["stream_options"] = {"include_usage": True}
    body.update(asked.others)
    return Chat(_encode(body), messages.origins)


def answer_to(asked: Asked, *, id: str, created_at: int, store: bool) -> Response:  # noqa: A002
    """What can be said before anything is answered."""
    request = asked.request
    reasoning = request.reasoning or ReasoningWish()
    choice = asked.fields.get("tool_choice") if request.tool_choice is not None else None
    return Response(
        id=id,
        created_at=created_at,
        instructions=request.instructions,
        max_output_tokens=request.max_output_tokens,
        max_tool_calls=request.max_tool_calls,
        model=request.model,
        parallel_tool_calls=request.parallel_tool_calls is not False,
        previous_response_id=request.previous_response_id,
        prompt_cache_key=request.prompt_cache_key,
        reasoning=ReasoningSaid(reasoning.effort, reasoning.summary or reasoning.generate_summary),
        safety_identifier=request.safety_identifier,
        store=store,
        temperature=_or(request.temperature, 1.0),
        text=_text_said(request.text),
        tool_choice=choice if choice is not None else "auto",
        tools=[
            FunctionTool(one.name, one.description, one.parameters, bool(one.strict))
            for one in asked.tools
        ],
        top_logprobs=request.top_logprobs or 0,
        top_p=_or(request.top_p, 1.0),
        presence_penalty=_or(request.presence_penalty, 0.0),
        frequency_penalty=_or(request.frequency_penalty, 0.0),
        user=request.user,
        metadata=request.metadata or {},
    )


def _chat_tool(tool: ToolAsked) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name}
    for name in ("description", "parameters", "strict"):
        if (value := getattr(tool, name)) is not None:
            function[name] = value
    return {"type": "function", "function": function}


def _chat_choice(choice: str | ToolChoice) -> str | dict[str, Any]:
    if isinstance(choice, str):
        return choice
    if choice.type == "function":
        if choice.name is None:
            raise refused("tool_choice.name", "`tool_choice.name` is missing.")
        return {"type": "function", "function": {"name": choice.name}}
    if choice.type == "allowed_tools":
        tools = []
        for index, one in enumerate(choice.tools or ()):
            if one.type != "function" or one.name is None:
                raise refused(f"tool_choice.tools[{index}]", "`tool_choice.tools` are functions.")
            tools.append({"type": "function", "function": {"name": one.name}})
        allowed = {"mode": choice.mode or "auto", "tools": tools}
        return {"type": "allowed_tools", "allowed_tools": allowed}
    raise refused(
        "tool_choice.type",
        f"`tool_choice.type` is {choice.type[:60]!r}; here it is `function` or `allowed_tools`.",
    )


def _wishes(request: ResponsesRequest) -> dict[str, Any]:
    """Those that a chat has by other names."""
    wishes = {} if request.text is None else _chat_text(request.text)
    if request.reasoning is not None and request.reasoning.effort is not None:
        wishes["reasoning_effort"] = request.reasoning.effort
    if request.max_output_tokens is not None:
        wishes["max_completion_tokens"] = request.max_output_tokens
    return wishes


def _chat_text(text: Text) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    if text.verbosity is not None:
        changes["verbosity"] = text.verbosity
    form = text.format
    if form is None or form.type == "text":
        return changes
    if form.type == "json_object":
        return {**changes, "response_format": {"type": "json_object"}}
    if form.type != "json_schema":
        raise refused("text.format.type", "`text.format.type` is text, json_object or json_schema.")
    wanted: dict[str, Any] = {}
    for name in ("name", "description", "schema", "strict"):
        value = getattr(form, name)
        if value is not None:
            wanted[name] = value
        elif name in ("name", "schema"):
            raise refused(f"text.format.{name}", f"`text.format.{name}` is missing.")
    return {**changes, "response_format": {"type": "json_schema", "json_schema": wanted}}


def _text_said(text: Text | None) -> TextSaid:
    verbosity = (text and text.verbosity) or "medium"
    form = text.format if text is not None else None
    if form is not None and form.type == "json_object":
        return TextSaid(JsonObjectFormat(), verbosity)
    if form is not None and form.schema is not None:
        named = form.name or ""
        said = JsonSchemaFormat(named, form.description, form.schema, bool(form.strict))
        return TextSaid(said, verbosity)
    return TextSaid(TextFormat(), verbosity)


def _or(value: float | None, default: float) -> float:
    return default if value is None else value
