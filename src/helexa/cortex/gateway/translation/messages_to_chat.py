"""Anthropic's Messages as a chat completion. Pure: a request in, a body and its places out.

What a chat completion cannot say is refused with the client's name of the field. Texts go
over as they are: nothing is added to them, and what stood apart stays apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from helexa.cortex.gateway.translation.messages_places import Place
from helexa.cortex.gateway.translation.messages_turns import Turns
from helexa.protocol.anthropic.reading import refused
from helexa.protocol.anthropic.requests import (
    Format,
    MessageRequest,
    PromptRequest,
    ThinkingWish,
    Tool,
    ToolChoice,
    given,
)

Json: TypeAlias = dict[str, Any]

DEFAULT_EFFORT: Final = "high"
_WAY: Final = ("models", "provider", "route", "transforms", "helexa")
_CHOICES: Final = {"auto": "auto", "any": "required", "none": "none"}


@dataclass(frozen=True, slots=True)
class Chat:
    """A chat completion's request, and where its messages came from."""

    body: Json
    places: list[Place]
    """One for each message of `body`."""


def prompt(request: PromptRequest) -> Chat:
    """All that makes the prompt, without what is said of its answer. Raises RequestRejected."""
    for name, why in _NOT_HERE.items():
        if given(getattr(request, name, None)):
            raise refused(name, why)
    edits = (request.context_management and request.context_management.edits) or ()
    for at, edit in enumerate(edits):
        if not edit.changes_nothing:
            raise refused(
                f"context_management.edits.{at}", "prompts are neither cut nor cleared here"
            )
    turns = Turns()
    turns.system(request.system)
    turns.add(request.messages)
    body: Json = {"model": request.model, "messages": turns.messages}
    if turns.is_prefilled:
        body["continue_final_message"] = True
        body["add_generation_prompt"] = False
    _tools(request, body)
    _thinking(request, body)
    for name in _WAY:
        if said := getattr(request, name):
            body[name] = said
    return Chat(body, turns.places)


def chat(request: MessageRequest) -> Chat:
    """Raises RequestRejected."""
    found = prompt(request)
    body = found.body
    if request.max_tokens < 1:
        raise refused("max_tokens", "it is 1 or more")
    body["max_tokens"] = request.max_tokens
    wish = request.thinking
    if wish is not None and wish.budget_tokens is not None:
        if not 1 <= wish.budget_tokens < request.max_tokens:
            raise refused("thinking.budget_tokens", "it is 1 or more, and less than `max_tokens`")
        # llama.cpp's name for it. Engines that cannot keep it refuse it or think as they like.
        body["thinking_budget_tokens"] = wish.budget_tokens
    if request.top_k is not None and request.top_k < 0:
        raise refused("top_k", "it is 0 or more")
    for name in ("temperature", "top_p", "top_k"):
        if (value := getattr(request, name)) is not None:
            body[name] = value
    if request.stop_sequences:
        body["stop"] = request.stop_sequences
    if request.metadata is not None and request.metadata.user_id:
        body["user"] = request.metadata.user_id
    _format(request, body)
    if request.stream:
        body["stream"] = True
        body["stream_options"] = {"include_usage": True}
    return found


def _tools(request: PromptRequest, body: Json) -> None:
    if request.tools:
        body["tools"] = [_tool(tool, f"tools.{at}") for at, tool in enumerate(request.tools)]
    choice = request.tool_choice
    if choice is None:
        return
    if not request.tools:
        if choice.type != "none":
            raise refused("tool_choice", "there are no `tools` to choose from")
        return
    body["tool_choice"] = _choice(choice)
    if choice.disable_parallel_tool_use:
        body["parallel_tool_calls"] = False


def _tool(tool: Tool, place: str) -> Json:
    if tool.defer_loading:
        raise refused(f"{place}.defer_loading", "tools are not searched for here")
    if tool.input_examples:
        raise refused(f"{place}.input_examples", "chat completions have no place for them")
    if bytes(tool.input_schema)[:1] != b"{":
        raise refused(f"{place}.input_schema", "it is an object")
    function: Json = {"name": tool.name}
    if tool.description is not None:
        function["description"] = tool.description
    function["parameters"] = tool.input_schema
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def _choice(choice: ToolChoice) -> str | Json:
    if choice.type == "tool":
        if not choice.name:
            raise refused("tool_choice.name", "it is missing")
        return {"type": "function", "function": {"name": choice.name}}
    if choice.name is not None:
        raise refused("tool_choice.name", f"it has no meaning for `{choice.type}`")
    return _CHOICES[choice.type]


def _thinking(request: PromptRequest, body: Json) -> None:
    wish = request.thinking
    effort = None if request.output_config is None else request.output_config.effort
    if wish is not None:
        _check_thinking(wish)
    # What Anthropic's models do unasked: some clients say it with every request.
    effort = None if effort == DEFAULT_EFFORT else effort
    if wish is not None and wish.type == "disabled":
        if effort is not None:
            raise refused("output_config.effort", "it cannot be set where `thinking` is `disabled`")
        body["reasoning_effort"] = "none"
        return
    if effort is not None:
        body["reasoning_effort"] = effort
    if wish is not None and wish.type == "enabled":
        # Models that can do both may answer without thoughts until they are told.
        body["chat_template_kwargs"] = {"enable_thinking": True}


def _check_thinking(wish: ThinkingWish) -> None:
    if wish.type == "enabled":
        if wish.budget_tokens is None:
            raise refused("thinking.budget_tokens", "it is missing")
    elif wish.budget_tokens is not None:
        raise refused("thinking.budget_tokens", f"it has no meaning for `{wish.type}`")
    if wish.type == "disabled" and wish.display is not None:
        raise refused("thinking.display", "it has no meaning for `disabled`")


def _format(request: PromptRequest, body: Json) -> None:
    config = request.output_config
    wanted: Format | None = None if config is None else config.format
    place = "output_config.format"
    if request.output_format is not None:
        if wanted is not None:
            raise refused("output_format", "it is the older name of `output_config.format`")
        wanted, place = request.output_format, "output_format"
    if wanted is None:
        return
    if bytes(wanted.schema)[:1] != b"{":
        raise refused(f"{place}.schema", "it is an object")
    # Anthropic promises that the answer fits, so what an engine cannot enforce has to be refused.
    schema = {"name": "answer", "strict": True, "schema": wanted.schema}
    body["response_format"] = {"type": "json_schema", "json_schema": schema}


_NOT_HERE: Final[Mapping[str, str]] = {
    "container": "there are no containers here",
    "diagnostics": "there are none here",
    "inference_geo": "say it by the header `x-helexa-policy: region=...`",
    "mcp_servers": "helexa calls no servers on behalf of a client",
}
