"""A runtime's event stream on its way to a client, checked without being parsed.

Nearly every read holds whole events of one known form, and those bytes go on as
they are after a few substring tests. The rest - usage, the end, anything odd -
is looked at one event at a time. Only whole events leave, so that an error can
always be put behind the last one.

The engine is always asked for usage; it counts per choice. Here the counts are
added up, held against what is possible, and given once, at the end, to those who
asked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

import msgspec

from helexa.neuron.serving import counting
from helexa.protocol.continuation import RESUMED_KEY
from helexa.protocol.errors import HelexaError, RuntimeMalformed
from helexa.protocol.work import Usage
from helexa.runtime.contract import Rewrite

EVENT_BYTES_MAX: Final = 4 * 1024 * 1024

_START: Final = b"data: {"
_BETWEEN: Final = b"}\n\ndata: {"
_STOP: Final = b"}\n\n"
_DONE: Final = b"data: [DONE]\n\n"
_SEPARATOR: Final = re.compile(rb"\r?\n\r?\n")

_OWN: Final = ("usage", "timings")
"""Of an engine's counts. The second is llama.cpp's, about its own clocks and caches."""
_FINISH: Final = re.compile(rb'"finish_reason"\s*:\s*"')
"""A quotation mark inside a text is escaped, so this is a member that says a reason."""

_NOTHING: Final = Usage()


class _Choice(msgspec.Struct):
    index: int = 0


_choices: Final = msgspec.json.Decoder(list[_Choice] | None)
_fields: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_encode: Final = msgspec.json.Encoder().encode

ReadUsage: TypeAlias = Callable[[bytes], Usage | None]
ReadRefusal: TypeAlias = Callable[[bytes], HelexaError]


class Relay:
    """Feed it what the child sends; `done` says that the child has said all.

    `failure` is set by what is no event stream, or by what `refusal` makes of an
    error event; what came before it is still good.
    """

    def __init__(
        self,
        *,
        wants_usage: bool,
        bounds: counting.Bounds,
        usage: ReadUsage,
        refusal: ReadRefusal,
        rewrite: Rewrite | None = None,
    ) -> None:
        self.done = False
        self.failure: HelexaError | None = None
        self.fault: counting.Fault | None = None
        """Of its counts, known once it is done."""
        self._final: list[Usage] = []
        self._running: dict[int, Usage] = {}
        """What was last said of each choice, by its index."""
        self._wants_usage = wants_usage
        self._bounds = bounds
        self._usage = usage
        self._refusal = refusal
        self._rewrite = rewrite
        self._rest = b""
        self._finished = 0
        self._last_usage: dict[str, msgspec.Raw] | None = None
        self._is_unreadable = False
        """Something was said as usage that is no counts."""

    def total(self) -> Usage | None:
        """What the whole request used; None where the engine said nothing."""
        # What comes with a piece of the answer is how it stood there, if more is said at the end.
        counts = self._final or self._of_choices()
        used, self.fault = counting.settled(counts, self._bounds)
        if self._is_unreadable:
            self.fault = counting.Fault.WRONG
        return used

    def _of_choices(self) -> list[Usage]:
        if not self._running:
            return []
        return [self._running.get(index, _NOTHING) for index in range(max(self._running) + 1)]

    def shown(self) -> dict[str, Any]:
        """The `usage` of the whole request, as its client sees it."""
        return as_shown(self.total(), self.fault)

    def feed(self, data: bytes) -> bytes:
        """What may go to the client now."""
        if self._rest:
            data = self._rest + data
            self._rest = b""
        if self._rewrite is None and _is_plain(data):
            self._finished += len(_FINISH.findall(data))
            return data
        *events, self._rest = _SEPARATOR.split(data)
        if len(self._rest) > EVENT_BYTES_MAX:
            events.append(b"an event without an end")
        passed = []
        for event in events:
            try:
                passed.append(self._judged(event))
            except HelexaError as error:
                self.failure = error
                break
        return b"".join(passed)

    def ended(self) -> bytes:
        """The engine ended its stream in good order; what may go to the client now.

        Not all say [DONE], nor end their last event: that every choice came to its finish
        shows as well that nothing is missing. Where it does not, `done` stays False.
        """
        passed = self.feed(b"\n\n") if self._rest.strip() else b""
        expected = self._bounds.choices * self._bounds.prompts
        if not self.done and self.failure is None and self._finished >= expected:
            try:
                passed += self._end()
            except HelexaError as error:
                self.failure = error
        return passed

    def _end(self) -> bytes:
        self.done = True
        left = self._rewrite.end() if self._rewrite is not None else ()
        return b"".join([self._passed(one) for one in left]) + self._usage_event() + _DONE

    def _judged(self, event: bytes) -> bytes:
        payload = payload_of(event)
        self._finished += len(_FINISH.findall(payload))
        if self.done or not payload or payload == b"null":
            # Comments; and llama.cpp begins some answers with an event that says null.
            return b""
        if payload == b"[DONE]":
            if not self._finished:
                raise RuntimeMalformed(reason="The runtime's answer has no end, or is empty.")
            return self._end()
        if self._rewrite is None:
            return self._passed(payload)
        return b"".join([self._passed(one) for one in self._rewrite.event(payload)])

    def _passed(self, payload: bytes) -> bytes:
        fields = _decoded(payload)
        if "error" in fields:
            raise self._refusal(payload)
        if "usage" not in fields:
            return b"data: " + payload + b"\n\n"
        return self._counted(payload, fields)

    def _counted(self, payload: bytes, fields: dict[str, msgspec.Raw]) -> bytes:
        counted = self._usage(payload)
        if counted is None:
            if is_said(fields["usage"]):
                return self._unread(fields)
            # `"usage": null`, as servers write it that were asked for usage.
            kept = fields if self._wants_usage else _without(fields, _OWN[:1])
            return b"data: " + _encode(kept) + b"\n\n"
        self._last_usage = fields
        if bytes(fields.get("choices", b"[]")).strip() == b"[]":
            self._final.append(counted)
            return b""
        last = self._bounds.choices * self._bounds.prompts - 1
        self._running[max(0, min(_index(fields["choices"]), last))] = counted
        return b"data: " + _encode(_without(fields, _OWN)) + b"\n\n"

    def _unread(self, fields: dict[str, msgspec.Raw]) -> bytes:
        self._is_unreadable = True
        if bytes(fields.get("choices", b"[]")).strip() == b"[]":
            return b""
        return b"data: " + _encode(_without(fields, _OWN)) + b"\n\n"

    def _usage_event(self) -> bytes:
        if not self._wants_usage or self._last_usage is None:
            return b""
        event: dict[str, Any] = {**_without(self._last_usage, _OWN[1:]), "choices": []}
        shown = self.shown()
        if len(self._final) != 1 or self.fault is not None:
            event["usage"] = {**shown, **_resumed(self._last_usage["usage"])}
        return b"data: " + _encode(event) + b"\n\n"


def _resumed(usage: msgspec.Raw) -> dict[str, Any]:
    """What a continuation says besides counts."""
    if RESUMED_KEY.encode() not in bytes(usage):
        return {}
    return {RESUMED_KEY: msgspec.json.decode(usage)[RESUMED_KEY]}


def payload_of(event: bytes) -> bytes:
    """The `data` of one event: b"" for comments. Raises RuntimeMalformed for what is no event."""
    if event.startswith(b"data: ") and b"\n" not in event:
        return event[6:]
    lines = []
    for line in event.splitlines():
        name, colon, value = line.partition(b":")
        if name == b"data" and colon:
            lines.append(value.removeprefix(b" "))
        elif line and name not in (b"", b"event", b"id", b"retry"):
            raise RuntimeMalformed(reason="The runtime sent something that is no event stream.")
    return b"\n".join(lines)


def as_openai(usage: Usage | None) -> dict[str, Any]:
    """The `usage` object in OpenAI's overlapping counts."""
    if usage is None:
        return {}
    completion = usage.completion + usage.reasoning
    counts: dict[str, Any] = {
        "prompt_tokens": usage.prompt,
        "completion_tokens": completion,
        "total_tokens": usage.prompt + completion,
        "prompt_tokens_details": {"cached_tokens": usage.prompt_cached},
    }
    if usage.reasoning:
        counts["completion_tokens_details"] = {"reasoning_tokens": usage.reasoning}
    return counts


def as_shown(usage: Usage | None, fault: counting.Fault | None) -> dict[str, Any]:
    """The same, and `fault` where it is not what the engine said last.

    Counts that were said twice are not: they are the last ones, as they stand.
    """
    counts = as_openai(usage)
    if counts and fault is counting.Fault.WRONG:
        counts["fault"] = fault.value
    return counts


def is_said(usage: bytes | msgspec.Raw) -> bool:
    """Whether this member says anything."""
    return bytes(usage).strip() not in (b"null", b"{}")


def _is_plain(data: bytes) -> bool:
    # JSON has no raw line breaks inside, so these few tests see every event's begin and end.
    # A quotation mark inside a text is escaped, so `"usage"` can only be a member's name.
    if not (data.startswith(_START) and data.endswith(_STOP)):
        return False
    events = data.count(b"\n\n")
    if events > 1 and data.count(_BETWEEN) != events - 1:
        return False
    return b'"usage"' not in data and b'"error"' not in data and b"\r" not in data


def _decoded(payload: bytes) -> dict[str, msgspec.Raw]:
    try:
        return _fields.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RuntimeMalformed(reason="The runtime sent an event that is not JSON.") from error


def _without(fields: dict[str, msgspec.Raw], names: Sequence[str]) -> dict[str, msgspec.Raw]:
    return {name: value for name, value in fields.items() if name not in names}


def _index(choices: msgspec.Raw) -> int:
    """Of the choice that a piece is of."""
    try:
        found = _choices.decode(choices)
    except msgspec.MsgspecError as error:
        raise RuntimeMalformed(reason="The runtime sent an event without choices.") from error
    return found[0].index if found else 0
