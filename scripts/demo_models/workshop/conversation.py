"""Conversations as data, and how the chat template writes them.

`render` is the Python twin of `chat_template.jinja`; `make_text.py` compares the two before it
trains, so that training sees exactly what the engine will send.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Message = dict[str, Any]
Tool = dict[str, Any]

TURN_START = "<|im_start|>"
TURN_END = "<|im_end|>"
CHAT_TEMPLATE = (Path(__file__).parent / "chat_template.jinja").read_text(encoding="utf-8")


@dataclass
class Conversation:
    """One training example. The loss falls on the assistant's turns unless `learn_last_only`."""

    messages: list[Message]
    tools: list[Tool] = field(default_factory=list)
    learn_last_only: bool = False


@dataclass(frozen=True)
class Span:
    """A stretch of rendered text and whether the model should learn to write it."""

    text: str
    learned: bool


def to_json(value: object) -> str:
    """JSON as the template filter `tojson` of llama.cpp writes it."""
    return json.dumps(value, ensure_ascii=False)


def tool_call_text(name: str, arguments: dict[str, Any]) -> str:
    """A tool call in the Hermes style."""
    return f'<tool_call>\n{{"name": "{name}", "arguments": {to_json(arguments)}}}\n</tool_call>'


def call(name: str, arguments: dict[str, Any]) -> Message:
    """A tool call as it stands in an assistant message."""
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


def _assistant_text(message: Message) -> str:
    parts = [message["content"]] if message.get("content") else []
    parts += [
        tool_call_text(c["function"]["name"], c["function"]["arguments"])
        for c in message.get("tool_calls", ())
    ]
    return "\n".join(parts)


def _turn(role: str, body: str) -> str:
    return f"{TURN_START}{role}\n{body}{TURN_END}\n"


def render(conversation: Conversation) -> list[Span]:
    """The text of a conversation, cut where the model takes over and where it stops."""
    spans: list[Span] = []
    messages = conversation.messages
    if conversation.tools:
        body = ""
        if messages[0]["role"] == "system":
            body, messages = messages[0]["content"] + "\n\n", messages[1:]
        declared = "".join(to_json(tool) + "\n" for tool in conversation.tools)
        spans.append(Span(_turn("system", f"{body}<tools>\n{declared}</tools>"), False))
    for position, message in enumerate(messages):
        if message["role"] == "assistant":
            learned = position == len(messages) - 1 or not conversation.learn_last_only
            spans.append(Span(f"{TURN_START}assistant\n", False))
            spans.append(Span(message.get("forced", ""), False))
            spans.append(
                Span(_assistant_text(message) + TURN_END, learned and not message.get("ignored"))
            )
            spans.append(Span("\n", False))
        elif message["role"] == "tool":
            body = f"<tool_response>\n{message['content']}\n</tool_response>"
            spans.append(Span(_turn("tool", body), False))
        else:
            spans.append(Span(_turn(message["role"], message["content"]), False))
    return [span for span in spans if span.text]


def answer_to(question: str, answer: str) -> list[Message]:
    """One question and its answer."""
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
