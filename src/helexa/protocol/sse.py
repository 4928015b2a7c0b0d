"""Server-sent events, cut out of bytes that arrive in any pieces. Pure: bytes in, events out.

An event is kept as the bytes that it came in, its empty line included, so that
what is passed on is what was received. Only whole events come out; what is not
yet one waits inside, and no more than `event_bytes_max` of it.
"""

from __future__ import annotations

import re
from typing import Final

EVENT_BYTES_MAX: Final = 16 * 1024 * 1024
"""An event may carry a picture or ten thousand log probabilities; an endless one is an attack."""

DONE: Final = b"[DONE]"

_END: Final = re.compile(rb"\r\n\r\n|\n\n|\r\r")
_LINE_END: Final = re.compile(rb"\r\n|\n|\r")


class EventTooLong(Exception):
    """More bytes than an event may have, and still no end of it."""


class Splitter:
    """`feed` bytes, get whole events. `rest` is what waits for its end."""

    def __init__(self, *, event_bytes_max: int = EVENT_BYTES_MAX) -> None:
        self._event_bytes_max = event_bytes_max
        self._held = bytearray()
        self._looked = 0

    @property
    def rest(self) -> bytes:
        return bytes(self._held)

    def feed(self, data: bytes) -> list[bytes]:
        """The events that `data` completed, in order. Raises EventTooLong."""
        held = self._held
        held += data
        events = []
        start = 0
        # The end of an event may lie across the border: look a little back.
        position = max(self._looked - 3, 0)
        while (end := _END.search(held, position)) is not None:
            events.append(bytes(held[start : end.end()]))
            start = position = end.end()
        if start:
            del held[:start]
        self._looked = len(held)
        if self._looked > self._event_bytes_max:
            raise EventTooLong(f"an event of more than {self._event_bytes_max} bytes")
        return events


def is_whole(data: bytes) -> bool:
    """Whether `data` ends where an event ends."""
    return data.endswith((b"\n\n", b"\r\n\r\n", b"\r\r"))


def payload(event: bytes) -> bytes:
    """The joined `data:` lines of one event; empty for a comment."""
    lines = []
    for line in _LINE_END.split(event):
        if line.startswith(b"data:"):
            value = line[5:]
            lines.append(value.removeprefix(b" "))
    return b"\n".join(lines)


def event(data: bytes) -> bytes:
    """One event that carries one line of data."""
    return b"data: " + data + b"\n\n"


def comment(text: bytes) -> bytes:
    """A line that clients skip; it only shows that somebody is there."""
    return b": " + text + b"\n\n"
