"""Memory of a process group as /proc tells it, and how far an estimate was off."""

from __future__ import annotations

import os
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from tests.neuron.bench import PATIENCE_S, bench

from helexa.neuron.supervisor.weighing import error_ratio, group_bytes
from helexa.runtime.contract import Footprint
from helexa.testing.fake_runtime import FakeRuntime

pytestmark = pytest.mark.anyio


def process(proc: Path, pid: int, group: int, **kib: int) -> None:
    folder = proc / str(pid)
    folder.mkdir()
    (folder / "stat").write_text(f"{pid} (odd ) R 1 name) S 1 {group} 5 0\n")
    (folder / "status").write_text(
        "Name:\todd\n" + "".join(f"{name}:\t{size} kB\n" for name, size in kib.items())
    )
    (folder / "smaps_rollup").write_text(
        "0-1 ---p 0 00:00 0 [rollup]\n"
        + "".join(f"{name}:  {size} kB\n" for name, size in kib.items())
    )


def test_one_process_counts_its_own_pages_and_those_of_its_files(tmp_path: Path) -> None:
    process(tmp_path, 7, 7, RssAnon=100, RssFile=1000, RssShmem=10)
    process(tmp_path, 8, 8, RssAnon=9999)
    assert group_bytes(7, tmp_path) == 1110 * 1024


def test_what_workers_share_counts_once(tmp_path: Path) -> None:
    process(tmp_path, 7, 7, Pss_Anon=50, Pss_Shmem=5, RssFile=1000)
    process(tmp_path, 9, 7, Pss_Anon=250, Pss_Shmem=5, RssFile=900)
    assert group_bytes(7, tmp_path) == (50 + 250 + 10 + 1000) * 1024


def test_what_is_gone_or_cannot_be_read_weighs_nothing(tmp_path: Path) -> None:
    process(tmp_path, 7, 7, RssAnon=1)
    (tmp_path / "7/stat").write_text("7 (x")
    (tmp_path / "11").mkdir()
    assert group_bytes(7, tmp_path) == 0
    assert group_bytes(7, tmp_path / "none") == 0
    assert group_bytes(os.getpgrp()) > 1 << 20


def test_an_estimate_is_right_between_its_use_and_its_reserve() -> None:
    need = Footprint(weights=80, kv_cache=10, overhead=10, reserve=50)
    assert error_ratio(need, 100) == error_ratio(need, 150) == 0
    assert error_ratio(need, 80) == pytest.approx(0.25)
    assert error_ratio(need, 200) == pytest.approx(-0.25)


async def test_a_replica_is_weighed_soon_after_it_is_ready() -> None:
    async with bench(FakeRuntime(), {"m": 1 << 20}) as live:
        await live.roster.load("m")
        with anyio.fail_after(PATIENCE_S):
            while not live.roster.loads()[0].memory_bytes:
                await anyio.lowlevel.checkpoint()
        assert live.roster.footprint_errors["m"] < 0  # A Python process is larger than a MiB.
        metrics = (await live.get("/metrics")).content.decode()
        assert 'helexa_footprint_error_ratio{model="m"} -' in metrics
        assert 'helexa_neuron_memory_measured_bytes{model="m"}' in metrics
        await live.roster.unload("m", 1)
        assert live.roster.footprint_errors == {}
