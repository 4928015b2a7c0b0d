"""What is due when, without a clock: the core asks, nobody waits."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable
from typing import TypeAlias

Due: TypeAlias = Callable[[], None]


class Timers:
    """Never cancelled: what is called looks whether it is still wanted.

    Everything that sets a timer is bounded (checks, suspicions, wants), so this is.
    """

    __slots__ = ("_heap", "_order")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Due]] = []
        self._order = itertools.count()

    def at(self, due_s: float, call: Due) -> None:
        """Have `call` called by the first `run` at or after `when_s`."""
        heapq.heappush(self._heap, (due_s, next(self._order), call))

    @property
    def next_s(self) -> float:
        """When `run` is worth calling; infinity when never."""
        return self._heap[0][0] if self._heap else math.inf

    def run(self, now_s: float) -> None:
        """Call what is due, earliest first; what that sets in turn waits for the next run."""
        due = []
        while self._heap and self._heap[0][0] <= now_s:
            due.append(heapq.heappop(self._heap)[2])
        for call in due:
            call()

    def clear(self) -> None:
        """Forget all that was to be called."""
        self._heap.clear()
