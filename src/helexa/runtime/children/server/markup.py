"""Thoughts and tool calls in a model's text, told apart from the answer while it grows. Pure.

Two ways of writing them are read, those of most open models: `<think>..</think>` before the
answer, and `<tool_call>{"name": .., "arguments": {..}}</tool_call>` in it. What could still
become a marker is held back; a call that is none after all is text.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from .engine import Piece
from .text import overlap

THINK, THOUGHT = "<think>", "</think>"
CALL, CALLED = "<tool_call>", "</tool_call>"


class Markup:
    """Of one choice. `tools` are names that may be called; none means that calls are text."""

    def __init__(
        self,
        *,
        choice: int = 0,
        thinks: bool = False,
        is_open: bool = False,
        tools: Collection[str] = (),
    ) -> None:
        """`is_open` says that the prompt has begun a thought already."""
        self.calls = 0
        self._choice = choice
        self._tools = tools
        self._thinks = thinks and not is_open
        self._in = THOUGHT if is_open else ""
        """The marker that is waited for inside of something."""
        self._held = ""
        self._bare = thinks or is_open or bool(tools)
        """Nothing but space was said yet, which is not said before a thought or a call."""

    @property
    def is_thinking(self) -> bool:
        return self._in == THOUGHT

    def feed(self, text: str) -> list[Piece]:
        found: list[Piece] = []
        self._held += text
        while step := self._step():
            found += step
        return found

    def end(self) -> list[Piece]:
        """What was held back: nothing follows any more."""
        held, self._held = self._held, ""
        if self._in == CALLED:
            self._in = ""
            return self._text(CALL + held)
        return self._thought(held) if self.is_thinking else self._text(held)

    def _step(self) -> list[Piece]:
        """The next part that is sure; [] when there is none yet."""
        if self._in == CALLED:
            inner, marker, rest = self._held.partition(CALLED)
            if not marker:
                return []
            self._in, self._held = "", rest
            return self._call(inner)
        if self.is_thinking:
            return self._upto((THOUGHT,), self._thought)
        begin = self._held.lstrip()
        if begin and not (begin.startswith(THINK) or THINK.startswith(begin)):
            self._thinks = False  # A thought comes first or not at all.
        markers = [*([THINK] if self._thinks else ()), *([CALL] if self._tools else ())]
        return self._upto(markers, self._text)

    def _upto(self, markers: Sequence[str], said: Any) -> list[Piece]:
        at, marker = min(
            ((at, one) for one in markers if (at := self._held.find(one)) >= 0),
            default=(-1, ""),
        )
        if marker:
            before, self._held = self._held[:at], self._held[at + len(marker) :]
            pieces: list[Piece] = said(before)
            self._enter(marker)
            return pieces or [Piece(choice=self._choice)]
        kept = max((overlap(self._held, one) for one in markers), default=0)
        sure, self._held = (
            self._held[: len(self._held) - kept],
            self._held[len(self._held) - kept :],
        )
        return said(sure) if sure else []

    def _enter(self, marker: str) -> None:
        self._bare = True
        self._thinks = False
        self._in = {THINK: THOUGHT, CALL: CALLED, THOUGHT: ""}[marker]

    def _text(self, text: str) -> list[Piece]:
        if self._bare:
            text = text.lstrip()
            if not text:
                return []
            self._bare = False
        return [Piece(text, choice=self._choice)] if text else []

    def _thought(self, text: str) -> list[Piece]:
        if self._bare:
            text = text.lstrip()
            self._bare = not text
        return [Piece(thought=text, choice=self._choice)] if text else []

    def _call(self, inner: str) -> list[Piece]:
        self._bare = True
        read = _read(inner, self._tools)
        if read is None:
            self._bare = False
            return self._text(CALL + inner + CALLED)
        name, arguments = read
        call = {
            "index": self.calls,
            "id": f"call_{uuid.uuid4().hex[:24]}",
            "type": "function",
            "function": {"name": name, "arguments": json.dumps(arguments, ensure_ascii=False)},
        }
        self.calls += 1
        return [Piece(calls=[call], choice=self._choice)]


def _read(inner: str, tools: Collection[str]) -> tuple[str, Mapping[str, Any]] | None:
    try:
        said = json.loads(inner)
    except (ValueError, RecursionError):
        return None
    if not isinstance(said, dict) or said.get("name") not in tools:
        return None
    arguments = said.get("arguments", said.get("parameters", {}))
    return (said["name"], arguments) if isinstance(arguments, dict) else None
