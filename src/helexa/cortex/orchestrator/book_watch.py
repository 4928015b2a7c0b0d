"""Watching the operator's file: read again when it changed and stands still, or when asked.

Editors write in steps, by truncating or by renaming, and a file that is half there is a
valid one with half the models. So a change counts when the file has looked the same twice.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import anyio
from anyio import to_thread

from helexa.cortex.orchestrator.book import Book
from helexa.cortex.orchestrator.entries import EntriesSource
from helexa.util.background import background

LOOK_EVERY_S: Final = 2.0


class Sight:
    """What was seen of a file: when to read it."""

    def __init__(self, read: object) -> None:
        """`read` is how it looked when it was read last."""
        self._read = read
        self._seen = read

    def settled(self, stamp: object) -> bool:
        """Whether it differs from what was read, and looks as it did a moment ago."""
        still = stamp == self._seen
        self._seen = stamp
        return still and stamp != self._read

    def was_read(self, stamp: object) -> None:
        """`stamp` is how it looked before; a change meanwhile is seen the next time."""
        self._read = stamp


@asynccontextmanager
async def watching(
    book: Book, source: EntriesSource, *, every_s: float = LOOK_EVERY_S
) -> AsyncIterator[None]:
    """The book follows the file inside the block."""
    if not source.where:
        yield
        return
    async with background() as tasks:
        tasks.start_soon(_follow, book, source, every_s)
        yield


async def _follow(book: Book, source: EntriesSource, every_s: float) -> None:
    sight = Sight(book.stamp)
    while True:
        asked = False
        with anyio.move_on_after(every_s):
            await book.wanted()
            asked = True
        stamp = await to_thread.run_sync(source.stamp)
        if sight.settled(stamp) or asked:
            await book.reload()
            sight.was_read(stamp)
