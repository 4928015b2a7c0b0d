"""Token counts out of a stream that passes by, and out of the client's sight if it did not ask.

A neuron always sends usage to a gateway. Nearly every chunk has none and is
passed on untouched after one substring test; a chunk that ends inside an event
waits for the rest of it, so that the client's stream always ends where an event
does, also when a neuron dies. An event that says that the answer cannot go on is
kept back: another target may go on with it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from helexa.protocol import sse
from helexa.protocol.continuation import RESUMED_KEY
from helexa.protocol.errors import ErrorBody, ErrorEnvelope
from helexa.protocol.openai import usage as counts
from helexa.protocol.work import Usage

_KEY: Final = b'"usage"'
_ERROR: Final = b'"error"'

_LAST_WORDS: Final = (b"}}\n\n", b"} }\n\n", b"[DONE]\n\n")
"""How a chunk ends that has an error: nothing but the mark of the end comes after one. This is
looked for first because a search through each chunk would cost several times as much."""
_DONES: Final = (b"data: [DONE]", b"data:[DONE]")
"""No event of JSON ends like this, whatever its text is."""

_envelope: Final = msgspec.json.Decoder(ErrorEnvelope)
_fields: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_encode: Final = msgspec.json.Encoder().encode


class UsageTap:
    """`pass_on` every chunk; afterwards `usage` holds the last counts that passed.

    Raises sse.EventTooLong.
    """

    __slots__ = ("_holding", "_last", "_show", "_splitter", "error", "error_event", "usage")

    def __init__(self, *, show: bool) -> None:
        self.usage: Usage | None = None
        self.error: ErrorBody | None = None
        """What the stream said when it could not go on; nothing that follows is passed on."""
        self.error_event = b""
        self._show = show
        self._splitter = sse.Splitter()
        self._holding = False
        self._last = b""

    @property
    def is_done(self) -> bool:
        """Whether the stream said that it is complete."""
        return self.error is None and self._last.rstrip().endswith(_DONES)

    def rest(self) -> bytes:
        """At the clean end of the stream: a last event without its empty line."""
        rest = self._splitter.rest
        if not rest:
            return b""
        self._last = rest
        return self._looked_at(rest)

    def passes(self, chunk: bytes) -> bool:
        """Whether this chunk goes on as it is, which then has to be done; else it is to be given
        to `pass_on`.
        """
        if (
            not self._holding
            # `rfind` is several times as fast as `in`, which pays for a view of both first.
            and chunk.rfind(_KEY) < 0
            and chunk.endswith(b"\n\n")
            and not (chunk.endswith(_LAST_WORDS) and _ERROR in chunk)
        ):
            self._last = chunk
            return True
        return False

    def pass_on(self, chunk: bytes) -> bytes:
        """What of this chunk, and of what was held back before it, goes to the client now."""
        if self.passes(chunk):
            return chunk
        events = self._splitter.feed(chunk)
        self._holding = bool(self._splitter.rest)
        if not events:
            return b""
        self._last = events[-1]
        return b"".join([self._looked_at(event) for event in events])

    def _looked_at(self, event: bytes) -> bytes:
        if self.error is not None:
            return b""
        if _ERROR in event and self._fails(event):
            return b""
        return self._tapped(event) if _KEY in event else event

    def _fails(self, event: bytes) -> bool:
        try:
            self.error = _envelope.decode(sse.payload(event)).error
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return False  # The name of something else.
        self.error_event = event
        return True

    def _tapped(self, event: bytes) -> bytes:
        data = sse.payload(event)
        found = counts.read(data)
        if found is not None:
            self.usage = found
        return event if self._show else _without_usage(event, data)


class ResumedTap(UsageTap):
    """Of an answer that goes on from what another target delivered.

    `resumed` is how many of its tokens those were, by who goes on; `foreign` makes of it how many
    were delivered before another cortex handed the answer over to this one, which it is to see.
    """

    __slots__ = ("_foreign", "resumed")

    def __init__(self, *, show: bool, foreign: Callable[[int], int] | None) -> None:
        super().__init__(show=show)
        self.resumed = 0
        self._foreign = foreign

    def _tapped(self, event: bytes) -> bytes:
        passed = super()._tapped(event)
        found = counts.resumed(sse.payload(event))
        if found is None:
            return passed
        self.resumed = found
        return _with_resumed(passed, self._foreign(found) if self._foreign else 0)


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


def _with_resumed(event: bytes, resumed: int) -> bytes:
    """The counts as if one target had made all, or all but what was delivered elsewhere."""
    data = sse.payload(event)
    if _KEY not in data:
        return event
    try:
        fields = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
        usage = msgspec.json.decode(fields["usage"], type=dict[str, Any])
    except (msgspec.MsgspecError, KeyError, UnicodeDecodeError, RecursionError):
        return event
    usage.pop(RESUMED_KEY, None)
    if resumed:
        usage[RESUMED_KEY] = resumed
    fields["usage"] = msgspec.Raw(_encode(usage))
    return sse.event(_encode(fields))
