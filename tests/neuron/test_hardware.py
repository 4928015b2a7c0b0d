"""Machines made of folders and libraries made of functions."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import psutil
import pytest

from helexa.neuron import hardware
from helexa.neuron.hardware import _cgroup, _visible, amd, apple, cpu, nvidia
from helexa.protocol.work import OWN_MEMORY, UNIFIED_MEMORY, Device


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
    assert hardware.probes() == ("amd", "apple", "cpu", "nvidia")
    assert found.numa_nodes >= 1


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
    """The management library, as far as it is asked. GPUs are mappings of what is known of them."""

    class NVMLError(Exception):
        pass

    def __init__(self, *gpus: dict[str, Any], broken: str = "") -> None:
        self.shut = False
        self._gpus = gpus or (H200, H200 | {"UUID": b"GPU-2"})
        self._broken = broken

    def __getattr__(self, name: str) -> Any:
        def answer(*asked: Any) -> Any:
            if name == self._broken:
                raise self.NVMLError(name)
            match name.removeprefix("nvmlDevice").removeprefix("nvml"):
                case "Init":
                    return None
                case "SystemGetDriverVersion":
                    return b"570.1"
                case "GetCount":
                    return len(self._gpus)
                case "GetHandleByIndex":
                    return self._gpus[asked[0]]
                case "GetMaxMigDeviceCount":
                    return 7
                case "GetMigDeviceHandleByIndex" if asked[1] < len(asked[0]["parts"]):
                    return asked[0]["parts"][asked[1]]
                case other if other.removeprefix("Get") in asked[0]:
                    return asked[0][other.removeprefix("Get")]
                case _:
                    raise self.NVMLError("not supported")

        return answer

    def nvmlShutdown(self) -> None:  # noqa: N802 - the library's name
        self.shut = True


def memory(total: int, free: int) -> Any:
    return type("Memory", (), {"total": total << 30, "free": free << 30})


H200: dict[str, Any] = {
    "Name": "H200",
    "UUID": b"GPU-1",
    "MemoryInfo": memory(141, 100),
    "CudaComputeCapability": (9, 0),
}


def test_devices_are_read_from_the_library() -> None:
    library = Library()
    found = nvidia.from_library(library)
    assert found is not None
    assert [(each.index, each.name, each.memory_bytes >> 30) for each in found] == [
        (0, "H200", 141),
        (1, "H200", 141),
    ]
    assert (found[0].driver, found[0].compute, found[1].uuid) == ("570.1", "9.0", "GPU-2")
    assert library.shut


def test_a_divided_gpu_is_its_parts() -> None:
    parts = [
        {"Name": "H200 MIG 3g.71gb", "UUID": f"MIG-{at}", "MemoryInfo": memory(70, 69)}
        for at in range(2)
    ]
    divided = H200 | {"MigMode": (1, 1), "parts": parts}
    whole = H200 | {"MigMode": (0, 0), "UUID": "GPU-2"}
    found = nvidia.from_library(Library(divided, whole))
    assert found is not None
    assert [(each.index, each.uuid, each.memory_bytes >> 30) for each in found] == [
        (0, "MIG-0", 70),
        (0, "MIG-1", 70),
        (1, "GPU-2", 141),
    ]
    assert {each.compute for each in found} == {"9.0"}


def test_a_gpu_without_memory_of_its_own_is_unified_and_a_lost_one_is_left_out() -> None:
    spark = {"Name": "GB10", "UUID": "GPU-3"}
    lost: dict[str, Any] = {}
    found = nvidia.from_library(Library(lost, spark))
    assert found is not None
    (only,) = found
    assert (only.index, only.name, only.memory) == (1, "GB10", UNIFIED_MEMORY)


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


def test_newer_drivers_say_more_and_a_divided_gpu_is_nothing_to_nvidia_smi() -> None:
    text = (
        "0, NVIDIA H100, 81559, 81000, 570.86.10, GPU-a1, 9.0, Disabled\n"
        "1, NVIDIA H100, 81559, 81000, 570.86.10, GPU-b2, 9.0, Enabled\n"
        "2, NVIDIA GeForce RTX 4090, 24564, 24000, 570.86.10, GPU-c3, 8.9, [N/A]\n"
    )
    found = nvidia.from_text(text)
    assert [(each.uuid, each.compute) for each in found] == [("GPU-a1", "9.0"), ("GPU-c3", "8.9")]


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        (None, ["GPU-aa", "MIG-1", "MIG-2"]),
        ("", []),
        ("-1", []),
        ("1", ["MIG-1"]),
        ("GPU-a,1", ["GPU-aa", "MIG-1"]),
        ("MIG-2,7,0", ["MIG-2"]),
        ("0,0", ["GPU-aa"]),
    ],
)
def test_the_neuron_sees_what_a_program_would_that_computes(
    tmp_path: Path, text: str | None, seen: list[str]
) -> None:
    fleet = [
        Device(index=index, vendor="nvidia", name="X", memory_bytes=1, uuid=uuid)
        for index, uuid in ((0, "GPU-aa"), (1, "MIG-1"), (1, "MIG-2"))
    ]
    environment = "A=1\0" if text is None else f"A=1\0CUDA_VISIBLE_DEVICES={text}\0"
    root = machine(tmp_path, {"proc/self/environ": environment})
    told = _visible.variable(root, "CUDA_VISIBLE_DEVICES")
    assert told == text
    assert [one.uuid for one in _visible.visible(fleet, told)] == seen


def test_nvidia_smi_that_hangs_fails_or_is_missing_says_nothing() -> None:
    def hangs(*_: Any, **__: Any) -> Any:
        raise subprocess.TimeoutExpired("nvidia-smi", 5)

    def missing(*_: Any, **__: Any) -> Any:
        raise FileNotFoundError

    def fails(*_: Any, **__: Any) -> Any:
        return subprocess.CompletedProcess((), 9, stdout="0, X, 1, 1, 1")

    def works(*_: Any, **__: Any) -> Any:
        return subprocess.CompletedProcess((), 0, stdout="text")

    answers = [nvidia._asked(("index",), run) for run in (hangs, missing, fails, works)]
    assert answers == ["", "", "", "text"]


def test_a_machine_without_the_driver_is_not_asked(tmp_path: Path) -> None:
    assert nvidia.probe(tmp_path).devices == ()
    assert hardware.devices(tmp_path) == ()


# --- AMD


GPU_NODE = "cpu_cores_count 0\nsimd_count 416\ngfx_target_version 90402\ndrm_render_minor 129\n"
APU_NODE = "cpu_cores_count 16\nsimd_count 40\ngfx_target_version 110501\ndrm_render_minor 128\n"
CPU_NODE = "cpu_cores_count 64\nsimd_count 0\ngfx_target_version 0\ndrm_render_minor 0\n"


def amd_machine(root: Path) -> Path:
    nodes, cards = "sys/class/kfd/kfd/topology/nodes", "sys/class/drm"
    return machine(
        root,
        {
            "sys/module/amdgpu/version": "6.10.5\n",
            f"{nodes}/0/properties": CPU_NODE,
            f"{nodes}/1/properties": GPU_NODE,
            f"{nodes}/2/properties": APU_NODE,
            f"{cards}/card0/device/vendor": "0x1002\n",
            f"{cards}/card0/device/mem_info_vram_total": f"{1 << 29}\n",
            f"{cards}/card0/device/mem_info_vram_used": f"{1 << 28}\n",
            f"{cards}/card0/device/drm/renderD128/dev": "226:128\n",
            f"{cards}/card1/device/vendor": "0x1002\n",
            f"{cards}/card1/device/product_name": "AMD Instinct MI300X\n",
            f"{cards}/card1/device/unique_id": "1a2b3c\n",
            f"{cards}/card1/device/mem_info_vram_total": f"{192 << 30}\n",
            f"{cards}/card1/device/mem_info_vram_used": f"{2 << 30}\n",
            f"{cards}/card1/device/drm/renderD129/dev": "226:129\n",
            f"{cards}/card1-DP-1/status": "disconnected\n",
            f"{cards}/card2/device/vendor": "0x10de\n",
        },
    )


def test_amds_devices_are_read_from_the_kernels_files_in_rocms_order(tmp_path: Path) -> None:
    first, second = amd.probe(amd_machine(tmp_path)).devices
    assert (first.name, first.compute, first.uuid) == (
        "AMD Instinct MI300X",
        "gfx942",
        "GPU-1a2b3c",
    )
    assert (first.memory_bytes >> 30, first.memory_free_bytes >> 30) == (192, 190)
    assert (first.driver, first.memory) == ("6.10.5", OWN_MEMORY)
    assert (second.index, second.compute, second.memory) == (1, "gfx1151", UNIFIED_MEMORY)


def test_amds_own_variable_is_honoured(tmp_path: Path) -> None:
    root = machine(amd_machine(tmp_path), {"proc/self/environ": "ROCR_VISIBLE_DEVICES=1\0"})
    assert [one.index for one in amd.probe(root).devices] == [1]


class Smi:
    """ROCm's management library, as far as it is asked."""

    class AmdSmiException(Exception):
        pass

    amdsmi_init = amdsmi_shut_down = staticmethod(lambda: None)
    amdsmi_get_processor_handles = staticmethod(lambda: ["a"])
    amdsmi_get_gpu_asic_info = staticmethod(
        lambda _: {"market_name": "MI300X", "target_graphics_version": "gfx942"}
    )
    amdsmi_get_gpu_vram_usage = staticmethod(lambda _: {"vram_total": 2048, "vram_used": 512})
    amdsmi_get_gpu_driver_info = staticmethod(lambda _: {"driver_version": "6.10.5"})
    amdsmi_get_gpu_device_uuid = staticmethod(lambda _: "d4ff74a1-0000-1000-80c1-9f4a3b2c1d00")


def test_amds_devices_are_read_from_the_library_where_there_is_one() -> None:
    found = amd.from_library(Smi)
    assert found is not None
    (only,) = found
    assert (only.name, only.memory_bytes >> 20, only.memory_free_bytes >> 20, only.compute) == (
        "MI300X",
        2048,
        1536,
        "gfx942",
    )


def test_an_amd_library_that_fails_or_says_other_words_is_not_believed() -> None:
    def fails(*_: Any) -> Any:
        raise Smi.AmdSmiException

    assert amd.from_library(type("Broken", (Smi,), {"amdsmi_init": staticmethod(fails)})) is None
    other = {"amdsmi_get_gpu_vram_usage": staticmethod(lambda _: {})}
    assert amd.from_library(type("Newer", (Smi,), other)) is None
    assert amd.from_library(None) is None


# --- Apple


def test_apples_memory_is_one_and_part_of_it_is_the_gpus() -> None:
    text = "machdep.cpu.brand_string: Apple M4 Max\nhw.memsize: 137438953472\n"
    (device,) = apple.from_text(text).devices
    assert (device.name, device.memory, device.memory_bytes >> 30) == (
        "Apple M4 Max",
        UNIFIED_MEMORY,
        96,
    )
    (raised,) = apple.from_text(text + "iogpu.wired_limit_mb: 122880\n").devices
    assert raised.memory_bytes >> 30 == 120


@pytest.mark.parametrize(
    "text", ["", "garbage", "machdep.cpu.brand_string: Intel(R) Core(TM) i9\nhw.memsize: 1\n"]
)
def test_other_macs_have_no_device(text: str) -> None:
    assert apple.from_text(text).devices == ()


def test_a_sysctl_that_is_missing_says_nothing() -> None:
    def missing(*_: Any, **__: Any) -> Any:
        raise FileNotFoundError

    assert apple._asked(missing) == ""


# --- processors


def test_instructions_for_matrices_are_among_the_processors_features(tmp_path: Path) -> None:
    text = "processor: 0\nmodel name: X\nflags: fpu sse2 avx2 avx512f amx_bf16 zzz\n"
    found = cpu.probe(machine(tmp_path, {"proc/cpuinfo": text}))
    assert found.cpu_features == ("avx2", "avx512f", "amx_bf16")
    assert found.cpu_model == "X"


@pytest.mark.parametrize(
    "files",
    [
        {
            "proc/self/cgroup": "0::/a\n",
            "sys/fs/cgroup/cgroup.controllers": "cpuset\n",
            "sys/fs/cgroup/a/cpuset.cpus.effective": "0\n",
        },
        {
            "proc/self/cgroup": "3:cpuset:/a\n",
            "sys/fs/cgroup/cpuset/a/cpuset.effective_cpus": "0\n",
        },
        {"proc/self/cgroup": "3:cpuset:/a\n", "sys/fs/cgroup/cpuset/a/cpuset.cpus": "0\n"},
    ],
    ids=["version 2", "version 1", "version 1, older"],
)
def test_a_containers_set_of_cpus_holds(tmp_path: Path, files: dict[str, str]) -> None:
    root = machine(tmp_path, files)
    assert _cgroup.limits(root).cpus_allowed == frozenset({0})
    if 0 in os.sched_getaffinity(0):
        assert cpu.probe(root).cpus == 1
        assert [core.cpus for core in cpu.cores(root)] == [(0,)]
