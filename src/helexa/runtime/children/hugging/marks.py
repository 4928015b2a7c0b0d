"""Thoughts and calls of tools, found by the marks that models put around them in a text.

Thoughts stand in `<think>`, calls in `<tool_call>` as one object of JSON with `name` and
`arguments` (the Hermes way). What could still become a mark is held back. A call that is
no such object is text like any other.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

THINK, THOUGHT = "<think>", "</think>"
CALL, CALLED = "<tool_call>", "</tool_call>"
_CALL_CHARS_MAX = 1 << 20


@dataclass
class Found:
    """What one piece of text turned out to be."""

    text: str = ""
    thought: str = ""
    calls: list[dict[str, Any]] = field(default_factory=list)


class Marks:
    def __init__(self, *, thoughts: bool, calls: bool, is_thinking: bool = False) -> None:
        """`is_thinking`: the prompt ended with the mark already."""
        self.is_thinking = thoughts and is_thinking
        self.called = 0
        self._opens = [mark for mark, on in ((THINK, thoughts), (CALL, calls)) if on]
        self._held = ""
        self._space = ""
        """That is text only if text follows."""
        self._in_call = False
        self._has_begun = False

    def feed(self, more: str) -> Found:
        if not self._opens:
            return Found(text=more)
        self._held += more
        found = Found()
        for kind, part in self._parts():
            self._put(found, kind, part)
        return found

    def end(self) -> Found:
        found = Found()
        held, self._held = self._held, ""
        if self._in_call:
            self._in_call = False
            if _call(held) is None:
                self._put(found, "text", CALL + held)
            else:
                self._put(found, "call", held)
        elif self.is_thinking:
            found.thought = held
        else:
            self._put(found, "text", held)
        if not self.called:
            found.text += self._space
        self._space = ""
        return found

    def _parts(self) -> Iterator[tuple[str, str]]:
        while self._held:
            if self._in_call and len(self._held) > _CALL_CHARS_MAX:
                self._in_call = False
                yield "text", CALL
            kind, marks = self._here()
            at, mark = _first(self._held, marks)
            if mark:
                part, self._held = self._held[:at], self._held[at + len(mark) :]
                self._turn(mark)
                yield kind, part
                continue
            if kind == "call":
                return
            kept = max(_overlap(self._held, each) for each in marks)
            sure = len(self._held) - kept
            part, self._held = self._held[:sure], self._held[sure:]
            if part:
                yield kind, part
            return

    def _here(self) -> tuple[str, list[str]]:
        if self._in_call:
            return "call", [CALLED]
        if self.is_thinking:
            return "thought", [THOUGHT]
        return "text", self._opens

    def _turn(self, mark: str) -> None:
        self._in_call = mark == CALL
        self.is_thinking = mark == THINK

    def _put(self, found: Found, kind: str, part: str) -> None:
        if kind == "thought":
            found.thought += part
        elif kind == "text":
            self._put_text(found, part)
        elif (call := _call(part)) is not None:
            call["index"] = self.called
            self.called += 1
            self._space = ""
            found.calls.append(call)
        else:
            self._put_text(found, f"{CALL}{part}{CALLED}")

    def _put_text(self, found: Found, part: str) -> None:
        """Space around calls and behind thoughts is no part of an answer."""
        text = self._space + part
        if not self._has_begun:
            text = text.lstrip()
        kept = text.rstrip() if CALL in self._opens else text
        self._space = text[len(kept) :]
        self._has_begun = self._has_begun or bool(kept)
        found.text += kept


def _call(text: str) -> dict[str, Any] | None:
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(said, dict) or not isinstance(said.get("name"), str):
        return None
    arguments = said.get("arguments", {})
    if not isinstance(arguments, str):
        arguments = json.dumps(arguments, ensure_ascii=False)
    function = {"name": said["name"], "arguments": arguments}
    return {"id": f"call_{uuid.uuid4().hex[:24]}", "type": "function", "function": function}


def _first(text: str, marks: list[str]) -> tuple[int, str]:
    found = [(at, mark) for mark in marks if (at := text.find(mark)) >= 0]
    return min(found) if found else (-1, "")


def _overlap(text: str, mark: str) -> int:
    for length in range(min(len(text), len(mark) - 1), 0, -1):
        if text.endswith(mark[:length]):
            return length
    return 0
