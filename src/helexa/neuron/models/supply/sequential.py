"""The picker of a download that has its origin alone: the first missing piece, some at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import anyio

from helexa.neuron.models.supply.piece import (
    Giver,
    PieceRefused,
    PieceStore,
    PieceUnavailable,
    Take,
)

LANES: Final = 4


class Sequential:
    def __init__(self, store: PieceStore, origin: Giver | None, lanes: int) -> None:
        self.lanes = 1 if origin is not None and origin.in_order else lanes
        self._store = store
        self._origin = origin
        self._taken: set[int] = set()
        self._changed = anyio.Event()
        self._failure: PieceUnavailable | None = None
        self._first_missing = 0

    async def next(self) -> Take:
        if self._origin is None:
            raise PieceUnavailable("nobody is known who has it", final=True)
        while True:
            if self._failure is not None:
                raise self._failure
            index = self._next_index()
            if index is not None:
                self._taken.add(index)
                return Take(index, self._origin)
            await self._changed.wait()

    def ended(self, take: Take, failure: PieceUnavailable | PieceRefused | None) -> None:
        self._taken.discard(take.index)
        if isinstance(failure, PieceUnavailable):
            self._failure = failure
        elif failure is not None:
            self._failure = PieceUnavailable(str(failure), final=True)
        changed, self._changed = self._changed, anyio.Event()
        changed.set()

    def _next_index(self) -> int | None:
        count = self._store.layout.count
        while self._first_missing < count and self._store.has(self._first_missing):
            self._first_missing += 1
        for index in range(self._first_missing, count):
            if index not in self._taken and not self._store.has(index):
                return index
        return None


@asynccontextmanager
async def sequential(
    store: PieceStore, origin: Giver | None, *, lanes: int = LANES
) -> AsyncIterator[Sequential]:
    yield Sequential(store, origin, lanes)
