"""Names by `*` and `?`, as in file names."""

from __future__ import annotations

import re
from fnmatch import translate


class Patterns:
    """With a leading `!` what matches is out, and beats the others.

    None at all, or `!` patterns alone, take the rest.
    """

    __slots__ = ("_in", "_out", "texts")

    def __init__(self, texts: tuple[str, ...] = ()) -> None:
        self.texts = texts
        self._in = _any_of([text for text in texts if not text.startswith("!")])
        self._out = _any_of([text[1:] for text in texts if text.startswith("!")])

    def take(self, text: str) -> bool:
        if self._out is not None and self._out.match(text):
            return False
        return self._in is None or self._in.match(text) is not None


def _any_of(texts: list[str]) -> re.Pattern[str] | None:
    return re.compile("|".join(f"(?:{translate(text)})" for text in texts)) if texts else None
