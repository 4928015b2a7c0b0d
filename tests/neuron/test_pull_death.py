"""A process that pulls is killed with -9, and another goes on where it was."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from tests.neuron.supplies import PATIENCE_S, is_here, noise, supplied

from helexa.neuron.models.supply import journal as journals
from helexa.neuron.models.supply.disk_pieces import DiskPieces
from helexa.neuron.models.supply.piece import ORIGIN, PIECE_BYTES
from helexa.neuron.models.supply.records import Stage
from helexa.protocol.ids import ModelId
from helexa.testing.hub import Fault, Hub

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
W = ModelId("w")
PIECES = 8


@asynccontextmanager
async def killed_while_pulling(folder: Path, source: str, pieces: int) -> AsyncIterator[None]:
    command = [sys.executable, "-m", "tests.neuron.pulling", str(folder), source, W, str(pieces)]
    process = await anyio.open_process(command, cwd=ROOT, stderr=None)
    async with process:
        try:
            assert process.stdout is not None
            with anyio.fail_after(PATIENCE_S):
                told = await process.stdout.receive()
            assert told.startswith(b"pieces")
        finally:
            os.kill(process.pid, signal.SIGKILL)
        await process.wait()
    yield


def verified(folder: Path) -> set[int]:
    (path,) = folder.glob(".pulls/*/*.pieces")
    journal = journals.read(path)
    assert journal is not None
    return set(journal.entries)


def pieces_asked_for(hub: Hub) -> list[int]:
    return sorted(int(one.range[6:].split("-")[0]) // PIECE_BYTES for one in hub.requests)


async def test_a_killed_pull_goes_on_by_itself_and_fetches_no_verified_piece_again(
    tmp_path: Path,
) -> None:
    data, folder = noise(PIECES), tmp_path / "models"
    async with Hub.running() as hub:
        hub.plain["w.gguf"] = data
        hub.mood.rate_bytes_per_s = 40 << 20
        async with killed_while_pulling(folder, hub.plain_url("w.gguf"), 3):
            have = verified(folder)
            assert 3 <= len(have) < PIECES
            assert not (folder / "w.gguf").exists()
        hub.mood.rate_bytes_per_s = float("inf")
        hub.requests.clear()
        async with supplied(folder) as supply:
            assert is_here(await supply.settled("w"))
            assert (folder / "w.gguf").read_bytes() == data
        assert pieces_asked_for(hub) == sorted(set(range(PIECES)) - have)


async def test_killed_again_and_again_it_arrives_and_costs_what_was_on_its_way(
    tmp_path: Path,
) -> None:
    data, folder = noise(PIECES), tmp_path / "models"
    async with Hub.running() as hub:
        hub.plain["w.gguf"] = data
        hub.mood.rate_bytes_per_s = 40 << 20
        source = hub.plain_url("w.gguf")
        for pieces in (1, 3, 5):
            async with killed_while_pulling(folder, source, pieces):
                source = "nothing"
        async with supplied(folder) as supply:
            assert is_here(await supply.settled("w"))
            assert (folder / "w.gguf").read_bytes() == data
        # Two connections, three deaths.
        assert hub.sent["w.gguf"] <= len(data) + 1 + 3 * 2 * PIECE_BYTES


async def test_data_that_is_not_what_the_journal_says_is_fetched_again(tmp_path: Path) -> None:
    """As after a power cut, which may keep the journal and lose the data."""
    data, folder = noise(4), tmp_path / "models"
    async with Hub.running() as hub:
        hub.plain["w.gguf"] = data
        hub.mood.faults += [Fault(path="w.gguf", times=4)]
        hub.mood.faults += [Fault(path="w.gguf", times=99, stall_after=5)]
        async with supplied(folder, pull_connections=1) as supply:
            await supply.start("w", hub.plain_url("w.gguf"))
            (store,) = await supply.until(lambda: supply.pulls.of_model(W))
            three = anyio.Event()
            with store.observe(lambda _: three.set() if store.have_count == 3 else None):
                if store.have_count < 3:
                    await three.wait()
        (part,) = folder.glob(".pulls/*/*.part")
        with part.open("r+b") as file:
            file.seek(PIECE_BYTES + 5)
            file.write(b"lost")
        hub.mood.faults.clear()
        hub.sent.clear()
        async with supplied(folder) as supply:
            assert is_here(await supply.settled("w"))
            assert (folder / "w.gguf").read_bytes() == data
        assert hub.sent["w.gguf"] == 2 * PIECE_BYTES


async def test_a_line_that_was_being_written_is_lost_alone(tmp_path: Path) -> None:
    heading = journals.Heading(key="k", size=3 * PIECE_BYTES, model=W, name="w")
    part, path = tmp_path / "w.part", tmp_path / "w.pieces"
    store = await DiskPieces.open_partial(part, path, heading)
    pieces = [noise(1, seed=at) for at in range(3)]
    for at in (0, 1):
        assert await store.write(at, pieces[at], ORIGIN)
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    again = await DiskPieces.open_partial(part, path, heading)
    assert (again.has(0), again.has(1)) == (True, False)
    assert await again.write(1, pieces[1], "peer7")
    assert path.read_bytes().count(b"\n") == whole.count(b"\n")
    third = await DiskPieces.open_partial(part, path, heading)
    assert third.have_count == 2
    assert third.giver(1) == "peer7"
    assert await third.read(1) == pieces[1]


async def test_files_that_were_put_in_place_before_the_kill_are_not_fetched_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "models"
    files = {f"w-0000{at}-of-00002.gguf": noise(1, seed=at) for at in (1, 2)}
    async with Hub.running() as hub:
        hub.repo("org/w").commit(files)
        async with supplied(folder, hub.url) as supply:
            await supply.pull("w", "hf:org/w")
        # As if it had been killed between the two renames, before it noted that it was done.
        (record_path,) = folder.glob(".pulls/*/record.json")
        record_path.write_text(record_path.read_text().replace('"here"', '"wanted"'))
        folder_of = record_path.parent
        first = folder / "w-00001-of-00002.gguf"
        (journal,) = [
            path for path in folder_of.glob("*.pieces") if b"w-00001-of" in path.read_bytes()
        ]
        first.replace(journal.with_suffix(".part"))
        hub.sent.clear()
        async with supplied(folder, hub.url) as supply:
            record = await supply.settled("w")
            assert record.stage is Stage.HERE
            assert first.read_bytes() == files["w-00001-of-00002.gguf"]
        assert hub.sent.total() == 0


def test_the_child_of_these_tests_runs_alone() -> None:
    shown = subprocess.run(
        [sys.executable, "-c", "import tests.neuron.pulling"],
        cwd=ROOT,
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert shown.returncode == 0, shown.stderr
