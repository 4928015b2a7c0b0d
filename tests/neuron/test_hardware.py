"""Machines made of folders and libraries made of functions."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import psutil
import pytest

from helexa.neuron import hardware
from helexa.neuron.hardware import _cgroup, cpu, nvidia


def machine(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_this_machine_has_a_fingerprint() -> None:
    found = hardware.fingerprint()
    assert found.cpus > 0
    assert 0 < found.memory_bytes <= psutil.virtual_memory().total
    assert found.machine
    assert hardware.probes() == ("cpu", "nvidia")


def test_a_container_of_version_2_has_its_own_limits(tmp_path: Path) -> None:
    root = machine(
        tmp_path,
        {
            "proc/self/cgroup": "0::/\n",
            "sys/fs/cgroup/cgroup.controllers": "cpu memory\n",
            "sys/fs/cgroup/memory.max": "536870912\n",
            "sys/fs/cgroup/memory.current": "300000000\n",
            "sys/fs/cgroup/memory.stat": "anon 5\ninactive_file 100000000\n",
            "sys/fs/cgroup/cpu.max": "150000 100000\n",
        },
    )
    assert _cgroup.limits(root) == _cgroup.Limits(
        memory_bytes=536870912, memory_used=200000000, cpus=1.5
    )
    assert cpu.probe(root).memory_bytes == 536870912
    assert cpu.probe(root).cpus <= 1.5
    assert cpu.memory_available(root) <= 536870912 - 200000000


def test_the_smallest_limit_on_the_way_up_counts(tmp_path: Path) -> None:
    root = machine(
        tmp_path,
        {
            "proc/self/cgroup": "0::/system.slice/helexa.service\n",
            "sys/fs/cgroup/cgroup.controllers": "cpu memory\n",
            "sys/fs/cgroup/system.slice/memory.max": "1000\n",
            "sys/fs/cgroup/system.slice/cpu.max": "max 100000\n",
            "sys/fs/cgroup/system.slice/helexa.service/memory.max": "max\n",
            "sys/fs/cgroup/system.slice/helexa.service/cpu.max": "50000 100000\n",
        },
    )
    assert _cgroup.limits(root) == _cgroup.Limits(memory_bytes=1000, cpus=0.5)


def test_a_container_of_version_1_has_its_own_limits(tmp_path: Path) -> None:
    root = machine(
        tmp_path,
        {
            "proc/self/cgroup": "5:memory:/docker/x\n4:cpu,cpuacct:/docker/x\n",
            "sys/fs/cgroup/memory/docker/x/memory.limit_in_bytes": "2000\n",
            "sys/fs/cgroup/memory/docker/x/memory.usage_in_bytes": "700\n",
            "sys/fs/cgroup/memory/docker/x/memory.stat": "total_inactive_file 200\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            "sys/fs/cgroup/cpu/docker/x/cpu.cfs_quota_us": "200000\n",
            "sys/fs/cgroup/cpu/docker/x/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        },
    )
    assert _cgroup.limits(root) == _cgroup.Limits(memory_bytes=2000, memory_used=500, cpus=2.0)


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"proc/self/cgroup": "garbage\n\n:::\n"},
        {
            "proc/self/cgroup": "0::/../../etc\n",
            "sys/fs/cgroup/cgroup.controllers": "",
            "sys/fs/cgroup/memory.max": "lots\n",
            "sys/fs/cgroup/cpu.max": "max\n",
        },
    ],
)
def test_no_limits_are_found_where_there_are_none(tmp_path: Path, files: dict[str, str]) -> None:
    assert _cgroup.limits(machine(tmp_path, files)) == _cgroup.Limits()


def test_threads_follow_the_share_of_the_processor_and_are_never_none() -> None:
    assert cpu.compute_threads(0.5) == 1
    assert 1 <= cpu.compute_threads(1000) <= (psutil.cpu_count() or 1)


class Library:
    """The management library, as far as it is asked."""

    class NVMLError(Exception):
        pass

    def __init__(self, *, broken: str = "") -> None:
        self.shut = False
        self._broken = broken

    def __getattr__(self, name: str) -> Any:
        if name == self._broken:
            raise self.NVMLError(name)
        answers: dict[str, Any] = {
            "nvmlInit": None,
            "nvmlSystemGetDriverVersion": b"570.1",
            "nvmlDeviceGetCount": 2,
            "nvmlDeviceGetName": "H200",
            "nvmlDeviceGetMemoryInfo": type("Memory", (), {"total": 141 << 30, "free": 100 << 30}),
        }
        return lambda *_: answers.get(name)

    def nvmlShutdown(self) -> None:  # noqa: N802 - the library's name
        self.shut = True


def test_devices_are_read_from_the_library() -> None:
    library = Library()
    found = nvidia.from_library(library)
    assert found is not None
    assert [(each.index, each.name, each.memory_bytes >> 30) for each in found] == [
        (0, "H200", 141),
        (1, "H200", 141),
    ]
    assert found[0].driver == "570.1"
    assert library.shut


@pytest.mark.parametrize("broken", ["nvmlInit", "nvmlDeviceGetCount", "nvmlDeviceGetName"])
def test_a_library_that_fails_is_no_device_and_no_crash(broken: str) -> None:
    assert nvidia.from_library(Library(broken=broken)) is None
    assert nvidia.from_library(None) is None


def test_devices_are_read_from_nvidia_smi_and_odd_lines_are_none() -> None:
    text = (
        "0, NVIDIA H200, 143771, 143000, 570.86.10\n"
        "1, Tesla, [N/A], 1, 2\n"
        "No devices were found\n"
        "\n"
    )
    (device,) = nvidia.from_text(text)
    assert (device.name, device.memory_bytes, device.driver) == (
        "NVIDIA H200",
        143771 << 20,
        "570.86.10",
    )


def test_nvidia_smi_that_hangs_fails_or_is_missing_says_nothing() -> None:
    def hangs(*_: Any, **__: Any) -> Any:
        raise subprocess.TimeoutExpired("nvidia-smi", 5)

    def missing(*_: Any, **__: Any) -> Any:
        raise FileNotFoundError

    def fails(*_: Any, **__: Any) -> Any:
        return subprocess.CompletedProcess((), 9, stdout="0, X, 1, 1, 1")

    def works(*_: Any, **__: Any) -> Any:
        return subprocess.CompletedProcess((), 0, stdout="text")

    assert [nvidia._asked(run) for run in (hangs, missing, fails, works)] == ["", "", "", "text"]


def test_a_machine_without_the_driver_is_not_asked(tmp_path: Path) -> None:
    assert nvidia.probe(tmp_path).devices == ()
