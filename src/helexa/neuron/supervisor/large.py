"""Large requests reach a child one after the other.

To render and split a prompt takes a multiple of its memory and cannot be stopped, although its
client left. So a second one waits until the first was answered; one whose client left counts
on for about as long as its child may still be at it.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import anyio

LARGE_BYTES: Final = 256 * 1024
TOKEN_BYTES: Final = 8
"""Of usual text, a token is half of that: what fills a long context is not held to be large."""
BYTES_PER_S: Final = 256 * 1024
"""That a child surely gets through; texts go a hundred times faster, short messages do not."""
LEFT_S_MAX: Final = 60.0


class LargeTurns:
    """Of one model. Only what is large waits here, before it holds a slot."""

    def __init__(self, context_tokens: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._large_bytes = max(LARGE_BYTES, context_tokens * TOKEN_BYTES)
        self._one = anyio.Semaphore(1)
        self._clock = clock
        self._busy_until = 0.0

    def is_large(self, size: int) -> bool:
        return size >= self._large_bytes

    @asynccontextmanager
    async def turn(self, size: int) -> AsyncIterator[None]:
        """`size` in bytes; at once for a small one."""
        if not self.is_large(size):
            yield
            return
        async with self._one:
            await anyio.sleep(max(0.0, self._busy_until - self._clock()))
            began = self._clock()
            try:
                yield
            except anyio.get_cancelled_exc_class():
                self._busy_until = began + min(LEFT_S_MAX, size / BYTES_PER_S)
                raise
