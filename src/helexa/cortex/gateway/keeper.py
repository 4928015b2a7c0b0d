"""The shelf of a cortex: responses go to the disk behind the requests' backs.

One task owns the writing. Until it has written, a response is read from memory. While the disk
does not take what there is, nothing more is taken from clients, who are told by `store: false`;
what was promised is tried again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

import anyio
from anyio import to_thread

from helexa.cortex.settings import ResponsesSettings
from helexa.cortex.store.kept import Kept
from helexa.cortex.store.responses import FAILURES, StoredResponses, stored_responses
from helexa.protocol.errors import Busy, HelexaError, RequestRejected
from helexa.util.background import background

PENDING_BYTES_MAX: Final = 64 * 1024 * 1024
"""Of what was promised and is not written: the disk is far slower than the fleet by then."""
LINE_MAX: Final = 4_096
"""Responses of one conversation."""
EXPIRE_EVERY_S: Final = 60.0
AGAIN_S: Final = 2.0
"""After the disk took nothing."""

T = TypeVar("T")

log = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class _Removal:
    account: str
    response_id: str
    done: anyio.Event = field(default_factory=anyio.Event)
    was_there: bool = False
    failed: bool = False


class Keeper:
    """Implements `Shelf`. `running` writes; without it nothing reaches the disk."""

    def __init__(
        self,
        stored: StoredResponses,
        settings: ResponsesSettings,
        *,
        line_bytes_max: int,
        unix: Callable[[], float] = time.time,
    ) -> None:
        self._stored = stored
        self._retain_s = settings.retain_s
        self._size_max = min(settings.account_bytes_max, settings.stored_bytes_max)
        self._line_bytes_max = line_bytes_max
        self._unix = unix
        self._pending: dict[str, Kept] = {}
        self._pending_bytes = 0
        self._removals: list[_Removal] = []
        self._removed: set[tuple[str, str]] = set()
        self._news = anyio.Event()
        self.is_failing = False
        self.not_kept = 0
        """Responses whose clients were told that they are not kept, and wanted them to be."""

    @property
    def kept_bytes(self) -> int:
        return self._stored.bytes

    @property
    def pending(self) -> int:
        """Responses that were promised and are not on the disk."""
        return len(self._pending)

    def offer(self, kept: Kept) -> bool:
        size = kept.size_bytes
        if (
            self.is_failing
            or size > self._size_max
            or self._pending_bytes + size > PENDING_BYTES_MAX
        ):
            self.not_kept += 1
            return False
        self._pending[kept.id] = kept
        self._pending_bytes += size
        self._news.set()
        return True

    async def one(self, account: str, response_id: str) -> Kept | None:
        kept = self._at_hand(account, response_id)
        if kept is None:
            kept = await self._read(lambda: self._stored.one(account, response_id))
        return kept if kept is not None and self._holds(kept) else None

    async def line(self, account: str, response_id: str) -> Sequence[Kept]:
        line: list[Kept] = []
        wanted = response_id
        while wanted and (kept := self._at_hand(account, wanted)) is not None:
            line.append(kept)
            wanted = kept.previous
        if wanted:
            line += await self._read(
                lambda: self._stored.line(
                    account, wanted, bytes_max=self._line_bytes_max, count_max=LINE_MAX
                )
            )
        if sum(one.size_bytes for one in line) > self._line_bytes_max or len(line) > LINE_MAX:
            raise RequestRejected(
                "The conversation is longer than what a request may hold here.",
                "previous_response_id",
            )
        if not line or line[-1].previous or not all(map(self._holds, line)):
            return ()
        return line[::-1]

    async def remove(self, account: str, response_id: str) -> bool:
        removal = _Removal(account, response_id)
        self._removals.append(removal)
        self._removed.add((account, response_id))
        self._news.set()
        await removal.done.wait()
        if removal.failed:
            raise _unreachable()
        return removal.was_there

    async def run(self) -> None:
        """Write what comes, and remove what is too old, until cancelled."""
        expire_at = self._unix()
        while True:
            if self._unix() >= expire_at:
                await self._expire()
                expire_at = self._unix() + EXPIRE_EVERY_S
            with anyio.move_on_after(EXPIRE_EVERY_S):
                await self._news.wait()
            if self._pending or self._removals:
                self._news = anyio.Event()
                if not await self.write():
                    await anyio.sleep(AGAIN_S)
                    self._news.set()

    async def write(self) -> bool:
        """Everything that is pending, at once. False where the disk does not take it."""
        kept, removals = list(self._pending.values()), self._removals
        self._removals = []
        wanted = [(one.account, one.response_id) for one in removals]
        try:
            # What was written has to be known for written, also by who is cancelled.
            with anyio.CancelScope(shield=True):
                found = await to_thread.run_sync(self._stored.write, kept, wanted)
        except FAILURES as error:
            if not self.is_failing:
                log.exception("responses_not_kept", exc_info=error)
            self.is_failing = True
            for one in removals:
                one.failed = True
            return False
        else:
            self.is_failing = False
            for response in kept:
                del self._pending[response.id]
                self._pending_bytes -= response.size_bytes
            for one in removals:
                one.was_there = one.response_id in found
            return True
        finally:
            for one in removals:
                self._removed.discard((one.account, one.response_id))
                one.done.set()

    async def _expire(self) -> None:
        until = int(self._unix() - self._retain_s)
        try:
            await to_thread.run_sync(self._stored.expire, until)
        except FAILURES as error:
            log.warning("responses_not_expired", exc_info=error)

    def _at_hand(self, account: str, response_id: str) -> Kept | None:
        kept = self._pending.get(response_id)
        return kept if kept is not None and kept.account == account else None

    def _holds(self, kept: Kept) -> bool:
        """Whether it may still be shown."""
        is_young = kept.created_at > self._unix() - self._retain_s
        return is_young and (kept.account, kept.id) not in self._removed

    async def _read(self, read: Callable[[], T]) -> T:
        try:
            return await to_thread.run_sync(read)
        except FAILURES as error:
            log.warning("responses_not_read", exc_info=error)
            raise _unreachable() from error


@asynccontextmanager
async def keeping(
    home: Path, settings: ResponsesSettings, *, line_bytes_max: int
) -> AsyncIterator[Keeper | None]:
    """The keeper of the cortex whose own folder is `home`; None where nothing is to be kept.

    What was promised is on the disk when the block has ended, if the disk takes it. Raises
    StoreUnusable.
    """
    if settings.retain_s == 0:
        yield None
        return
    stored = stored_responses(
        home,
        bytes_max=settings.stored_bytes_max,
        account_bytes_max=settings.account_bytes_max,
    )
    with stored as opened:
        keeper = Keeper(opened, settings, line_bytes_max=line_bytes_max)
        try:
            async with background() as tasks:
                tasks.start_soon(keeper.run, name="responses")
                yield keeper
        finally:
            with anyio.CancelScope(shield=True):
                if keeper.pending:
                    await keeper.write()


def _unreachable() -> HelexaError:
    return Busy("What is kept of responses cannot be reached now; try again shortly.")
