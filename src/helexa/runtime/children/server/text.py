"""Text as it grows: characters that come in halves, and the strings at which it ends. Pure.

What could still turn out to be the begin of a stop string is held back, and no
more than that; what stands behind one is never seen.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence


class Growing:
    """The text of one choice."""

    def __init__(self, stop: Sequence[str]) -> None:
        self.stopped = False
        self._stop = stop
        self._held = ""
        self._bytes = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def feed(self, more: str | bytes) -> str:
        """What may be shown now."""
        if self.stopped:
            return ""
        return self._shown(more if isinstance(more, str) else self._bytes.decode(more))

    def end(self) -> str:
        """What was held back: nothing can follow any more."""
        if self.stopped:
            return ""
        shown = self._shown(self._bytes.decode(b"", final=True)) + self._held
        self._held = ""
        return shown

    def _shown(self, more: str) -> str:
        if not self._stop:
            return more
        text = self._held + more
        found = [at for at in (text.find(one) for one in self._stop) if at >= 0]
        if found:
            self.stopped, self._held = True, ""
            return text[: min(found)]
        kept = max(overlap(text, one) for one in self._stop)
        self._held = text[len(text) - kept :]
        return text[: len(text) - kept]


def overlap(text: str, stop: str) -> int:
    """The longest end of `text` with which `stop` begins."""
    for length in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0
