"""The keeper of responses: what it promises, and what becomes of a promise."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.lowlevel
import msgspec
import pytest

from helexa.cortex.gateway import keeper as keepers
from helexa.cortex.gateway.keeper import Keeper, keeping
from helexa.cortex.settings import ResponsesSettings
from helexa.cortex.store.kept import Kept
from helexa.cortex.store.responses import StoredResponses, stored_responses
from helexa.protocol.errors import Busy, RequestRejected
from helexa.util.background import background

pytestmark = pytest.mark.anyio

NOW = 1_000_000.0


def kept(name: str, previous: str = "", *, age_s: float = 0, size: int = 10) -> Kept:
    return Kept(
        id=name,
        account="a",
        created_at=int(NOW - age_s),
        previous=previous,
        input=b"[]",
        response=b"x" * (size - 2),
    )


class Disk:
    """A database that can be full, slow, or both."""

    def __init__(self, stored: StoredResponses) -> None:
        self.stored = stored
        self.is_full = False
        self.tries = 0
        self.go = threading.Event()
        self.go.set()

    def write(self, kept: Sequence[Kept], removed: Sequence[tuple[str, str]]) -> set[str]:
        self.tries += 1
        self.go.wait(30)
        self._check()
        return self.stored.write(kept, removed)

    def line(
        self, account: str, response_id: str, *, bytes_max: int, count_max: int
    ) -> Sequence[Kept]:
        self._check()
        return self.stored.line(account, response_id, bytes_max=bytes_max, count_max=count_max)

    def one(self, account: str, response_id: str) -> Kept | None:
        self._check()
        return self.stored.one(account, response_id)

    def expire(self, until: int) -> None:
        self._check()
        self.stored.expire(until)

    def _check(self) -> None:
        if self.is_full:
            raise sqlite3.OperationalError("database or disk is full")


@asynccontextmanager
async def keeper_at(
    home: Path,
    *,
    writes: bool = True,
    line_bytes_max: int = 1000,
    unix: Callable[[], float] = lambda: NOW,
) -> AsyncIterator[tuple[Keeper, Disk]]:
    settings = ResponsesSettings(retain_s=100)
    with stored_responses(home, bytes_max=1 << 20, account_bytes_max=1 << 20) as stored:
        disk = Disk(stored)
        keeper = Keeper(disk, settings, line_bytes_max=line_bytes_max, unix=unix)  # type: ignore[arg-type]
        async with background() as tasks:
            if writes:
                tasks.start_soon(keeper.run)
            yield keeper, disk


async def written(keeper: Keeper) -> None:
    """Return when all that was pending is on the disk."""
    assert not await keeper.remove("a", "no such one")
    assert not keeper.pending


async def ids(keeper: Keeper, name: str) -> list[str]:
    return [one.id for one in await keeper.line("a", name)]


async def test_what_is_not_written_yet_is_read_and_continued_all_the_same(tmp_path: Path) -> None:
    async with keeper_at(tmp_path, writes=False) as (keeper, _):
        assert keeper.offer(kept("one"))
        assert await keeper.write()
        assert keeper.offer(kept("two", "one"))
        assert keeper.offer(kept("three", "two"))
        assert keeper.pending == 2
        assert await ids(keeper, "three") == ["one", "two", "three"]
        assert await keeper.one("a", "two") == kept("two", "one")
        assert await keeper.one("b", "two") is None
        assert await keeper.line("b", "three") == ()


async def test_what_was_promised_is_written_at_the_end(tmp_path: Path) -> None:
    settings = ResponsesSettings()
    one = msgspec.structs.replace(kept("one"), created_at=int(time.time()))
    async with keeping(tmp_path, settings, line_bytes_max=1000) as keeper:
        assert keeper is not None
        assert keeper.offer(one)
    async with keeping(tmp_path, settings, line_bytes_max=1000) as keeper:
        assert keeper is not None
        assert await keeper.one("a", "one") == one


async def test_nothing_is_kept_where_nothing_is_to_be(tmp_path: Path) -> None:
    async with keeping(tmp_path, ResponsesSettings(retain_s=0), line_bytes_max=1) as keeper:
        assert keeper is None
    assert not (tmp_path / "responses.db").exists()


async def test_a_full_disk_is_told_and_what_was_promised_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keepers, "AGAIN_S", 0.01)
    async with keeper_at(tmp_path) as (keeper, disk):
        disk.is_full = True
        assert keeper.offer(kept("one"))
        with pytest.raises(Busy):
            await written(keeper)
        assert not keeper.offer(kept("two"))
        assert await keeper.one("a", "one") is not None
        with pytest.raises(Busy):
            await keeper.one("a", "other")
        disk.is_full = False
        await written(keeper)
        assert disk.stored.one("a", "one") is not None
        assert keeper.offer(kept("three"))


async def test_a_removal_that_the_disk_does_not_take_is_no_removal(tmp_path: Path) -> None:
    async with keeper_at(tmp_path) as (keeper, disk):
        keeper.offer(kept("one"))
        await written(keeper)
        disk.is_full = True
        with pytest.raises(Busy):
            await keeper.remove("a", "one")
        disk.is_full = False
        assert await keeper.one("a", "one") is not None


async def test_what_is_removed_is_gone_at_once_and_with_it_what_it_leads_to(tmp_path: Path) -> None:
    async with keeper_at(tmp_path) as (keeper, disk):
        keeper.offer(kept("one"))
        keeper.offer(kept("two", "one"))
        disk.go.clear()
        async with background() as tasks:
            tasks.start_soon(keeper.remove, "a", "one")
            await anyio.lowlevel.checkpoint()
            assert await keeper.one("a", "one") is None
            assert await keeper.line("a", "two") == ()
            disk.go.set()
            assert not await keeper.remove("b", "two")
            assert not await keeper.remove("a", "one")
        assert await keeper.one("a", "two") is not None
        assert await keeper.line("a", "two") == ()


async def test_what_is_too_old_is_not_shown_and_then_deleted(tmp_path: Path) -> None:
    now = [NOW]
    async with keeper_at(tmp_path, writes=False, unix=lambda: now[0]) as (keeper, disk):
        keeper.offer(kept("one", age_s=60))
        keeper.offer(kept("two", "one"))
        assert await keeper.write()
        assert await ids(keeper, "two") == ["one", "two"]
        now[0] += 50
        assert await keeper.one("a", "one") is None
        assert await keeper.line("a", "two") == ()
        async with background() as tasks:
            tasks.start_soon(keeper.run)
            await written(keeper)
        assert disk.stored.one("a", "one") is None
        assert disk.stored.one("a", "two") is not None


async def test_a_conversation_that_is_too_long_is_refused(tmp_path: Path) -> None:
    async with keeper_at(tmp_path, line_bytes_max=1000) as (keeper, _):
        keeper.offer(kept("one", size=600))
        keeper.offer(kept("two", "one", size=600))
        with pytest.raises(RequestRejected) as refused:
            await keeper.line("a", "two")
        assert refused.value.param == "previous_response_id"


async def test_no_more_is_promised_than_memory_may_hold(tmp_path: Path) -> None:
    async with keeper_at(tmp_path, writes=False) as (keeper, disk):
        size = 1 << 20
        for number in range(keepers.PENDING_BYTES_MAX // size):
            assert keeper.offer(kept(str(number), size=size))
        assert not keeper.offer(kept("more", size=size))
        assert not keeper.offer(kept("too large", size=size + 1))
        assert keeper.not_kept == 2
        assert await keeper.write()
        assert disk.stored.bytes == size
        assert keeper.offer(kept("more", size=size))
