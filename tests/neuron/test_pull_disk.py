"""The disk's budget: who leaves for whom, what is refused with which numbers, a full disk."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.neuron.supplies import Supply, is_here, noise, supplied, tiny

from helexa.neuron.models.supply.disk import Disk, Held, removals
from helexa.neuron.models.supply.piece import PIECE_BYTES
from helexa.neuron.models.supply.records import Stage
from helexa.protocol.errors import DoesNotFit
from helexa.protocol.ids import ModelId
from helexa.testing.hub import Fault, Hub
from helexa.testing.hub.contents import Content

pytestmark = pytest.mark.anyio
MODEL = ModelId("new")


@st.composite
def holdings(draw: st.DrawFn) -> list[Held]:
    names = draw(st.lists(st.text("abcdef", min_size=1, max_size=3), unique=True, max_size=8))
    return [
        Held(
            model=ModelId(name),
            size=draw(st.integers(0, 100)),
            used_unix=draw(st.integers(0, 9)),
            is_leftover=draw(st.booleans()),
            is_kept=draw(st.booleans()),
        )
        for name in names
    ]


@given(
    holdings(),
    st.integers(0, 300),
    st.builds(
        Disk,
        free=st.integers(0, 300),
        used=st.integers(0, 300),
        limit=st.integers(0, 300),
        reserve=st.integers(0, 50),
        promised=st.integers(0, 100),
    ),
)
def test_what_leaves_is_enough_and_not_more_and_never_what_is_kept(
    held: list[Held], need: int, disk: Disk
) -> None:
    by_model = {one.model: one for one in held}
    movable = sum(one.size for one in held if not one.is_kept)
    if need > disk.room + movable:
        with pytest.raises(DoesNotFit) as refused:
            removals(MODEL, need, disk, held)
        assert refused.value.needed_bytes == need
        assert refused.value.free_bytes == disk.room + movable
        return
    leaving = removals(MODEL, need, disk, held)
    freed = [by_model[model].size for model in leaving]
    assert not any(by_model[model].is_kept for model in leaving)
    assert disk.room + sum(freed) >= need
    assert not leaving or disk.room + sum(freed[:-1]) < need, "the last one was needed"
    ranks = [(not by_model[one].is_leftover, by_model[one].used_unix) for one in leaving]
    assert ranks == sorted(ranks), "leftovers first, then what was used longest ago"


async def test_the_longest_unused_model_leaves_and_pinned_loaded_and_put_there_ones_stay(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "models"
    async with Hub.running() as hub:
        for name in ("pinned", "loaded", "old", "newer", "next"):
            hub.plain[f"{name}.gguf"] = noise(1, seed=len(name))
        room = 4 * PIECE_BYTES + PIECE_BYTES // 2 + 100_000
        async with supplied(folder, disk_limit=room) as supply:
            (folder / "mine.gguf").write_bytes(noise(0.5))
            await supply.pull("pinned", hub.plain_url("pinned.gguf"), pin=True)
            await supply.pull("loaded", hub.plain_url("loaded.gguf"))
            await supply.pull("old", hub.plain_url("old.gguf"))
            await supply.pull("newer", hub.plain_url("newer.gguf"))
            supply.in_use.add("loaded")
            assert is_here(await supply.pull("next", hub.plain_url("next.gguf")))
            assert names(folder) == ["loaded", "mine", "newer", "next", "pinned"]


async def test_the_time_of_last_use_survives_a_restart(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    async with Hub.running() as hub:
        for name in "abc":
            hub.plain[f"{name}.gguf"] = noise(1, seed=ord(name))
        async with supplied(folder) as supply:
            for name in "ab":
                await supply.pull(name, hub.plain_url(f"{name}.gguf"))
            supply.in_use.add("a")
            await supply.pulls._look()
            supply.in_use.clear()
            await supply.pulls._look()
        async with supplied(folder, disk_limit=2 * PIECE_BYTES + 100_000) as supply:
            assert is_here(await supply.pull("c", hub.plain_url("c.gguf")))
            assert names(folder) == ["a", "c"]


async def test_what_does_not_fit_is_refused_with_the_numbers_before_a_byte_is_fetched(
    tmp_path: Path,
) -> None:
    async with Hub.running() as hub:
        hub.plain["kept.gguf"] = noise(1)
        hub.repo("org/big").commit({"big.gguf": noise(6)})
        async with supplied(tmp_path / "models", hub.url, disk_limit=5 * PIECE_BYTES) as supply:
            await supply.pull("kept", hub.plain_url("kept.gguf"), pin=True)
            record = await supply.pull("big", "hf:org/big")
            assert record.stage is Stage.FAILED
            assert "needs 24 MiB" in record.reason
            assert "16 MiB is free" in record.reason
            assert "20.0 MiB (neuron.disk_limit)" in record.reason
            assert "in use hold 4.0 MiB" in record.reason
            assert supply.listed == []
            assert names(supply.folder) == ["kept"]
        assert hub.sent["big.gguf"] == 0


async def test_two_pulls_do_not_count_on_the_same_room(tmp_path: Path) -> None:
    async with Hub.running() as hub:
        for name in "ab":
            hub.plain[f"{name}.gguf"] = noise(3, seed=ord(name))
        for name in "ab":
            hub.mood.faults += [Fault(path=f"{name}.gguf")]
            hub.mood.faults += [Fault(path=f"{name}.gguf", times=3, stall_after=0)]
        async with supplied(
            tmp_path / "models", disk_limit=4 * PIECE_BYTES, pull_stall_s=0.5
        ) as supply:
            for name in "ab":
                await supply.start(name, hub.plain_url(f"{name}.gguf"))
            stages = [(await supply.settled(name)).stage for name in "ab"]
        assert sorted(stages, key=lambda one: one.value) == [Stage.FAILED, Stage.HERE]


async def test_a_disk_that_fills_up_midway_is_a_failure_that_keeps_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = noise(4)
    full = FullAfter(2)
    async with Hub.running() as hub:
        hub.plain["w.gguf"] = data
        async with supplied(tmp_path / "models", pull_connections=1) as supply:
            monkeypatch.setattr(os, "pwrite", full)
            record = await supply.pull("w", hub.plain_url("w.gguf"))
            assert record.stage is Stage.FAILED
            assert "the disk is full; what arrived stays" in record.reason
            monkeypatch.undo()
            hub.sent.clear()
            assert is_here(await supply.pull("w", hub.plain_url("w.gguf")))
            assert hub.sent["w.gguf"] == 2 * PIECE_BYTES + 1


async def test_leftovers_of_a_stopped_pull_make_room_first(tmp_path: Path) -> None:
    async with Hub.running() as hub:
        hub.plain["here.gguf"] = tiny(tmp_path)
        hub.plain["stopped.gguf"] = noise(3)
        hub.plain["next.gguf"] = noise(3, seed=2)
        hub.mood.faults += [Fault(path="stopped", times=2)]
        hub.mood.faults += [Fault(path="stopped", times=99, stall_after=0)]
        async with supplied(
            tmp_path / "models", disk_limit=4 * PIECE_BYTES, pull_connections=1
        ) as supply:
            await supply.pull("here", hub.plain_url("here.gguf"))
            await stopped_after_one(supply, hub.plain_url("stopped.gguf"))
            assert is_here(await supply.pull("next", hub.plain_url("next.gguf")))
            assert names(supply.folder) == ["here", "next"]
            assert supply.leftovers() == []


async def test_a_pulled_file_that_somebody_deleted_is_not_counted_as_room(tmp_path: Path) -> None:
    async with Hub.running() as hub:
        for name in ("gone", "kept", "next"):
            hub.plain[f"{name}.gguf"] = noise(2, seed=len(name))
        async with supplied(tmp_path / "models", disk_limit=5 * PIECE_BYTES) as supply:
            for name in ("gone", "kept"):
                await supply.pull(name, hub.plain_url(f"{name}.gguf"), pin=name == "kept")
            (supply.folder / "gone.gguf").unlink()
            (supply.folder / "mine.gguf").write_bytes(noise(2))
            await supply.store.scan()
            record = await supply.pull("next", hub.plain_url("next.gguf"))
            assert record.stage is Stage.FAILED
            assert "4 MiB is free" in record.reason


async def test_the_room_that_is_left_is_told(tmp_path: Path) -> None:
    async with Hub.running() as hub:
        hub.plain["w.gguf"] = Content(noise(1))
        async with supplied(tmp_path / "models", disk_limit=3 * PIECE_BYTES) as supply:
            await supply.pull("w", hub.plain_url("w.gguf"))
            await supply.pulls._look()
            left = supply.pulls.disk_free_bytes
            assert 2 * PIECE_BYTES - 100_000 < left <= 2 * PIECE_BYTES


class FullAfter:
    """A disk with room for so many more writes."""

    def __init__(self, writes: int) -> None:
        self._left = writes
        self._write = os.pwrite

    def __call__(self, file: int, data: Any, at: int) -> int:
        if self._left == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._left -= 1
        return self._write(file, data, at)


async def stopped_after_one(supply: Supply, source: str) -> None:
    model = ModelId("stopped")
    await supply.start(model, source)
    (store,) = await supply.until(lambda: supply.pulls.of_model(model))
    with store.observe(lambda _: supply.changed()):
        await supply.until(lambda: store.have_count)
    await supply.pulls.cancel(model)


def names(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("*.gguf"))
