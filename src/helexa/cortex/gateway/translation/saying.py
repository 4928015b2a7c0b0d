"""What a model says at the moment, as an item of a response: its events, and the item at the end.

Thoughts, a text, a refusal and a call differ in names and in where their text stands, and in
nothing else: a kind is a record of those.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from helexa.protocol.openai.responses import (
    FunctionCall,
    LogprobSaid,
    Message,
    OutputItem,
    OutputText,
    Reasoning,
    ReasoningText,
    Refusal,
    SummaryText,
)

_encode: Final = msgspec.json.Encoder().encode


class Numbered:
    """Events in their order, from 0."""

    __slots__ = ("next",)

    def __init__(self) -> None:
        self.next = 0

    def event(self, name: str, /, **fields: Any) -> bytes:
        data = _encode({"type": name, "sequence_number": self.next, **fields})
        self.next += 1
        return b"event: %s\ndata: %s\n\n" % (name.encode(), data)

    def delta(self, name: bytes, place: bytes, piece: str, more: bytes) -> bytes:
        """`event` for what a stream consists of: `place` and `more` are JSON already."""
        number = self.next
        self.next = number + 1
        return b'event: %s\ndata: {"type":"%s","sequence_number":%d,%s"delta":%s%s}\n\n' % (
            name,
            name,
            number,
            place,
            _encode(piece),
            more,
        )


@dataclass(frozen=True, slots=True)
class Kind:
    """How one is said."""

    id_start: str
    events: str
    """What the names of its delta and of its end begin with."""
    text: str = "text"
    """The member that has the whole of it."""
    part: str = "content_part"
    """What the events of its part are named by; empty where the item has no parts."""
    index: str = "content_index"
    has_logprobs: bool = False


TEXT: Final = Kind("msg", "response.output_text", has_logprobs=True)
REFUSAL: Final = Kind("msg", "response.refusal", text="refusal")
THOUGHTS: Final = Kind("rs", "response.reasoning_text")
SUMMARY: Final = Kind(
    "rs", "response.reasoning_summary_text", part="reasoning_summary_part", index="summary_index"
)
CALL: Final = Kind("fc", "response.function_call_arguments", text="arguments", part="")


class Saying:
    """One item, from its first piece on."""

    __slots__ = ("_delta", "_events", "_logprobs", "_more", "_pieces", "_place", "_where",
                 "item", "kind", "number")  # fmt: skip

    def __init__(
        self, kind: Kind, item: OutputItem, events: Numbered, at: int, number: int = -1
    ) -> None:
        """`at` is its place in the output; `number` that of a call in the chat's message."""
        self.kind = kind
        self.item = item
        self.number = number
        self._events = events
        self._pieces: list[str] = []
        self._logprobs: list[LogprobSaid] = []
        self._where: dict[str, Any] = {"item_id": item.id, "output_index": at}
        if kind.part:
            self._where[kind.index] = 0
        self._place = _encode(self._where)[1:-1] + b","
        self._delta = f"{kind.events}.delta".encode()
        self._more = b',"logprobs":[]' if kind.has_logprobs else b""

    def begin(self) -> bytes:
        at, kind = self._where["output_index"], self.kind
        said = self._events.event("response.output_item.added", output_index=at, item=self.item)
        if kind.part:
            part = self._part("")
            said += self._events.event(f"response.{kind.part}.added", **self._where, part=part)
        return said

    def add(self, piece: str, logprobs: Sequence[LogprobSaid] = ()) -> bytes:
        self._pieces.append(piece)
        more = self._more
        if logprobs and self.kind.has_logprobs:
            self._logprobs += logprobs
            more = b',"logprobs":' + _encode(logprobs)
        return self._events.delta(self._delta, self._place, piece, more)

    def end(self, status: str) -> bytes:
        """The events of its end; the item is whole then."""
        kind, event = self.kind, self._events.event
        text = "".join(self._pieces)
        more: dict[str, Any] = {kind.text: text}
        if kind.has_logprobs:
            more["logprobs"] = self._logprobs
        elif isinstance(self.item, FunctionCall):
            more["name"] = self.item.name
        said = event(f"{kind.events}.done", **self._where, **more)
        part = self.settle(status)
        if kind.part:
            said += event(f"response.{kind.part}.done", **self._where, part=part)
        at = self._where["output_index"]
        return said + event("response.output_item.done", output_index=at, item=self.item)

    def settle(self, status: str) -> Any:
        """Put what was said into the item; the part that holds it, where there is one."""
        text, item = "".join(self._pieces), self.item
        part = self._part(text)
        item.status = status
        if isinstance(item, FunctionCall):
            item.arguments = text
        elif isinstance(item, Message) or self.kind is not SUMMARY:
            item.content = [part]
        else:
            item.summary = [part]
        return part

    def _part(self, text: str) -> Any:
        match self.kind.events:
            case TEXT.events:
                return OutputText(logprobs=self._logprobs, text=text)
            case REFUSAL.events:
                return Refusal(text)
            case THOUGHTS.events:
                return ReasoningText(text)
            case SUMMARY.events:
                return SummaryText(text)


def item_of(kind: Kind, item_id: str) -> OutputItem:
    """An empty one of any kind but a call."""
    return Message(id=item_id) if kind.id_start == "msg" else Reasoning(id=item_id)
