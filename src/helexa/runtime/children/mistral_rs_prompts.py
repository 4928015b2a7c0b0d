"""A model's own chat template, asked through mistral.rs for the text that it makes.

mistral.rs renders templates but shows nobody the result, and takes no text but a chat.
So the template that it is given is ours, around the model's: a message in a role of ours
is the prompt as it is, and for a conversation it raises an exception whose words are the
rendered text. The conversation is handed over among the parameters of a tool, which is
the one place where any JSON comes through unchanged. Then the prompt's tokens can be
counted before anything is computed, and it may end in the middle of a message.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .server.engine import Refused

_KWARGS = ("enable_thinking",)
_TEMPLATE = """\
{%- if messages[0].role == '@ready' -%}{{ messages[0].content }}{%- else -%}
{%- set asked = tools[0].function.parameters -%}
{%- set messages = asked.messages -%}
{%- set tools = asked.tools -%}
{%- set add_generation_prompt = asked.add_generation_prompt -%}
{%- if asked.enable_thinking is defined -%}
{%- set enable_thinking = asked.enable_thinking -%}
{%- endif -%}
{%- set text %}@template{% endset -%}
{{- raise_exception('@begin' + text + '@end') -}}
{%- endif -%}"""


class Prompts:
    def __init__(self, path: Path, template: str) -> None:
        """`path` is where the template for the engine is written."""
        # Nobody who writes messages can know these.
        self._ready, self._begin, self._end, self._cut = (
            f"helexa-{name}-{secrets.token_hex(8)}" for name in ("ready", "begin", "end", "cut")
        )
        self.path = path
        words = {"@ready": self._ready, "@begin": self._begin, "@end": self._end}
        written = _TEMPLATE
        for word, meant in words.items():
            written = written.replace(word, meant)
        path.write_text(written.replace("@template", template))

    def ready(self, prompt: str) -> list[dict[str, str]]:
        """The messages of a request whose prompt is this text and nothing else."""
        return [{"role": self._ready, "content": prompt}]

    def question(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None,
        *,
        kwargs: Mapping[str, Any],
        opens: bool,
        continues: bool,
    ) -> dict[str, Any]:
        """A request that is answered with an exception; `answer` has the text out of it."""
        for name in kwargs:
            if name not in _KWARGS:
                raise Refused(
                    f"`chat_template_kwargs` may have {', '.join(_KWARGS)} alone.",
                    param="chat_template_kwargs",
                    code="unsupported_capability",
                )
        said = [_plain(one) for one in messages]
        if continues:
            last = said[-1]
            if last["role"] != "assistant":
                raise Refused(
                    "`continue_final_message` needs a last message of the assistant's.",
                    param="continue_final_message",
                )
            last["content"] += self._cut
        asked = {
            **kwargs,
            "messages": said,
            "tools": list(tools) if tools else None,
            "add_generation_prompt": opens and not continues,
        }
        carrier = {"type": "function", "function": {"name": "asked", "parameters": asked}}
        return {
            "messages": [{"role": "user", "content": "-"}],
            "tool_schemas": [json.dumps(carrier)],
        }

    def answer(self, said: str) -> str:
        """Raises Refused with the words of a template that does not take such a conversation."""
        begin, end = said.find(self._begin), said.rfind(self._end)
        if begin < 0:
            raise Refused(f"The model's chat template failed: {said.splitlines()[0][:300]}")
        return said[begin + len(self._begin) : end].partition(self._cut)[0]


def _plain(message: Mapping[str, Any]) -> dict[str, Any]:
    """As templates want it: one text, and arguments of calls as what they say."""
    content = message.get("content")
    plain = {**message, "content": _joined(content) if isinstance(content, list) else content or ""}
    if message.get("tool_calls"):
        plain["tool_calls"] = [_call(one) for one in message["tool_calls"]]
    return plain


def _joined(parts: Sequence[Mapping[str, Any]]) -> str:
    for part in parts:
        if part["type"] != "text" or "text" not in part:
            raise Refused("Only parts of text are read here.", param="messages")
    return "\n".join(part["text"] for part in parts)


def _call(call: Any) -> Any:
    try:
        arguments = json.loads(call["function"]["arguments"])
    except (KeyError, TypeError, ValueError):
        return call
    return {**call, "function": {**call["function"], "arguments": arguments}}
