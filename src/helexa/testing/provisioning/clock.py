"""Virtual time: what is to happen, in order of when."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable


class Clock:
    """`at` and `after` put something down; `run` lets it happen."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._coming: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def at(self, when_s: float, happens: Callable[[], None]) -> None:
        heapq.heappush(self._coming, (max(when_s, self.now_s), next(self._order), happens))

    def after(self, delay_s: float, happens: Callable[[], None]) -> None:
        self.at(self.now_s + delay_s, happens)

    def run(self, until_s: float, *, ends: Callable[[], bool] = lambda: False) -> None:
        """Until that time, or until `ends` says so after something happened."""
        while self._coming and self._coming[0][0] <= until_s:
            self.now_s, _, happens = heapq.heappop(self._coming)
            happens()
            if ends():
                return
        self.now_s = max(self.now_s, until_s)
