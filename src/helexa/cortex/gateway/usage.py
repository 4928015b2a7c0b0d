"""Token counts out of a stream that passes by, and out of the client's sight if it did not ask.

A neuron always sends usage to a gateway. Nearly every chunk has none and is
passed on untouched after one substring test; a chunk that ends inside an event
waits for the rest of it, so that the client's stream always ends where an event
does, also when a neuron dies.
"""

from __future__ import annotations

from typing import Final

import msgspec

from helexa.protocol import sse
from helexa.protocol.openai import usage as counts
from helexa.protocol.work import Usage

_KEY: Final = b'"usage"'

_fields: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_encode: Final = msgspec.json.Encoder().encode


class UsageTap:
    """`pass_on` every chunk; afterwards `usage` holds the last counts that passed.

    Raises sse.EventTooLong.
    """

    __slots__ = ("_holding", "_last", "_show", "_splitter", "usage")

    def __init__(self, *, show: bool) -> None:
        self.usage: Usage | None = None
        self._show = show
        self._splitter = sse.Splitter()
        self._holding = False
        self._last = b""

    @property
    def is_done(self) -> bool:
        """Whether the stream said that it is complete."""
        return b"[DONE]" in self._last

    @property
    def is_failed(self) -> bool:
        """Whether the stream said that it cannot go on."""
        return b'"error"' in self._last and not self.is_done

    def rest(self) -> bytes:
        """At the clean end of the stream: a last event without its empty line."""
        rest = self._splitter.rest
        self._last = rest or self._last
        return rest

    def pass_on(self, chunk: bytes) -> bytes:
        """What of this chunk, and of what was held back before it, goes to the client now."""
        if not self._holding and _KEY not in chunk and chunk.endswith(b"\n\n"):
            self._last = chunk
            return chunk
        events = self._splitter.feed(chunk)
        self._holding = bool(self._splitter.rest)
        if not events:
            return b""
        self._last = events[-1]
        return b"".join([self._tapped(event) if _KEY in event else event for event in events])

    def _tapped(self, event: bytes) -> bytes:
        data = sse.payload(event)
        found = counts.read(data)
        if found is not None:
            self.usage = found
        return event if self._show else _without_usage(event, data)


def _without_usage(event: bytes, data: bytes) -> bytes:
    try:
        fields = _fields.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return event  # Not ours to judge; the client sees what the engine said.
    if "usage" not in fields:
        return event
    choices = fields.get("choices")
    if choices is not None and bytes(choices).strip(b"[] \t\r\n") == b"" and _has_counts(fields):
        return b""
    del fields["usage"]
    return sse.event(_encode(fields))


def _has_counts(fields: dict[str, msgspec.Raw]) -> bool:
    """Whether `usage` is more than the null that OpenAI puts into every other chunk."""
    return bytes(fields["usage"]) != b"null"
