"""The door in front of one model: so many at work, so many waiting, the next is refused.

The engine has a queue of its own, without a bound and without a word to those
who wait; this one is counted, reported and refuses in time.
"""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import anyio

from helexa.protocol.errors import Draining, QueueFull

WAITS_KEPT_S: Final = 60.0
"""A wait of so long ago counts about a third of one that ended just now."""


class Gate:
    def __init__(
        self,
        slots: int,
        queue_max: int,
        *,
        clock: Callable[[], float] = time.monotonic,
        left: Callable[[], None] = lambda: None,
    ) -> None:
        """`left` is called when the last one has left; it must not wait."""
        self.slots = slots
        self._left = left
        self._queue_max = queue_max
        self._clock = clock
        self._inside = anyio.Semaphore(slots)
        self._present = 0
        self._empty = anyio.Event()
        self._empty.set()
        self._since = self._opened_at = clock()
        self._closings = 0
        self._waits = Waits()
        self.running = 0

    @property
    def present_count(self) -> int:
        return self._present

    @property
    def has_room(self) -> bool:
        """Whether `slot` would not wait."""
        return self.running < self.slots and self._inside.value > 0

    @property
    def waiting(self) -> int:
        return self._present - self.running

    @property
    def idle_s(self) -> float:
        """Since the last one left or it was opened; 0 while there are any."""
        return 0.0 if self._present else max(0.0, self._clock() - self._since)

    @property
    def open_s(self) -> float:
        """Since it was opened."""
        return max(0.0, self._clock() - self._opened_at)

    @property
    def queue_s(self) -> float:
        """Mean wait for a slot of those who got one lately."""
        return self._waits.mean_s(self._clock())

    def opened(self) -> None:
        """What is behind it serves from now on: waits before that were not for a slot."""
        self._since = self._opened_at = self._clock()

    def closed(self) -> None:
        """What is behind it was stopped: those who still wait for a slot are sent away."""
        self._closings += 1

    @asynccontextmanager
    async def present(self) -> AsyncIterator[None]:
        """Counted from here on, and refused with QueueFull where too many are."""
        if self._present >= self.slots + self._queue_max:
            raise QueueFull(
                reason=f"{self._present} requests for this model are running or waiting; "
                "try again shortly."
            )
        if self._present == 0:
            self._empty = anyio.Event()
        self._present += 1
        try:
            yield
        finally:
            self._present -= 1
            if self._present == 0:
                self._since = self._clock()
                self._empty.set()
                self._left()

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Wait for a free slot, in order of arrival. Raises Draining where it was closed since."""
        asked_at, closings = self._clock(), self._closings
        async with self._inside:
            if self._closings != closings:
                raise Draining(reason="The model was unloaded while this request waited.")
            now = self._clock()
            self._waits.add(now, max(0.0, now - max(asked_at, self._opened_at)))
            self.running += 1
            try:
                yield
            finally:
                self.running -= 1

    async def emptied(self) -> None:
        """Return once nobody is present."""
        await self._empty.wait()


class Waits:
    """A mean that forgets: each wait weighs less as it ages, and so does the mean in a silence."""

    def __init__(self) -> None:
        self._at = 0.0
        self._weight = 0.0
        self._sum_s = 0.0

    def add(self, now: float, wait_s: float) -> None:
        fading = _fading(now - self._at)
        self._weight = self._weight * fading + 1.0
        self._sum_s = self._sum_s * fading + wait_s
        self._at = now

    def mean_s(self, now: float) -> float:
        if not self._weight:
            return 0.0
        return self._sum_s / self._weight * _fading(now - self._at)


def _fading(age_s: float) -> float:
    return math.exp(-max(0.0, age_s) / WAITS_KEPT_S)
