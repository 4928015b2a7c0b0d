"""NVIDIA GPUs, by the management library where its package is installed, else by nvidia-smi.

A GPU that was divided (MIG) is its parts: programs can use a part, and never the whole.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from helexa.neuron.hardware import _visible
from helexa.neuron.hardware._found import Found
from helexa.protocol.work import OWN_MEMORY, UNIFIED_MEMORY, Device

_ASK_WITHIN_S: Final = 5.0
_DEVICES_MAX: Final = 64
_FIELDS: Final = ("index", "name", "memory.total", "memory.free", "driver_version")
_NEW_FIELDS: Final = ("uuid", "compute_cap", "mig.mode.current")
"""An older program refuses a question that has one that it does not know."""


def probe(root: Path) -> Found:
    # Asking a driver that is not loaded costs a second with some versions of the library.
    if not (root / "proc/driver/nvidia").exists():
        return Found()
    found = from_library(_library())
    if found is None:
        found = from_text(_asked((*_FIELDS, *_NEW_FIELDS)) or _asked(_FIELDS))
    return Found(devices=_visible.visible(found, _visible.variable(root, "CUDA_VISIBLE_DEVICES")))


def from_library(library: Any) -> tuple[Device, ...] | None:
    """None where there is no library, or it cannot talk to the driver."""
    if library is None:
        return None
    try:
        library.nvmlInit()
    except library.NVMLError:
        return None
    try:
        driver = _text(library.nvmlSystemGetDriverVersion())
        count = min(int(library.nvmlDeviceGetCount()), _DEVICES_MAX)
        found = [one for at in range(count) for one in _whole_or_parts(library, at, driver)]
        return tuple(found) if found or not count else None
    except library.NVMLError:
        return None
    finally:
        library.nvmlShutdown()


def from_text(text: str) -> tuple[Device, ...]:
    """Devices from nvidia-smi's lines; a line that is not understood is no device.

    Nor is one that was divided: what its parts hold is not among the answers.
    """
    devices = []
    for line in text.splitlines()[:_DEVICES_MAX]:
        words = [word.strip() for word in line.split(",")]
        if len(words) == len(_FIELDS):
            words += ["", "", ""]
        if len(words) != len(_FIELDS) + len(_NEW_FIELDS) or words[7] == "Enabled":
            continue
        if not all(words[at].isdecimal() for at in (0, 2, 3)):
            continue
        devices.append(
            Device(
                index=int(words[0]),
                vendor="nvidia",
                name=words[1][:200],
                memory_bytes=int(words[2]) << 20,
                memory_free_bytes=int(words[3]) << 20,
                driver=words[4][:64],
                uuid=words[5][:100],
                compute=words[6][:16],
            )
        )
    return tuple(devices)


def _whole_or_parts(library: Any, index: int, driver: str) -> Iterator[Device]:
    """One GPU that fell off the bus does not hide the others."""
    try:
        handle = library.nvmlDeviceGetHandleByIndex(index)
        compute = _compute(library, handle)
        parts = _parts(library, handle)
        if parts is None:
            yield _device(library, handle, index, driver, compute)
        for part in parts or ():
            yield _device(library, part, index, driver, compute)
    except library.NVMLError:
        return


def _parts(library: Any, handle: Any) -> Sequence[Any] | None:
    """None for a GPU that is not divided."""
    try:
        current, _ = library.nvmlDeviceGetMigMode(handle)
        if not current:
            return None
        most = int(library.nvmlDeviceGetMaxMigDeviceCount(handle))
    except library.NVMLError:
        return None  # One that cannot be divided says so by an error.
    found = []
    for at in range(min(most, _DEVICES_MAX)):
        try:
            found.append(library.nvmlDeviceGetMigDeviceHandleByIndex(handle, at))
        except library.NVMLError:
            continue
    return found


def _device(library: Any, handle: Any, index: int, driver: str, compute: str) -> Device:
    name, uuid = library.nvmlDeviceGetName(handle), library.nvmlDeviceGetUUID(handle)
    total, free, memory = 0, 0, OWN_MEMORY
    try:
        held = library.nvmlDeviceGetMemoryInfo(handle)
        total, free = int(held.total), int(held.free)
    except library.NVMLError:
        memory = UNIFIED_MEMORY  # It has none of its own, as in a Jetson or a Spark.
    return Device(
        index=index,
        vendor="nvidia",
        name=_text(name)[:200],
        memory_bytes=total,
        memory_free_bytes=free,
        driver=driver[:64],
        uuid=_text(uuid)[:100],
        compute=compute,
        memory=memory,
    )


def _compute(library: Any, handle: Any) -> str:
    try:
        major, minor = library.nvmlDeviceGetCudaComputeCapability(handle)
    except library.NVMLError:
        return ""
    return f"{major}.{minor}"


def _library() -> Any:
    try:
        import pynvml  # An optional package, and needed only where there is a driver.
    except ImportError:
        return None
    return pynvml


def _asked(
    fields: Sequence[str],
    run: Callable[..., subprocess.CompletedProcess[str]] = subprocess.run,
) -> str:
    query = ("nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits")
    try:
        answer = run(query, capture_output=True, text=True, timeout=_ASK_WITHIN_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout if answer.returncode == 0 else ""


def _text(value: str | bytes) -> str:
    # Older versions of the library answer in bytes.
    return value.decode(errors="replace") if isinstance(value, bytes) else value
