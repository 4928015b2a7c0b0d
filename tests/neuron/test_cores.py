"""CPUs for each replica: whole cores, near ones, nobody else's."""

from __future__ import annotations

import json
import os
from pathlib import Path

import anyio
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.neuron.bench import PATIENCE_S, Journal, bench
from tests.neuron.test_app import settings

from helexa.mesh.transports.memory import MemoryNetwork
from helexa.neuron import cores
from helexa.neuron.app import running
from helexa.neuron.cores import Core, parse, pick, written
from helexa.neuron.hardware import _topology
from helexa.neuron.settings import ModelSettings
from helexa.neuron.supervisor.grants import Machine
from helexa.protocol.errors import NoCapacity
from helexa.testing import tiny_gguf
from helexa.testing.fake_runtime import FakeRuntime

pytestmark = pytest.mark.anyio

MACHINE = tuple(Core((at, at + 8), at // 4) for at in range(8))
"""Two nodes of four cores with two threads each."""


@given(st.sets(st.integers(0, 200), min_size=1))
def test_what_is_written_is_read(cpus: set[int]) -> None:
    assert parse(written(cpus)) == tuple(sorted(cpus))


@pytest.mark.parametrize("text", ["", "a", "3-1", "0,,1", "-1", "0-99999", "1;2", "٣"])
def test_what_is_no_list_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="CPUs"):
        parse(text)


@given(st.lists(st.integers(1, 5), max_size=6))
def test_no_cpu_is_picked_twice_and_cores_stay_whole(counts: list[int]) -> None:
    taken: set[int] = set()
    for count in counts:
        found = pick(count, MACHINE, taken)
        assert not taken & set(found)
        assert {(cpu + 8) % 16 for cpu in found} == set(found)
        assert len(found) == 2 * min(count, 8 - len(taken) // 2)
        taken.update(found)


def test_cores_are_on_one_node_where_one_has_enough() -> None:
    assert pick(2, MACHINE, {0, 8}) == (1, 2, 9, 10)
    assert pick(4, MACHINE, {0, 8}) == (4, 5, 6, 7, 12, 13, 14, 15)
    assert pick(8, MACHINE, ()) == tuple(range(16))


def test_a_thread_for_each_core() -> None:
    assert cores.threads((0, 8, 1), MACHINE) == 2
    assert cores.threads((3,), ()) == 1


def test_the_systems_files_say_what_belongs_together(tmp_path: Path) -> None:
    for cpu, core in ((0, 0), (1, 1), (2, 0), (3, 1)):
        folder = tmp_path / f"sys/devices/system/cpu/cpu{cpu}/topology"
        folder.mkdir(parents=True)
        (folder / "core_id").write_text(f"{core}\n")
        (folder / "physical_package_id").write_text("0\n")
    for node, cpus in ((0, "0,2"), (1, "1,3"), (2, "")):
        folder = tmp_path / f"sys/devices/system/node/node{node}"
        folder.mkdir(parents=True)
        (folder / "cpulist").write_text(f"{cpus}\n")
    assert _topology.cores(tmp_path, (0, 1, 2)) == (Core((0, 2), 0), Core((1,), 1))
    assert _topology.node_count(tmp_path) == 2
    assert _topology.cores(tmp_path / "nothing", (5, 6)) == (Core((5,)), Core((6,)))


# --- the neuron


HERE = sorted(os.sched_getaffinity(0))
OURS = Machine(cores=tuple(Core((cpu,)) for cpu in HERE))


async def test_a_model_runs_on_the_cpus_that_it_was_given(journal: Journal) -> None:
    last = HERE[-1]
    async with bench(
        FakeRuntime(journal=journal.path),
        {"a": 1},
        machine=OURS,
        models={"a": ModelSettings(cpus=str(last))},
    ) as live:
        await live.roster.load("a")
        assert (await journal.heard("started"))["cpus"] == [last]


async def test_cpus_that_are_not_there_are_refused_with_those_that_are() -> None:
    async with bench(
        FakeRuntime(), {"a": 1}, machine=OURS, models={"a": ModelSettings(cpus="0-9999")}
    ) as live:
        with pytest.raises(NoCapacity) as caught:
            await live.roster.load("a")
        assert f"may use {written(HERE)}" in caught.value.message
        assert "may use" in live.roster.capability("a").reason


async def test_pinned_models_share_no_cpu_and_the_one_too_many_is_told_why(
    journal: Journal,
) -> None:
    two = Machine(cores=OURS.cores[:2], pins=True)
    async with bench(
        FakeRuntime(journal=journal.path), {"a": 1, "b": 1, "c": 1}, machine=two
    ) as live:
        seen = []
        for model in ("a", "b"):
            await live.roster.load(model)
            seen.append((await journal.heard("started"))["cpus"])
        assert sorted(seen) == [[HERE[0]], [HERE[1]]]
        with pytest.raises(NoCapacity, match="all are pinned to 'a', 'b'"):
            await live.roster.load("c")
        await live.roster.unload("a", 0)
        await live.roster.load("c")


async def test_the_real_engine_runs_on_its_cpus_with_as_many_threads(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    tiny_gguf.write(folder / "tiny.gguf", context_tokens=512)
    chosen = settings(tmp_path, folder, models={"tiny": ModelSettings(cpus=str(HERE[-1]))})
    transports = {"memory": MemoryNetwork().open_transport}
    with anyio.fail_after(PATIENCE_S):
        async with running(chosen, open_transports=transports) as neuron:
            await neuron.roster.load("tiny")
            replica = await neuron.roster.replica("tiny")
            assert replica.engine is not None
            engine = psutil.Process(replica.engine.process.pid)
            assert engine.cpu_affinity() == [HERE[-1]]
            assert json.loads(engine.cmdline()[-1])["threads"] == 1
