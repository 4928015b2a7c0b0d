"""`tool_choice` required or named, which llama.cpp's server accepts and does not enforce.

Its grammar lets free text come before the first call, and a named choice
silently becomes `auto`. What holds is to start the answer with the opening of a
call, as the model's own template writes it, up to where the name begins: from
there on the grammar leaves nothing but a call. The opening is learnt from the
running child, which renders a sentinel call with the template.

This is the one place where helexa adds something to what a model reads. It is
the engine's steering, not the client's prompt, and only for these two choices.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from os.path import commonprefix
from typing import Any, Final

import msgspec

from helexa.protocol.errors import BodyMalformed, CapabilityMissing, RequestRejected
from helexa.protocol.openai import body as bodies
from helexa.runtime.contract import ChildRequest, ReplicaSpec

OPENING: Final = "tool_call_opening"
_SENTINEL: Final = "helexa_sentinel_call"
_OPENING_CHARS_MAX: Final = 400

_TOOL: Final = {
    "type": "function",
    "function": {
        "name": _SENTINEL,
        "description": "",
        "parameters": {"type": "object", "properties": {"a": {"type": "string"}}},
    },
}
_CALL: Final = {
    "id": "call00000",
    "type": "function",
    "function": {"name": _SENTINEL, "arguments": '{"a": "b"}'},
}


class _Rendered(msgspec.Struct):
    prompt: str


class _Function(msgspec.Struct):
    name: str


class _Tool(msgspec.Struct):
    function: _Function


class _Named(msgspec.Struct):
    function: _Function
    type: str = "function"


def questions() -> Sequence[ChildRequest]:
    """The prompt up to an answer, then the same with an answer that is a call."""
    ask: dict[str, Any] = {"role": "user", "content": "q"}
    call: dict[str, Any] = {"role": "assistant", "content": "", "tool_calls": [_CALL]}
    result: dict[str, Any] = {"role": "tool", "tool_call_id": _CALL["id"], "content": "r"}
    return tuple(
        ChildRequest(
            path="/apply-template",
            body=json.dumps({"messages": messages, "tools": [_TOOL]}).encode(),
            streamed=False,
        )
        for messages in ([ask], [ask, call, result])
    )


def learn(answers: Sequence[tuple[int, bytes]]) -> Mapping[str, str]:
    """`{OPENING: text}`; the text is empty where the template writes no calls."""
    prompts = [_prompt(status, body) for status, body in answers]
    opening = _opening(*prompts) if len(prompts) == 2 else ""
    return {OPENING: opening if len(opening) <= _OPENING_CHARS_MAX else ""}


def changes(raw: bodies.Fields, spec: ReplicaSpec) -> dict[str, Any]:
    """What to change in a chat request so that its `tool_choice` holds."""
    choice = bodies.value(raw, "tool_choice", str | _Named)
    if choice is None or choice in ("auto", "none"):
        return {}
    if isinstance(choice, str) and choice != "required":
        raise BodyMalformed(
            reason="`tool_choice` is `none`, `auto`, `required` or names a function.",
            field="tool_choice",
        )
    steered: dict[str, Any] = {}
    tools = bodies.value(raw, "tools", list[msgspec.Raw]) or []
    if isinstance(choice, _Named):
        tools = [tool for tool in tools if _name(tool) == choice.function.name]
        # One tool and at most one call: the engine knows no other way to name it.
        steered = {"tools": tools, "tool_choice": "required", "parallel_tool_calls": False}
    if not tools:
        raise RequestRejected(
            reason="`tool_choice` asks for a call and `tools` has nothing to call.",
            field="tool_choice",
        )
    if OPENING not in spec.learnt:
        return steered  # Not running yet: the request is shaped again once it is.
    if not spec.learnt[OPENING]:
        raise CapabilityMissing(model=spec.files.model, capability="required tool calls")
    return {**steered, **_prefilled(raw, spec.learnt[OPENING])}


def _prefilled(raw: bodies.Fields, opening: str) -> dict[str, Any]:
    messages = bodies.value(raw, "messages", list[msgspec.Raw])
    if msgspec.json.decode(messages[-1]).get("role") == "assistant":
        raise RequestRejected(
            reason="`tool_choice` cannot be enforced after a last message of the assistant's.",
            field="messages",
        )
    messages.append({"role": "assistant", "content": opening})
    return {
        "messages": messages,
        "continue_final_message": True,
        "add_generation_prompt": False,
    }


def _name(tool: msgspec.Raw) -> str:
    try:
        return msgspec.json.decode(tool, type=_Tool).function.name
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return ""


def _prompt(status: int, body: bytes) -> str:
    try:
        return msgspec.json.decode(body, type=_Rendered).prompt if status == 200 else ""
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ""


def _opening(question: str, answered: str) -> str:
    # The first mention is in the list of tools, which both share.
    shared = len(commonprefix([question, answered]))  # noqa: RUF071 - texts, not paths
    name_at = answered.find(_SENTINEL, shared)
    if name_at < 0 or not question:
        return ""
    # A template may end the question with an opened thought that the answer lacks; then the
    # two part earlier, inside the assistant's header, and nothing can be said safely.
    return answered[shared:name_at] if question[shared:].strip() == "" else ""
