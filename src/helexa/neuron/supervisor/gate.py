"""The door in front of one model: so many at work, so many waiting, the next is refused.

The engine has a queue of its own, without a bound and without a word to those
who wait; this one is counted, reported and refuses in time.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from helexa.protocol.errors import QueueFull


class Gate:
    def __init__(self, slots: int, queue_max: int) -> None:
        self.slots = slots
        self._queue_max = queue_max
        self._inside = anyio.Semaphore(slots)
        self._present = 0
        self._empty = anyio.Event()
        self._empty.set()
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
                self._empty.set()

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Wait for a free slot, in order of arrival."""
        async with self._inside:
            self.running += 1
            try:
                yield
            finally:
                self.running -= 1

    async def emptied(self) -> None:
        """Return once nobody is present."""
        await self._empty.wait()
