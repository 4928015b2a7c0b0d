"""From tokens to text as it grows. Pure: the tokenizer comes in as two functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

_HALF = "\ufffd"
_UNSURE_MAX = 8
"""Tokens that one character may take; after that the text is what it looks like."""


class Words:
    """Tokens in, text out, and no character before all of its tokens have come.

    What a token is depends on those before it - a space, half a character - so each is
    decoded together with some that were shown already.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._tokens: list[int] = []
        self._from = 0
        """The first that is decoded again with new ones."""
        self._shown = 0
        """The first whose text was not shown."""

    def feed(self, token: int) -> str:
        self._tokens.append(token)
        return self._more(is_last=False)

    def end(self) -> str:
        """What was held back."""
        return self._more(is_last=True)

    def _more(self, *, is_last: bool) -> str:
        before = self._decode(self._tokens[self._from : self._shown])
        now = self._decode(self._tokens[self._from :])
        held = len(self._tokens) - self._shown
        if now.endswith(_HALF) and not is_last and held < _UNSURE_MAX:
            return ""
        if len(now) <= len(before) and not is_last:
            return ""
        self._from, self._shown = self._shown, len(self._tokens)
        return now[len(before) :]
