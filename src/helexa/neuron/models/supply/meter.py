"""How fast something grows, seen over the last seconds, and so when it will be done."""

from __future__ import annotations

from collections import deque
from typing import Final

WINDOW_S: Final = 15.0
LEAST_S: Final = 0.5
"""Over a shorter time a rate says nothing."""
SAMPLES_MAX: Final = 256


class Meter:
    """Told the count at times; both only grow. Times are in seconds, of any clock."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque(maxlen=SAMPLES_MAX)

    def note(self, at: float, count: int) -> None:
        self._samples.append((at, count))
        while len(self._samples) > 2 and self._samples[1][0] <= at - WINDOW_S:
            self._samples.popleft()

    def restart(self) -> None:
        self._samples.clear()

    def per_s(self, at: float) -> float:
        """0 where nothing is known."""
        if len(self._samples) < 2:
            return 0.0
        (first_at, first), (_, last) = self._samples[0], self._samples[-1]
        # Up to now, not to the last news: a stall makes the rate fall while it lasts.
        span = at - first_at
        return (last - first) / span if span >= LEAST_S else 0.0

    def eta_s(self, at: float, left: int) -> float | None:
        if left <= 0:
            return 0.0
        rate = self.per_s(at)
        return left / rate if rate > 0 else None
