"""Calls of tools, made of what an engine says that cannot make them, or makes too many.

`CallOfJson` is for an engine that was made to write `{"name": .., "arguments": ..}`: the
answer becomes a call, streamed as OpenAI streams one: its name first, then its arguments
piece by piece. `FirstCall` keeps one call of an answer that may hold several.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

import msgspec

from helexa.protocol.errors import RuntimeMalformed
from helexa.runtime.contract import Rewrite

Json: TypeAlias = dict[str, Any]

_chunk: Final = msgspec.json.Decoder(Json)
_encode: Final = msgspec.json.Encoder().encode
_text: Final = msgspec.json.Decoder(str)
_ID_BYTES: Final = 12


class Chain:
    """Several, the first of them nearest to the engine."""

    def __init__(self, rewrites: Sequence[Rewrite]) -> None:
        self._rewrites = rewrites

    def event(self, payload: bytes) -> Sequence[bytes]:
        return self._through([payload], self._rewrites)

    def end(self) -> Sequence[bytes]:
        said: list[bytes] = []
        for at, each in enumerate(self._rewrites):
            said.extend(self._through(list(each.end()), self._rewrites[at + 1 :]))
        return said

    def whole(self, body: bytes) -> bytes:
        for each in self._rewrites:
            body = each.whole(body)
        return body

    @staticmethod
    def _through(payloads: Sequence[bytes], rewrites: Sequence[Rewrite]) -> Sequence[bytes]:
        for each in rewrites:
            payloads = [made for one in payloads for made in each.event(one)]
        return payloads


def chained(makers: Sequence[Callable[[], Rewrite]]) -> Callable[[], Rewrite] | None:
    if len(makers) < 2:
        return makers[0] if makers else None
    return lambda: Chain([make() for make in makers])


class FirstCall:
    """Leaves out every call after the first of a choice."""

    def __init__(self) -> None:
        self._more: set[int] = set()
        """Choices that went on to a further call, so their first one is complete."""

    def event(self, payload: bytes) -> Sequence[bytes]:
        if b'"tool_calls"' not in payload and not self._more:
            return (payload,)
        chunk = _chunk.decode(payload)
        for choice in chunk.get("choices") or ():
            delta = choice.get("delta") or {}
            calls = delta.get("tool_calls")
            if calls:
                kept = [call for call in calls if not call.get("index")]
                if len(kept) < len(calls):
                    self._more.add(choice.get("index", 0))
                    delta.pop("tool_calls")
                    if kept:
                        delta["tool_calls"] = kept
            if choice.get("finish_reason") == "length" and choice.get("index", 0) in self._more:
                choice["finish_reason"] = "tool_calls"
        return (_encode(chunk),)

    def end(self) -> Sequence[bytes]:
        return ()

    def whole(self, body: bytes) -> bytes:
        return body


class CallOfJson:
    def __init__(self) -> None:
        self._scans: dict[int, CallScan] = {}

    def event(self, payload: bytes) -> Sequence[bytes]:
        if b'"content"' not in payload and b'"finish_reason":"stop"' not in payload:
            return (payload,)
        chunk = _chunk.decode(payload)
        for choice in chunk.get("choices") or ():
            self._turn(choice)
        return (_encode(chunk),)

    def _turn(self, choice: Json) -> None:
        scan = self._scans.setdefault(choice.get("index", 0), CallScan())
        delta = choice.get("delta") or {}
        text = delta.get("content")
        if isinstance(text, str):
            del delta["content"]
            calls = [_delta(name, arguments) for name, arguments in scan.feed(text)]
            if calls:
                delta["tool_calls"] = calls
        if choice.get("finish_reason") == "stop":
            if not scan.is_whole:
                raise RuntimeMalformed(reason="The runtime did not make the call it was asked for.")
            choice["finish_reason"] = "tool_calls"

    def end(self) -> Sequence[bytes]:
        return ()

    def whole(self, body: bytes) -> bytes:
        return body


def _delta(name: str | None, arguments: str) -> Json:
    if name is None:
        return {"index": 0, "function": {"arguments": arguments}}
    return {
        "index": 0,
        "id": f"call_{secrets.token_hex(_ID_BYTES)}",
        "type": "function",
        "function": {"name": name, "arguments": arguments},
    }


class CallScan:
    """`{"name": "f", "arguments": {..}}`, arriving in pieces and in this order."""

    def __init__(self) -> None:
        self.is_whole = False
        self._rest = ""
        self._name: str | None = None
        self._is_inside = False
        self._depth = 0
        self._is_text = self._is_escaped = False

    def feed(self, text: str) -> list[tuple[str | None, str]]:
        """Pieces of the call: its name with the first of them, None with the others."""
        pieces: list[tuple[str | None, str]] = []
        if not self._is_inside:
            self._rest += text
            if self._name is None and (name := self._read_name()) is not None:
                self._name = name
                pieces.append((name, ""))
            if self._name is None or not self._skip_to_arguments():
                return pieces
            text, self._rest = self._rest, ""
        if arguments := self._taken(text):
            pieces.append((None, arguments))
        return pieces

    def _read_name(self) -> str | None:
        """The first text that is a value: that of the first member."""
        ends = _texts(self._rest)
        if len(ends) < 2:
            return None
        (start, end) = ends[1]
        self._rest, name = self._rest[end:], self._rest[start:end]
        return _text.decode(name.encode())

    def _skip_to_arguments(self) -> bool:
        start = self._rest.find("{")
        if start < 0:
            return False
        self._rest = self._rest[start:]
        self._is_inside = True
        return True

    def _taken(self, text: str) -> str:
        """Of `text` what belongs to the arguments, up to where their object ends."""
        if self.is_whole:
            return ""
        for at, letter in enumerate(text):
            if self._is_text:
                if self._is_escaped:
                    self._is_escaped = False
                elif letter == "\\":
                    self._is_escaped = True
                elif letter == '"':
                    self._is_text = False
            elif letter == '"':
                self._is_text = True
            elif letter in "{[":
                self._depth += 1
            elif letter in "}]":
                self._depth -= 1
                if self._depth == 0:
                    self.is_whole = True
                    return text[: at + 1]
        return text


def _texts(text: str) -> list[tuple[int, int]]:
    """Begin and end of each complete JSON string in it."""
    found, start, is_escaped = [], -1, False
    for at, letter in enumerate(text):
        if start < 0:
            start = at if letter == '"' else -1
        elif is_escaped:
            is_escaped = False
        elif letter == "\\":
            is_escaped = True
        elif letter == '"':
            found.append((start, at + 1))
            start = -1
    return found
