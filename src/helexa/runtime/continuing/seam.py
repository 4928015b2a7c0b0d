"""Stop strings at the seam: one that began in what was delivered and ends in what comes.

An engine holds back what may become a stop string, so a client hardly ever has the begin of
one. Where it does, the answer ends there: what was delivered cannot be taken back.
"""

from __future__ import annotations

from collections.abc import Sequence


class Seam:
    """Text goes through until no stop string can have begun before it any more."""

    def __init__(self, delivered: str, stops: Sequence[str]) -> None:
        longest = max(map(len, stops), default=0)
        self._before = delivered[max(0, len(delivered) - longest + 1) :] if longest > 1 else ""
        self._stops = [one for one in stops if any(_begins(self._before, one))]
        self._held = ""
        self.is_stopped = False

    def feed(self, text: str) -> str:
        """What may be shown now."""
        if self.is_stopped:
            return ""
        if not self._stops:
            return text
        self._held += text
        whole = self._before + self._held
        open_still = False
        for stop in self._stops:
            for length in _begins(self._before, stop):
                at = len(self._before) - length
                if whole.startswith(stop, at):
                    self.is_stopped, self._held = True, ""
                    return ""
                open_still |= stop.startswith(whole[at:])
        if open_still:
            return ""
        self._stops = []
        return self.rest()

    def rest(self) -> str:
        """What was held back: nothing follows any more."""
        held, self._held = self._held, ""
        return held


def _begins(text: str, stop: str) -> list[int]:
    """How many characters of a stop string `text` may end in, for each way to end."""
    return [
        length
        for length in range(1, min(len(text), len(stop) - 1) + 1)
        if text.endswith(stop[:length])
    ]
