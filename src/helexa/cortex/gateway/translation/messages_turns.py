"""The turns of a Messages request as the messages of a chat, by Anthropic's rules for their order.

Turns of one role in a row are one turn. Results of tools come first in a user's turn, one for
each call of the turn before; in a chat each is a message of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any, Final, NamedTuple, TypeAlias, assert_never

from helexa.cortex.gateway.translation.messages_places import Place
from helexa.protocol.anthropic.blocks import (
    AnyBlock,
    Base64Source,
    Image,
    Text,
    Thinking,
    ToolResult,
    ToolUse,
)
from helexa.protocol.anthropic.reading import refused
from helexa.protocol.anthropic.requests import Turn

Json: TypeAlias = dict[str, Any]

_NAMED_MAX: Final = 3
"""Of the calls that a refusal lists."""


class _At(NamedTuple):
    block: AnyBlock
    place: str


class Turns:
    """Fill it once; then read `messages`, `places` and `is_prefilled`."""

    def __init__(self) -> None:
        self.messages: list[Json] = []
        self.places: list[Place] = []
        self.is_prefilled = False
        """Whether the last message is an assistant's that is to be gone on with."""
        self._called: dict[str, str] = {}
        """The calls that wait for their results, and where each is."""
        self._ids: set[str] = set()

    def system(self, said: str | list[Text] | None) -> None:
        """The system prompt, before all else."""
        if isinstance(said, list):
            self._say_texts("system", [_At(one, f"system.{at}") for at, one in enumerate(said)])
        elif said:
            self._put({"role": "system", "content": said}, Place("system"))

    def add(self, turns: Sequence[Turn]) -> None:
        """All turns of the request. Raises RequestRejected."""
        if not turns:
            raise refused("messages", "there must be at least one message")
        last = len(turns) - 1
        for role, group in groupby(enumerate(turns), key=lambda one: one[1].role):
            blocks: list[_At] = []
            for at, turn in group:
                may_be_empty = role == "assistant" and at == last
                blocks += _blocks(turn, f"messages.{at}", may_be_empty=may_be_empty)
                is_last = at == last
            if role == "user":
                self._user(blocks)
            else:
                self._check_answered()
                if role == "assistant":
                    self._assistant(blocks, is_last=is_last)
                else:
                    self._say_texts(role, blocks)
        self._check_answered()

    def _user(self, blocks: Sequence[_At]) -> None:
        results = 0
        while results < len(blocks) and isinstance(blocks[results].block, ToolResult):
            self._result(blocks[results])
            results += 1
        rest = blocks[results:]
        self._check_answered()
        parts = []
        for block, place in rest:
            match block:
                case Text():
                    parts.append(_text_part(block, place))
                case Image():
                    parts.append(_image_part(block))
                case ToolResult():
                    raise refused(place, "results of tools come first in their message")
                case ToolUse() | Thinking():
                    raise refused(place, "it is the assistant's, not the user's")
                case _:
                    assert_never(block)
        if parts:
            self._say("user", parts, [one.place for one in rest])

    def _result(self, at: _At) -> None:
        block, place = at
        assert isinstance(block, ToolResult)
        if self._called.pop(block.tool_use_id, None) is None:
            raise refused(
                f"{place}.tool_use_id",
                f"{block.tool_use_id[:80]!r} is no call of the message before that waits for it",
            )
        message: Json = {"role": "tool", "tool_call_id": block.tool_use_id}
        said = block.content
        if not isinstance(said, list):
            self._put({**message, "content": said or ""}, Place(place))
            return
        inner = [f"{place}.content.{number}" for number in range(len(said))]
        parts = [
            # A tool may have nothing to say.
            {"type": "text", "text": one.text} if isinstance(one, Text) else _image_part(one)
            for one in said
        ]
        self._put({**message, "content": _content(parts)}, Place(place, tuple(inner)))

    def _assistant(self, blocks: Sequence[_At], *, is_last: bool) -> None:
        texts: list[str] = []
        thoughts: list[str] = []
        calls: list[Json] = []
        for block, place in blocks:
            match block:
                case Text():
                    _check_text(block, place)
                    texts.append(block.text)
                case Thinking():
                    thoughts.append(block.thinking)
                case ToolUse():
                    calls.append(self._call(block, place))
                case ToolResult() | Image():
                    raise refused(place, "it is the user's, not the assistant's")
                case _:
                    assert_never(block)
        text = "".join(texts)
        if is_last and not calls and not self._prefill(text, blocks):
            return
        message: Json = {"role": "assistant", "content": text if text or not calls else None}
        if thought := "".join(thoughts):
            message["reasoning_content"] = thought
        if calls:
            message["tool_calls"] = calls
        self._put(message, Place(blocks[0].place if blocks else "messages"))

    def _prefill(self, text: str, blocks: Sequence[_At]) -> bool:
        """Whether there is something to go on with."""
        if not text and not blocks:
            return False
        place = blocks[-1].place
        if isinstance(blocks[-1].block, Thinking):
            raise refused(place, "a last message of the assistant's cannot end with thoughts")
        if text[-1:].isspace():
            raise refused(place, "a last message of the assistant's cannot end with white space")
        self.is_prefilled = bool(text)
        return self.is_prefilled

    def _call(self, block: ToolUse, place: str) -> Json:
        if block.id in self._ids:
            raise refused(f"{place}.id", f"{block.id[:80]!r} is the id of two calls")
        if bytes(block.input)[:1] != b"{":
            raise refused(f"{place}.input", "it is an object")
        self._ids.add(block.id)
        self._called[block.id] = place
        function = {"name": block.name, "arguments": bytes(block.input).decode()}
        return {"id": block.id, "type": "function", "function": function}

    def _check_answered(self) -> None:
        """Before anything but a result comes after calls."""
        if self._called:
            ids = ", ".join(repr(one[:80]) for one in list(self._called)[:_NAMED_MAX])
            place = next(iter(self._called.values()))
            raise refused(place, f"no result of {ids} comes first in the next message")

    def _say_texts(self, role: str, blocks: Sequence[_At]) -> None:
        parts = []
        for block, place in blocks:
            if not isinstance(block, Text):
                raise refused(place, "only text can be in a message of the system's")
            parts.append(_text_part(block, place))
        if parts:
            self._say(role, parts, [one.place for one in blocks])

    def _say(self, role: str, parts: list[Json], places: list[str]) -> None:
        self._put({"role": role, "content": _content(parts)}, Place(places[0], tuple(places)))

    def _put(self, message: Json, place: Place) -> None:
        self.messages.append(message)
        self.places.append(place)


def _blocks(turn: Turn, place: str, *, may_be_empty: bool) -> list[_At]:
    said = turn.content
    if isinstance(said, str):
        if said:
            return [_At(Text(text=said), f"{place}.content")]
    elif said:
        return [_At(one, f"{place}.content.{at}") for at, one in enumerate(said)]
    if may_be_empty:
        return []
    raise refused(f"{place}.content", "it is empty")


def _check_text(block: Text, place: str) -> None:
    if block.citations:
        raise refused(f"{place}.citations", "nothing is cited here")


def _text_part(block: Text, place: str) -> Json:
    _check_text(block, place)
    if not block.text or block.text.isspace():
        raise refused(place, "a text has to have more than white space")
    return {"type": "text", "text": block.text}


def _image_part(block: Image) -> Json:
    source = block.source
    if isinstance(source, Base64Source):
        url = f"data:{source.media_type};base64,{source.data}"
    else:
        url = source.url
    return {"type": "image_url", "image_url": {"url": url}}


def _content(parts: list[Json]) -> str | list[Json]:
    """One text alone is a text: to Anthropic both are the same, and to every template one is."""
    if not parts:
        return ""
    if len(parts) == 1 and parts[0]["type"] == "text":
        text: str = parts[0]["text"]
        return text
    return parts
