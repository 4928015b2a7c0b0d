"""`tool_choice` required or named, which llama.cpp's server accepts and does not enforce.

Its grammar lets free text come before the first call, and a named choice
silently becomes `auto`. Two ways hold:

Where the model's template writes a call as `{"name": ..`, the answer is started with
the opening of a call, up to where the name begins: from there on the grammar leaves
nothing but a call. The opening is learnt from the running child, which renders a
sentinel call with the template.

Everywhere else the answer is made to follow a schema of the tools, one object with a
name and arguments, and turned into a call on its way out. Where the template does not
even tell the model of its tools, they are told to it in the system message.

This is the one place where helexa adds something to what a model reads. It is
the engine's steering, not the client's prompt, and only for these choices.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from os.path import commonprefix
from typing import Any, Final

import msgspec

from helexa.protocol.errors import CapabilityMissing, RequestRejected
from helexa.protocol.openai import body as bodies
from helexa.runtime.contract import Ability, ChildRequest, ReplicaSpec, Rewrite
from helexa.runtime.llama_cpp import templates
from helexa.runtime.openai import calls, schemas
from helexa.runtime.openai.tools import Tool, Wish

OPENING: Final = "tool_call_opening"
TOLD: Final = "tools_told"
"""Not empty where the template tells the model of its tools."""
_SENTINEL: Final = "helexa_sentinel_call"
_OPENING_CHARS_MAX: Final = 400
_NAME_FOLLOWS: Final = re.compile(r'\{\s*"name"\s*:\s*"\Z')
"""Other notations are enforced by the engine in part only: texts are not held to an `enum`."""
_TELLING: Final = (
    "You can call these functions, each described by a line of JSON:\n{tools}\n"
    'Answer with one call, as a JSON object: {{"name": "...", "arguments": {{...}}}}'
)

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Steering:
    """What to change in a chat request, and in its answer."""

    changes: Mapping[str, Any] = field(default_factory=dict)
    rewrites: Sequence[Callable[[], Rewrite]] = ()


class _Rendered(msgspec.Struct):
    prompt: str


class _Role(msgspec.Struct):
    role: str


def questions() -> Sequence[ChildRequest]:
    """The prompt up to an answer, the same with an answer that is a call, and with none wanted."""
    ask: dict[str, Any] = {"role": "user", "content": "q"}
    call: dict[str, Any] = {"role": "assistant", "content": "", "tool_calls": [_CALL]}
    result: dict[str, Any] = {"role": "tool", "tool_call_id": _CALL["id"], "content": "r"}
    rendered: tuple[dict[str, Any], ...] = (
        {"messages": [ask]},
        {"messages": [ask, call, result]},
        {"messages": [ask], "tool_choice": "none"},
    )
    return tuple(
        ChildRequest(
            path="/apply-template",
            body=json.dumps({**body, "tools": [_TOOL]}).encode(),
            streamed=False,
        )
        for body in rendered
    )


def learn(answers: Sequence[tuple[int, bytes]]) -> Mapping[str, str]:
    """`OPENING` is empty where calls are not written as JSON that begins with the name."""
    prompts = [_prompt(status, body) for status, body in answers]
    if len(prompts) != len(questions()):
        return {OPENING: "", TOLD: ""}
    question, answered, unasked = prompts
    opening = _opening(question, answered)
    fits = len(opening) <= _OPENING_CHARS_MAX and _NAME_FOLLOWS.search(opening) is not None
    return {OPENING: opening if fits else "", TOLD: "yes" if _SENTINEL in unasked else ""}


def steered(raw: bodies.Fields, wish: Wish | None, spec: ReplicaSpec) -> Steering:
    """How its `tool_choice` is made to hold. Raises RequestRejected."""
    if wish is None or wish.choice == "none" or not wish.tools:
        return Steering()
    for name in ("grammar", "json_schema"):
        if name in raw:
            raise RequestRejected(
                reason=f"`{name}` cannot be combined with `tools` by the runtime llama_cpp.",
                field=name,
            )
    first: tuple[Callable[[], Rewrite], ...] = (calls.FirstCall,) if wish.is_one else ()
    if wish.choice == "auto":
        return Steering(rewrites=first)
    messages = bodies.value(raw, "messages", list[msgspec.Raw])
    if msgspec.json.decode(messages[-1], type=_Role).role == "assistant":
        raise RequestRejected(
            reason="`tool_choice` cannot be enforced after a last message of the assistant's.",
            field="messages",
        )
    if OPENING not in spec.learnt:
        return Steering()  # Not running yet: the request is shaped again once it is.
    # Whatever shape is wanted of an answer, there will be a call instead.
    unshaped = {"response_format": None} if "response_format" in raw else {}
    if opening := spec.learnt[OPENING]:
        return Steering(changes={**unshaped, **_prefilled(messages, wish, opening)}, rewrites=first)
    if Ability.JSON_SCHEMA in templates.lacks(spec.files.chat_template):
        raise CapabilityMissing(
            model=spec.files.model,
            capability="tool calls that are sure to come",
            runtime="llama_cpp",
            field="tool_choice",
        )
    return Steering(
        changes={**unshaped, **_by_schema(messages, wish, told=bool(spec.learnt.get(TOLD)))},
        rewrites=(calls.CallOfJson,),
    )


def _prefilled(messages: list[msgspec.Raw], wish: Wish, opening: str) -> dict[str, Any]:
    more = {"parallel_tool_calls": False} if wish.is_one else {}
    return {
        "messages": [*messages, {"role": "assistant", "content": opening}],
        "continue_final_message": True,
        "add_generation_prompt": False,
        "tools": [tool.raw for tool in wish.tools],
        "tool_choice": "required",
        **more,
    }


def _by_schema(messages: list[msgspec.Raw], wish: Wish, *, told: bool) -> dict[str, Any]:
    schema = call_schema(wish.tools)
    changes: dict[str, Any] = {
        "tools": [tool.raw for tool in wish.tools] if told else None,
        "tool_choice": "none",
        "parallel_tool_calls": None,
        # Some templates have a parser of their own that leaves `response_format` out.
        "response_format": {"type": "json_schema", "json_schema": {"schema": schema}},
        "json_schema": schema,
    }
    if not told:
        changes["messages"] = _telling(messages, wish.tools)
    return changes


def call_schema(tools: Sequence[Tool]) -> dict[str, Any]:
    """Of one call of one of them: its name, then its arguments."""
    parameters = {
        f"t{at}": schemas.moved({"type": "object", **tool.parameters}, f"#/$defs/t{at}")
        for at, tool in enumerate(tools)
    }
    one_of = [
        {
            "type": "object",
            "properties": {
                "name": {"const": tool.name},
                "arguments": {"$ref": f"#/$defs/t{at}"},
            },
            "required": ["name", "arguments"],
            "additionalProperties": False,
        }
        for at, tool in enumerate(tools)
    ]
    return {"$defs": parameters, "anyOf": one_of}


def _telling(messages: list[msgspec.Raw], tools: Sequence[Tool]) -> list[Any]:
    """The messages with the tools in the first of them, which is the system's."""
    lines = "\n".join(msgspec.json.encode(tool.raw).decode() for tool in tools)
    text = _TELLING.format(tools=lines)
    first = msgspec.json.decode(messages[0])
    if first.get("role") not in ("system", "developer"):
        return [{"role": "system", "content": text}, *messages]
    content = first.get("content") or ""
    if isinstance(content, str):
        first["content"] = f"{content}\n\n{text}" if content else text
    else:
        first["content"] = [*content, {"type": "text", "text": f"\n\n{text}"}]
    return [first, *messages[1:]]


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
