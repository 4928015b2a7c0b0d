"""One loop timer for many deadlines.

A timer per request costs more than the request's own bookkeeping, and almost no
deadline is ever reached. So each watched thing holds its deadline as a number
that it may move at will, and one lazily armed timer looks at all of them when
the earliest could have passed.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable
from typing import Final, Protocol

GRANULARITY_S: Final = 0.02
"""Looks are at least this far apart, so that ten thousand idle connections cost no CPU."""

NEVER: Final = math.inf


class Watched(Protocol):
    deadline: float
    """In the loop's time; NEVER for none. Moving it later needs no call."""

    def expire(self, now: float) -> None:
        """The deadline has passed: act, and set a later one (or NEVER)."""
        ...


class Deadlines:
    """Whoever sets a deadline calls `watch(when)` after it; `close` when the owner ends."""

    def __init__(self, watched: Callable[[], Iterable[Watched]]) -> None:
        self._watched = watched
        self._loop = asyncio.get_running_loop()
        self._armed_for = NEVER
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, when: float) -> None:
        if when < self._armed_for:
            self._arm(when)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        # Nothing is before minus infinity: a late watch() arms nothing.
        self._timer, self._armed_for = None, -math.inf

    def _arm(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._armed_for = when
        self._timer = self._loop.call_at(when, self._look)

    def _look(self) -> None:
        now = self._loop.time()
        self._timer, self._armed_for = None, NEVER
        # A copy: what expires may leave the collection.
        for each in list(self._watched()):
            if each.deadline <= now:
                each.expire(now)
        earliest = min((each.deadline for each in self._watched()), default=NEVER)
        if earliest < self._armed_for:
            self._arm(max(earliest, now + GRANULARITY_S))
