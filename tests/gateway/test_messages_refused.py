"""What a chat completion cannot say is refused by the name that the client gave it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from helexa.cortex.gateway.endpoints import count_tokens, messages
from helexa.protocol.errors import RequestRejected

USER = {"role": "user", "content": "hi"}
ASKED: dict[str, Any] = {"model": "m", "max_tokens": 50, "messages": [USER]}
TOOL = {"name": "f", "input_schema": {"type": "object"}}
CALL = {"type": "tool_use", "id": "t1", "name": "f", "input": {}}
RESULT = {"type": "tool_result", "tool_use_id": "t1", "content": "ok"}
TEXT = {"type": "text", "text": "x"}
IMAGE = {"type": "image", "source": {"type": "url", "url": "https://127.0.0.1/x.png"}}
THOUGHT = {"type": "thinking", "thinking": "hm", "signature": "unsigned"}
SCHEMA = {"type": "json_schema", "schema": {"type": "object"}}


def blocks(*of_user: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"role": "user", "content": list(of_user)}]


def turns(*contents: Any) -> list[dict[str, Any]]:
    """The user's and the assistant's, in turn."""
    roles = ("user", "assistant")
    return [{"role": roles[at % 2], "content": one} for at, one in enumerate(contents)]


FIELDS: list[tuple[dict[str, Any], str]] = [
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": "5"}, "max_tokens"),
    ({"max_tokens": None}, "max_tokens"),
    ({"model": 5}, "model"),
    ({"seed": 5}, "seed"),
    ({"container": "c"}, "container"),
    ({"mcp_servers": [{"type": "url"}]}, "mcp_servers"),
    ({"inference_geo": "eu"}, "inference_geo"),
    ({"diagnostics": {"previous_message_id": "x"}}, "diagnostics"),
    (
        {"context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]}},
        "context_management.edits.0",
    ),
    (
        {"context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": {}}]}},
        "context_management.edits.0",
    ),
    ({"speed": "fast"}, "speed"),
    ({"service_tier": "priority"}, "service_tier"),
    ({"metadata": {"user": "x"}}, "metadata.user"),
    ({"top_k": -1}, "top_k"),
    ({"temperature": "warm"}, "temperature"),
    ({"stop_sequences": "x"}, "stop_sequences"),
    ({"stream": "yes"}, "stream"),
    ({"system": [IMAGE]}, "system.0.type"),
    ({"system": [TEXT, {"type": "text", "text": ""}]}, "system.1"),
    ({"cache_control": {"type": "forever"}}, "cache_control.type"),
    # Tools.
    ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools.0.type"),
    ({"tools": [TOOL, {"type": "bash_20250124", "name": "bash"}]}, "tools.1.type"),
    ({"tools": [{"type": "computer_toolset_20260801"}]}, "tools.0.type"),
    ({"tools": [{"name": "f"}]}, "tools.0.input_schema"),
    ({"tools": [{**TOOL, "input_schema": []}]}, "tools.0.input_schema"),
    ({"tools": [{**TOOL, "defer_loading": True}]}, "tools.0.defer_loading"),
    ({"tools": [{**TOOL, "input_examples": [{}]}]}, "tools.0.input_examples"),
    ({"tools": [{**TOOL, "allowed_callers": ["code_execution_20250825"]}]},
     "tools.0.allowed_callers.0"),
    ({"tool_choice": {"type": "any"}}, "tool_choice"),
    ({"tools": [TOOL], "tool_choice": {"type": "tool"}}, "tool_choice.name"),
    ({"tools": [TOOL], "tool_choice": {"type": "auto", "name": "f"}}, "tool_choice.name"),
    ({"tools": [TOOL], "tool_choice": {"type": "some"}}, "tool_choice.type"),
    # Thinking and output.
    ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens"),
    ({"thinking": {"type": "enabled", "budget_tokens": 50}}, "thinking.budget_tokens"),
    ({"thinking": {"type": "enabled", "budget_tokens": 0}}, "thinking.budget_tokens"),
    ({"thinking": {"type": "adaptive", "budget_tokens": 9}}, "thinking.budget_tokens"),
    ({"thinking": {"type": "between_tools"}}, "thinking.type"),
    ({"thinking": {"type": "disabled", "display": "omitted"}}, "thinking.display"),
    (
        {"thinking": {"type": "disabled"}, "output_config": {"effort": "low"}},
        "output_config.effort",
    ),
    ({"output_config": {"effort": "some"}}, "output_config.effort"),
    ({"output_config": {"task_budget": {}}}, "output_config.task_budget"),
    ({"output_config": {"format": {"type": "xml"}}}, "output_config.format.type"),
    ({"output_config": {"format": SCHEMA}, "output_format": SCHEMA}, "output_format"),
    (
        {"output_config": {"format": {"type": "json_schema", "schema": 5}}},
        "output_config.format.schema",
    ),
    # Messages.
    ({"messages": []}, "messages"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.role"),
    ({"messages": [{"role": "user"}]}, "messages.0.content"),
    ({"messages": turns("")}, "messages.0.content"),
    ({"messages": turns([])}, "messages.0.content"),
    ({"messages": turns("a", "", "b")}, "messages.1.content"),
    ({"messages": turns(" \n")}, "messages.0.content"),
    ({"messages": blocks({"type": "text", "text": " "})}, "messages.0.content.0"),
    ({"messages": blocks(TEXT, {"type": "document", "source": {}})}, "messages.0.content.1.type"),
    ({"messages": blocks({"type": "search_result"})}, "messages.0.content.0.type"),
    ({"messages": blocks({"type": "container_upload"})}, "messages.0.content.0.type"),
    ({"messages": turns("a", [{"type": "redacted_thinking", "data": "x"}], "b")},
     "messages.1.content.0.type"),
    ({"messages": turns("a", [{"type": "server_tool_use"}], "b")}, "messages.1.content.0.type"),
    ({"messages": blocks({**TEXT, "citations": [{}]})}, "messages.0.content.0.citations"),
    ({"messages": blocks({**TEXT, "color": 1})}, "messages.0.content.0.color"),
    ({"messages": blocks({"type": "image", "source": {"type": "file", "file_id": "f"}})},
     "messages.0.content.0.source.type"),
    ({"messages": blocks({"type": "image", "source": {"type": "base64", "data": "",
      "media_type": "image/tiff"}})}, "messages.0.content.0.source.media_type"),
    ({"messages": blocks(THOUGHT)}, "messages.0.content.0"),
    ({"messages": blocks(CALL)}, "messages.0.content.0"),
    ({"messages": turns("a", [IMAGE], "b")}, "messages.1.content.0"),
    ({"messages": turns("a", [RESULT], "b")}, "messages.1.content.0"),
    ({"messages": [{"role": "system", "content": [IMAGE]}, USER]}, "messages.0.content.0"),
    # The order of calls and results.
    ({"messages": turns("a", [CALL])}, "messages.1.content.0"),
    ({"messages": turns("a", [CALL], "b")}, "messages.1.content.0"),
    ({"messages": turns("a", [CALL], [TEXT, RESULT])}, "messages.1.content.0"),
    ({"messages": turns("a", [CALL], [RESULT, TEXT, RESULT])}, "messages.2.content.2"),
    ({"messages": turns("a", [CALL], [RESULT, RESULT])}, "messages.2.content.1.tool_use_id"),
    ({"messages": turns("a", [CALL, {**CALL, "id": "t2"}], [RESULT])}, "messages.1.content.1"),
    ({"messages": turns("a", [CALL, CALL], [RESULT])}, "messages.1.content.1.id"),
    ({"messages": turns("a", [CALL], [RESULT], [CALL], [RESULT])}, "messages.3.content.0.id"),
    ({"messages": turns("a", "b", [RESULT])}, "messages.2.content.0.tool_use_id"),
    ({"messages": turns([RESULT])}, "messages.0.content.0.tool_use_id"),
    ({"messages": turns("a", [{**CALL, "input": "x"}], [RESULT])}, "messages.1.content.0.input"),
    ({"messages": turns("a", [{**CALL, "caller": {"type": "code_execution_20250825"}}], "b")},
     "messages.1.content.0.caller.type"),
    # A last message of the assistant's.
    ({"messages": turns("a", "b ")}, "messages.1.content"),
    ({"messages": turns("a", [TEXT, {"type": "text", "text": "b\n"}])}, "messages.1.content.1"),
    ({"messages": turns("a", [TEXT, THOUGHT])}, "messages.1.content.1"),
]  # fmt: skip


@pytest.mark.parametrize(("more", "place"), FIELDS)
def test_what_a_chat_cannot_say_is_refused_by_its_name(more: dict[str, Any], place: str) -> None:
    with pytest.raises(RequestRejected) as caught:
        messages.opened(json.dumps({**ASKED, **more}).encode(), "req_1")
    assert caught.value.param == place
    assert caught.value.status == 400
    assert f"`{place}`" in caught.value.message


HINTS: list[dict[str, Any]] = [
    {"output_config": {"effort": "high"}},
    {"cache_control": {"type": "ephemeral", "ttl": "1h"}},
    {"system": [{**TEXT, "cache_control": {"type": "ephemeral"}}], "service_tier": "standard_only"},
    {"container": None, "mcp_servers": [], "speed": "standard", "inference_geo": None},
    {"context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}},
    {"context_management": {"edits": []}, "thinking": {"type": "adaptive", "display": "omitted"}},
    {"tools": [], "tool_choice": {"type": "none"}},
    {
        "tools": [
            {
                **TOOL,
                "type": "custom",
                "cache_control": {"type": "ephemeral"},
                "eager_input_streaming": True,
                "defer_loading": False,
                "allowed_callers": ["direct"],
                "input_examples": [],
            }
        ]
    },
    {
        "messages": turns(
            "a", [{**CALL, "caller": {"type": "direct"}}], [{**RESULT, "is_error": True}]
        )
    },
    {"messages": turns("a", [{**TEXT, "citations": None}], "b")},
]


@pytest.mark.parametrize("more", HINTS)
def test_a_hint_changes_nothing(more: dict[str, Any]) -> None:
    body = json.loads(messages.opened(json.dumps({**ASKED, **more}).encode(), "req_1").body)
    assert set(body) <= {"model", "messages", "max_tokens", "tools"}
    for tool in body.get("tools", ()):
        assert tool == {
            "type": "function",
            "function": {"name": "f", "parameters": {"type": "object"}},
        }
    assert b"cache_control" not in json.dumps(body).encode()


def test_counting_takes_what_makes_a_prompt_and_nothing_else() -> None:
    prompt = {key: value for key, value in ASKED.items() if key != "max_tokens"}
    body = {**prompt, "tools": [TOOL], "thinking": {"type": "disabled"}}
    asked = json.loads(count_tokens.opened(json.dumps(body).encode(), "req_1").body)
    assert set(asked) == {"model", "messages", "tools", "reasoning_effort"}
    for name in ("max_tokens", "stream", "temperature", "stop_sequences"):
        with pytest.raises(RequestRejected) as caught:
            count_tokens.opened(json.dumps({**prompt, name: 1}).encode(), "req_1")
        assert caught.value.param == name
