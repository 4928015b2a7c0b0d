"""A file is read again when it changed and stands still, or when somebody asks."""

from __future__ import annotations

from contextlib import asynccontextmanager

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.cortex.books import Shelf, entry

from helexa.cortex.orchestrator.book_watch import Sight, watching

pytestmark = pytest.mark.anyio


def test_a_file_is_read_once_it_looks_the_same_twice_and_not_again() -> None:
    sight = Sight("a")
    looks = ["a", "a", "b", "c", "c", "c", "a", "a"]
    found = []
    for look in looks:
        found.append(sight.settled(look))
        if found[-1]:
            sight.was_read(look)
    assert found == [False, False, False, False, True, False, False, True]


def test_a_file_that_changed_back_before_it_was_read_is_not_read() -> None:
    sight = Sight("a")
    assert not any(map(sight.settled, ["b", "a", "a", "a"]))


@given(st.lists(st.integers(0, 3), max_size=30), st.integers(0, 3))
def test_whatever_is_seen_what_stands_still_is_what_was_read(looks: list[int], last: int) -> None:
    sight, read = Sight(0), 0
    for look in [*looks, last, last]:
        if sight.settled(look):
            sight.was_read(look)
            read = look
    assert read == last


@asynccontextmanager
async def followed(shelf: Shelf, every_s: float):
    async with watching(shelf.book, shelf.source, every_s=every_s):
        yield


async def test_a_change_is_in_force_without_anyone_asking(tmp_path) -> None:
    shelf = Shelf(tmp_path, entry("a"))
    changed = anyio.Event()
    shelf.book.watch(changed.set)
    async with followed(shelf, 0.001):
        shelf.source.say(entry("b"))
        with anyio.fail_after(10):
            await changed.wait()
    assert shelf.models == ["b"]
    assert shelf.source.reads == 1


async def test_a_file_that_never_stands_still_is_not_read_until_somebody_asks(tmp_path) -> None:
    shelf = Shelf(tmp_path, entry("a"))
    looked = anyio.Event()
    look = shelf.source.stamp

    def restless() -> object:
        shelf.source.stamps += 1
        if shelf.source.stamps > 20:
            anyio.from_thread.run_sync(looked.set)
        return look()

    shelf.source.stamp = restless
    shelf.source.now = shelf.source.now.__class__(entries=(entry("b"),), origins=("x:1",))
    changed = anyio.Event()
    shelf.book.watch(changed.set)
    async with followed(shelf, 0.001):
        with anyio.fail_after(10):
            await looked.wait()
        assert shelf.source.reads == 0
        shelf.book.reread()
        with anyio.fail_after(10):
            await changed.wait()
    assert shelf.models == ["b"]


async def test_asking_does_not_wait_for_the_next_look(tmp_path) -> None:
    shelf = Shelf(tmp_path, entry("a"))
    changed = anyio.Event()
    shelf.book.watch(changed.set)
    async with followed(shelf, 3_600):
        shelf.source.say(entry("b"))
        shelf.book.reread()
        with anyio.fail_after(10):
            await changed.wait()
    assert shelf.models == ["b"]


async def test_a_source_without_a_file_is_not_looked_at(tmp_path) -> None:
    shelf = Shelf(tmp_path, entry("a"))
    shelf.source.where = ""
    shelf.source.stamp = None
    async with followed(shelf, 0.0):
        await anyio.lowlevel.checkpoint()
    assert shelf.source.reads == 0
