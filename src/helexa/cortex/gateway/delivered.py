"""What one target's answer brought a client so far, kept as it passed and read only when needed.

Nearly every stream ends well, and then nobody asks. So the way of a chunk pays for a
reference in a list; past a block the list is packed, since the events of a stream are alike
but for their words and shrink to a twentieth.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import msgspec

from helexa.protocol import sse
from helexa.protocol.continuation import Delivered, DeliveredCall, DeliveredChoice

BLOCK_BYTES: Final = 64 * 1024
"""Kept as it came; some three hundred tokens. The packing of one block takes a fraction of a
millisecond."""
_LEVEL: Final = 1


@dataclass(slots=True)
class Shelf:
    """The room for what all streams keep beside their last block."""

    stream_bytes_max: int
    """Of one answer, as events."""
    bytes_max: int
    """Of all, packed."""
    bytes_held: int = 0


class Record:
    """`keep` what went to the client. What outgrows its bounds is forgotten: `is_whole` tells."""

    __slots__ = ("_blocks", "_chunks", "_fresh", "_packed", "_shelf", "_total", "is_whole")

    def __init__(self, shelf: Shelf) -> None:
        self.is_whole = True
        self._shelf = shelf
        self._chunks: list[bytes] = []
        self._fresh = 0
        self._blocks: list[bytes] = []
        self._packed = 0
        self._total = 0

    @property
    def total_bytes(self) -> int:
        """Of the events kept, unpacked."""
        return self._total + self._fresh

    def keep(self, data: bytes) -> None:
        self._chunks.append(data)
        self._fresh += len(data)
        if self._fresh > BLOCK_BYTES:
            self._pack()

    def close(self) -> None:
        """Give the room back. Idempotent."""
        self._shelf.bytes_held -= self._packed
        self._packed = 0
        self._blocks.clear()
        self._chunks.clear()
        self._fresh = 0

    def read(self) -> bytes:
        """All that was kept, if `is_whole`."""
        return b"".join((*map(zlib.decompress, self._blocks), *self._chunks))

    def _pack(self) -> None:
        shelf = self._shelf
        self._total += self._fresh
        if self.is_whole:
            block = zlib.compress(b"".join(self._chunks), _LEVEL)
            held = shelf.bytes_held + len(block)
            if self._total <= shelf.stream_bytes_max and held <= shelf.bytes_max:
                shelf.bytes_held = held
                self._packed += len(block)
                self._blocks.append(block)
            else:
                self.is_whole = False
        if not self.is_whole:
            shelf.bytes_held -= self._packed
            self._packed = 0
            self._blocks.clear()
        self._chunks.clear()
        self._fresh = 0


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class _Call(msgspec.Struct):
    index: int = 0
    id: str | None = None
    function: _Function | None = None


class _Delta(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[_Call] | None = None


class _Choice(msgspec.Struct):
    index: int = 0
    delta: _Delta | None = None
    text: str | None = None
    finish_reason: str | None = None


class _Chunk(msgspec.Struct):
    id: str = ""
    created: int = 0
    model: str = ""
    system_fingerprint: str | None = None
    choices: list[_Choice] | None = None


_decoder: Final = msgspec.json.Decoder(_Chunk)


@dataclass(frozen=True, slots=True)
class Told:
    """What a client was told by one target."""

    delivered: Delivered | None
    """None before the first event of an answer: nothing binds whoever answers now."""
    pieces: int = 0
    """In how many pieces it came: about as many tokens."""


@dataclass(slots=True)
class _Growing:
    content: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    calls: dict[int, list[str]] = field(default_factory=dict)
    """By index: id, name, arguments."""
    finish_reason: str = ""


class Unreadable(Exception):
    """Events that are no answer of a surface that can be continued."""


def told(raw: bytes) -> Told:
    """What these events say. Raises Unreadable."""
    first: _Chunk | None = None
    growing: dict[int, _Growing] = {}
    pieces = 0
    for data in _payloads(raw):
        try:
            chunk = _decoder.decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise Unreadable("an event that is no chunk of an answer") from error
        if chunk.choices is None:
            raise Unreadable("an event without choices")
        first = first or chunk
        for choice in chunk.choices:
            one = growing.setdefault(choice.index, _Growing())
            pieces += _add(one, choice)
    if first is None:
        return Told(None)
    return Told(
        Delivered(
            id=first.id,
            created=first.created,
            model=first.model,
            fingerprint=first.system_fingerprint or "",
            choices=tuple(_choice(index, one) for index, one in sorted(growing.items())),
        ),
        pieces,
    )


def joined(before: Delivered | None, more: Delivered | None) -> Delivered | None:
    """What a client has by two targets, one after the other."""
    if before is None or more is None:
        return more if before is None else before
    choices = {one.index: one for one in before.choices}
    for one in more.choices:
        known = choices.get(one.index)
        choices[one.index] = one if known is None else _both(known, one)
    return msgspec.structs.replace(before, choices=tuple(one for _, one in sorted(choices.items())))


def is_complete(delivered: Delivered, choices: int) -> bool:
    """Whether every one of the choices that were asked for has come to its end."""
    ended = {one.index for one in delivered.choices if one.finish_reason}
    return ended.issuperset(range(choices))


def _payloads(raw: bytes) -> Iterator[bytes]:
    for event in sse.Splitter(event_bytes_max=len(raw) + 1).feed(raw):
        data = event[6:-2] if event.startswith(b"data: {") else sse.payload(event)
        if data and data != sse.DONE:
            yield data


def _add(one: _Growing, choice: _Choice) -> bool:
    """Add a chunk's part to a choice; whether there was anything of the answer in it."""
    said = False
    delta = choice.delta
    if choice.text:
        one.content.append(choice.text)
        said = True
    if delta is not None:
        if delta.content:
            one.content.append(delta.content)
            said = True
        if thinking := delta.reasoning_content or delta.reasoning:
            one.reasoning.append(thinking)
            said = True
        for call in delta.tool_calls or ():
            known = one.calls.setdefault(call.index, ["", "", ""])
            known[0] = known[0] or call.id or ""
            if call.function is not None:
                known[1] += call.function.name or ""
                known[2] += call.function.arguments or ""
            said = True
    one.finish_reason = choice.finish_reason or one.finish_reason
    return said


def _choice(index: int, one: _Growing) -> DeliveredChoice:
    return DeliveredChoice(
        index=index,
        content=tuple(one.content),
        reasoning=tuple(one.reasoning),
        tool_calls=tuple(
            DeliveredCall(index=number, id=id_, name=name, arguments=arguments)
            for number, (id_, name, arguments) in sorted(one.calls.items())
        ),
        finish_reason=one.finish_reason,
    )


def _both(before: DeliveredChoice, more: DeliveredChoice) -> DeliveredChoice:
    calls = {one.index: one for one in before.tool_calls}
    for one in more.tool_calls:
        known = calls.get(one.index)
        calls[one.index] = (
            one
            if known is None
            else msgspec.structs.replace(
                known,
                id=known.id or one.id,
                name=known.name + one.name,
                arguments=known.arguments + one.arguments,
            )
        )
    return DeliveredChoice(
        index=before.index,
        content=before.content + more.content,
        reasoning=before.reasoning + more.reasoning,
        tool_calls=tuple(one for _, one in sorted(calls.items())),
        finish_reason=more.finish_reason or before.finish_reason,
    )
