"""What a request asks for, in mistral.rs's words: sampling, and the form of the answer. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from .server.engine import Generation, Refused
from .server.markup import CALL, CALLED

_SAMPLING = (
    *("temperature", "top_p", "top_k", "min_p", "ignore_eos", "logit_bias"),
    *("frequency_penalty", "presence_penalty", "repetition_penalty"),
)
_FORMS = ("grammar", "response_format")
TEXT = (*_SAMPLING, *_FORMS, "n", "logprobs")
CHAT = (
    *(*TEXT, "top_logprobs", "chat_template_kwargs"),
    *("add_generation_prompt", "continue_final_message"),
)
CHAT_WITH_TOOLS = (*CHAT, "tools", "tool_choice", "parallel_tool_calls")
_WRITTEN = {"whitespace_flexible": False}
"""JSON without space: free to put some anywhere, there are models that never stop. And with a space
at the usual places, a text that has to come could be a token of its own that a grammar never takes.
"""
_SOME_TOOL = json.dumps({"type": "function", "function": {"name": "some"}})


def of(request: Generation, *, is_token: bool) -> dict[str, Any]:
    """Members of its request besides the prompt. `is_token` is said of `<tool_call>`."""
    said = request.fields
    asked = {name: said[name] for name in _SAMPLING if name in said}
    if asked.get("top_k", 0) <= 0:
        asked.pop("top_k", None)
    if "logit_bias" in asked:
        asked["logit_bias"] = {int(token): one for token, one in asked["logit_bias"].items()}
    asked["top_logprobs"] = said.get("top_logprobs") if request.is_chat else said.get("logprobs")
    if may_call(said):
        # Special tokens, as the marks of calls mostly are, are left out for who has no tools.
        asked["tool_schemas"] = [_SOME_TOOL]
    if form := _form(said, is_token=is_token):
        asked["grammar"], asked["grammar_type"] = form
    return asked


def may_call(said: Mapping[str, Any]) -> bool:
    return bool(said.get("tools")) and said.get("tool_choice", "auto") == "auto"


def must_call(said: Mapping[str, Any]) -> bool:
    return said.get("tool_choice", "auto") not in ("auto", "none")


def _form(said: Mapping[str, Any], *, is_token: bool) -> tuple[str, str] | None:
    """The grammar of the answer and its notation."""
    calls = _calls(said, is_token=is_token)
    forms = [one for one in (_schema(said), _grammar(said), calls) if one]
    if len(forms) > 1 or (forms and not calls and said.get("tools")):
        raise Refused(
            "An answer has one form: `response_format`, `grammar` or tools.",
            param=next(name for name in (*_FORMS, "tools") if name in said),
        )
    return forms[0] if forms else None


def _grammar(said: Mapping[str, Any]) -> tuple[str, str] | None:
    return (said["grammar"], "lark") if said.get("grammar") else None


def _schema(said: Mapping[str, Any]) -> tuple[str, str] | None:
    form = said.get("response_format", {})
    if form.get("type") == "json_schema":
        return json.dumps({**form["json_schema"]["schema"], "x-guidance": _WRITTEN}), "json_schema"
    if form.get("type") == "json_object":
        return json.dumps({"type": "object", "x-guidance": _WRITTEN}), "json_schema"
    return None


def _calls(said: Mapping[str, Any], *, is_token: bool) -> tuple[str, str] | None:
    """A grammar of one call, where one has to be made."""
    if not must_call(said):
        return None
    choice = said["tool_choice"]
    wanted = None if choice == "required" else choice["function"]["name"]
    functions = [each["function"] for each in said.get("tools", ())]
    schemas = [_call(one) for one in functions if wanted in (None, one["name"])]
    if not schemas:
        raise Refused("`tools` has no such function.", param="tool_choice")
    begin, end = (CALL, CALLED) if is_token else (f'"{CALL}"', f'"{CALLED}"')
    call = json.dumps({"anyOf": schemas, "x-guidance": _WRITTEN})
    return f'start: {begin} "\\n" call "\\n" {end}\ncall: %json {call}', "lark"


def _call(function: Mapping[str, Any]) -> Mapping[str, Any]:
    arguments = function.get("parameters") or {}
    if "properties" in arguments:
        # What a function does not name it does not take, although a schema would allow it.
        arguments = {"additionalProperties": False, **arguments}
    return {
        "type": "object",
        "properties": {
            "name": {"const": function["name"]},
            "arguments": {"type": "object", **arguments},
        },
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }
