"""Items of a conversation as a chat's messages, and where each message came from.

Thoughts, a message and the calls behind it are one answer of the model and so one message of a
chat. Nothing is added to what was said, and what a chat has no place for is refused by its
place in the client's request.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from helexa.protocol.errors import RequestRejected
from helexa.protocol.openai.responses import Item, Part

ROLES: Final = ("user", "assistant", "system", "developer")
_TEXTS: Final = frozenset(("input_text", "output_text", "text"))


@dataclass(slots=True)
class Origin:
    """Of one message: the client's names of what became its parts."""

    content: str
    thoughts: str = ""
    calls: list[str] = field(default_factory=list)
    is_output: bool = False
    """Of a function: its content is the item's `output`."""
    is_opaque: bool = False
    """The name stands for the whole message: a text, or what an earlier response holds."""


@dataclass(slots=True)
class Messages:
    """Of a chat, with an origin for each."""

    chat: list[dict[str, Any]] = field(default_factory=list)
    origins: list[Origin] = field(default_factory=list)
    _calls: set[str] = field(default_factory=set)
    """The ids of the calls so far."""
    _open: bool = False
    """Whether the last message may still get its content and its calls."""

    def instruct(self, instructions: str) -> None:
        self._add(
            {"role": "system", "content": instructions}, Origin("instructions", is_opaque=True)
        )

    def say(self, text: str) -> None:
        self._add({"role": "user", "content": text}, Origin("input", is_opaque=True))

    def add(self, items: Iterable[Item], *, earlier: bool = False) -> None:
        """`earlier`: of a response before this one. Raises RequestRejected."""
        for index, item in enumerate(items):
            at = "previous_response_id" if earlier else f"input[{index}]"
            match item.kind:
                case "message":
                    self._message(item, at, earlier)
                case "reasoning":
                    self._thoughts(item, at, earlier)
                case "function_call":
                    self._call(item, at, earlier)
                case "function_call_output":
                    self._output(item, at, earlier)
                case "item_reference" if item.id is not None:
                    raise refused(f"{at}.id", f"There is no item {item.id[:80]!r}.")
                case "item_reference":
                    raise refused(
                        f"{at}.type", "An item has a `type`, or a `role` and is a message."
                    )
                case kind:
                    raise refused(
                        f"{at}.type",
                        f"`{at}.type` is {kind[:60]!r}; items here are `message`, `reasoning`, "
                        "`function_call`, `function_call_output` and `item_reference`.",
                    )

    def _add(self, message: dict[str, Any], origin: Origin, *, is_open: bool = False) -> None:
        self.chat.append(message)
        self.origins.append(origin)
        self._open = is_open

    def _message(self, item: Item, at: str, earlier: bool) -> None:
        if item.role not in ROLES:
            raise refused(f"{at}.role", f"`{at}.role` is one of {', '.join(ROLES)}.")
        if item.content is None:
            raise refused(f"{at}.content", f"`{at}.content` is missing.")
        content = _content(item.content, f"{at}.content")
        if item.role != "assistant":
            self._add({"role": item.role, "content": content}, Origin(at, is_opaque=earlier))
            return
        last = self.chat[-1] if self._open else None
        if last is not None and last["content"] is None and "tool_calls" not in last:
            last["content"] = content
            self.origins[-1].content = at
        else:
            self._add(
                {"role": "assistant", "content": content},
                Origin(at, is_opaque=earlier),
                is_open=True,
            )

    def _thoughts(self, item: Item, at: str, earlier: bool) -> None:
        said = item.content or item.summary or []
        thoughts = said if isinstance(said, str) else "\n\n".join(part.text or "" for part in said)
        if not thoughts:
            if item.encrypted_content:
                raise refused(
                    f"{at}.encrypted_content",
                    f"`{at}.encrypted_content` is sealed for another server; send `content`.",
                )
            return
        message = {"role": "assistant", "content": None, "reasoning_content": thoughts}
        self._add(message, Origin(at, thoughts=at, is_opaque=earlier), is_open=True)

    def _call(self, item: Item, at: str, earlier: bool) -> None:
        call_id = _needed(item.call_id, f"{at}.call_id")
        call = {
            "id": call_id,
            "type": "function",
            "function": {
                "name": _needed(item.name, f"{at}.name"),
                "arguments": _needed(item.arguments, f"{at}.arguments"),
            },
        }
        if not self._open:
            self._add(
                {"role": "assistant", "content": None},
                Origin(at, is_opaque=earlier),
                is_open=True,
            )
        self.chat[-1].setdefault("tool_calls", []).append(call)
        self._calls.add(call_id)
        self.origins[-1].calls.append(at)

    def _output(self, item: Item, at: str, earlier: bool) -> None:
        if item.output is None:
            raise refused(f"{at}.output", f"`{at}.output` is missing.")
        call_id = _needed(item.call_id, f"{at}.call_id")
        message = {
            "role": "tool",
            "tool_call_id": call_id,
            "content": _content(item.output, f"{at}.output"),
        }
        # An earlier response is what it was.
        if call_id not in self._calls and not earlier:
            raise refused(f"{at}.call_id", f"No call before `{at}` has the id {call_id[:80]!r}.")
        self._add(message, Origin(at, is_output=True, is_opaque=earlier))

    def closed(self) -> list[dict[str, Any]]:
        """The messages; an answer that ended in its thoughts has said nothing."""
        for one in self.chat:
            if one["content"] is None and "tool_calls" not in one:
                one["content"] = ""
        return self.chat


def _content(content: str | Sequence[Part], at: str) -> str | list[dict[str, Any]]:
    if isinstance(content, str):
        return content
    # Templates for text alone know a text; several parts stay several.
    if len(content) == 1 and content[0].type in _TEXTS and content[0].text is not None:
        return content[0].text
    if len(content) == 1 and content[0].type == "refusal" and content[0].refusal is not None:
        return content[0].refusal
    return [_part(part, f"{at}[{index}]") for index, part in enumerate(content)]


def _part(part: Part, at: str) -> dict[str, Any]:
    if part.type in _TEXTS:
        return {"type": "text", "text": _needed(part.text, f"{at}.text")}
    if part.type == "refusal":
        # It is what the model said, and no engine reads such a part of a chat.
        return {"type": "text", "text": _needed(part.refusal, f"{at}.refusal")}
    if part.type == "input_image":
        if part.file_id is not None:
            raise refused(
                f"{at}.file_id", f"`{at}.file_id`: there are no files here; send `image_url`."
            )
        url = {"url": _needed(part.image_url, f"{at}.image_url")}
        if part.detail is not None:
            url["detail"] = part.detail
        return {"type": "image_url", "image_url": url}
    if part.type == "input_audio" and part.input_audio is not None:
        return {"type": "input_audio", "input_audio": part.input_audio}
    raise refused(
        f"{at}.type",
        f"`{at}.type` is {part.type[:60]!r}; parts here are `input_text`, `input_image`, "
        "`input_audio`, `output_text` and `refusal`.",
    )


def _needed(value: str | None, field: str) -> str:
    if value is None:
        raise refused(field, f"`{field}` is missing.")
    return value


def refused(field: str, reason: str) -> RequestRejected:
    """`reason` is a sentence that names the field."""
    return RequestRejected(reason, field)
