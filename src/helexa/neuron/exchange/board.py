"""What this neuron says of a file's pieces, in versions, so that an asker gets what is new."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import ExitStack
from typing import Final, Self

import anyio

from helexa.neuron.exchange import bits
from helexa.neuron.exchange.swarm import Swarm
from helexa.neuron.exchange.tree import tree
from helexa.neuron.exchange.wire import PieceMap, mark_of
from helexa.neuron.models.supply.piece import ORIGIN, PieceStore
from helexa.protocol.ids import NodeId

SETTLE_S: Final = 0.02
"""Changes within this time are one piece of news."""
BOARDS_MAX: Final = 512
"""Files that are spoken of; beyond that the one that was asked for first begins anew."""


class Board:
    """Of one store. While a download works on it, `swarm` says what it is about to get."""

    def __init__(self, store: PieceStore) -> None:
        self.store = store
        self.swarm: Swarm | None = None
        self.origin_bytes: Callable[[], int] = _none
        self._epoch = secrets.randbits(48) + 1
        self._version = 1
        self._have = bits.from_bytes(store.have, store.layout.count)
        self._own = bits.of(i for i in bits.each(self._have) if store.giver(i) == ORIGIN)
        self._changed_at = dict.fromkeys(bits.each(self._have), 1)
        """Version by piece, those that changed last at the end."""
        self._news = anyio.Event()
        self._tree = b""
        self._owners: frozenset[NodeId] = frozenset()

    def touch(self) -> None:
        """Something is to be said anew."""
        self._version += 1
        news, self._news = self._news, anyio.Event()
        news.set()

    def piece_changed(self, index: int) -> None:
        bit = 1 << index
        is_here = self.store.has(index)
        is_own = is_here and self.store.giver(index) == ORIGIN
        self._have = self._have | bit if is_here else self._have & ~bit
        self._own = self._own | bit if is_own else self._own & ~bit
        self._changed_at.pop(index, None)
        self._changed_at[index] = self._version + 1
        self.touch()

    def touch_for_owners(self, now_s: float) -> None:
        """Others wait to be reckoned with."""
        owners = self.swarm.owners(now_s) if self.swarm else frozenset()
        if owners != self._owners:
            self._owners = owners
            self.touch()

    async def newer(self, epoch: int, version: int, wait_s: float) -> None:
        """Return when there is news for one who knows that version, or after `wait_s`."""
        if epoch == self._epoch and version == self._version:
            with anyio.move_on_after(wait_s):
                await self._news.wait()
                await anyio.sleep(SETTLE_S)

    def said(self, epoch: int, version: int, now_s: float) -> PieceMap:
        store, swarm, count = self.store, self.swarm, self.store.layout.count
        since = version if epoch == self._epoch else 0
        own = self._have if store.verified else self._own
        fetches = swarm is not None and swarm.has_origin
        return PieceMap(
            epoch=self._epoch,
            version=self._version,
            size=store.layout.size,
            have=bits.to_bytes(self._have, count),
            fetching=bits.to_bytes(swarm.fetching, count) if swarm else b"",
            first_hand=bits.to_bytes(own, count),
            digests=self._digests(since),
            fetches=fetches,
            in_order=swarm.in_order if swarm else False,
            origin_bytes=self.origin_bytes(),
            members=frozenset(map(mark_of, swarm.owners(now_s))) if swarm else frozenset(),
            verified=store.verified,
            tree=self._root(),
        )

    def _digests(self, since: int) -> dict[int, bytes]:
        found = {}
        for index in reversed(self._changed_at):
            if self._changed_at[index] <= since:
                break
            if (digest := self.store.digest(index)) is not None:
                found[index] = digest
        return found

    def _root(self) -> bytes:
        if not self.store.verified:
            return b""
        if not self._tree:
            digests = map(self.store.digest, range(self.store.layout.count))
            self._tree = tree(self.store.layout, (digest or b"" for digest in digests))
        return self._tree


class Boards:
    """One for each file that somebody asked about; use as a context."""

    def __init__(self) -> None:
        self._boards: dict[str, tuple[Board, ExitStack]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        while self._boards:
            self._close(next(iter(self._boards)))

    def of(self, store: PieceStore) -> Board:
        key = store.layout.key
        found = self._boards.get(key)
        if found is not None:
            if found[0].store is store:
                return found[0]
            # The download became a file, or began anew.
            self._close(key)
        elif len(self._boards) >= BOARDS_MAX:
            self._close(self._least_needed())
        board, stack = Board(store), ExitStack()
        stack.enter_context(store.observe(board.piece_changed))
        self._boards[key] = board, stack
        return board

    def _least_needed(self) -> str:
        idle = (key for key, (board, _) in self._boards.items() if board.swarm is None)
        return next(idle, next(iter(self._boards)))

    def _close(self, key: str) -> None:
        board, stack = self._boards.pop(key)
        stack.close()
        board.touch()


def _none() -> int:
    return 0
