"""When an answer was begun, the same in all events of its stream, as OpenAI has it.

llama.cpp says of each event when it wrote that one.
"""

from __future__ import annotations

import re
from typing import Final

_NAME: Final = b'"created"'
# In a text the quotation marks are escaped, so this is a member that has a number.
_CREATED: Final = re.compile(rb'("created"[ \t]*:[ \t]*)([0-9]+)')


class Moment:
    """Of one stream. All else of its events stays as it is, byte for byte."""

    __slots__ = ("_instead", "_later", "_member", "_number")

    def __init__(self) -> None:
        self._number = b""
        self._member = b""
        """As the first event has it, up to the byte behind the number."""
        self._later = self._instead = b""
        """The same of the last other one, and what is written in its place."""

    def kept(self, events: bytes) -> bytes:
        """These whole events, with the moment of the first one that had any."""
        if not self._number:
            if (found := _CREATED.search(events)) is None:
                return events
            self._number = found[2]
            self._member = events[found.start() : found.end() + 1]
        # Searches for a few bytes, in nearly all events: nothing is read.
        named = events.count(_NAME)
        if events.count(self._member) == named:
            return events
        if self._later and events.count(self._later) == named == events.count(b"\n\n"):
            return events.replace(self._later, self._instead)
        return b"\n\n".join([self._told(one) for one in events.split(b"\n\n")])

    def _told(self, event: bytes) -> bytes:
        found = list(_CREATED.finditer(event))
        # Of several, one is of something else inside.
        if len(found) != 1 or found[0][2] == self._number:
            return event
        start, end = found[0].span()
        behind = event[end : end + 1]
        self._later = event[start:end] + behind
        self._instead = found[0][1] + self._number + behind
        return event[:start] + self._instead + event[end + 1 :]
