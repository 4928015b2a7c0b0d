"""NVIDIA GPUs, by the management library where its package is installed, else by nvidia-smi."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from helexa.neuron.hardware._found import Found
from helexa.protocol.work import Device

_ASK_WITHIN_S: Final = 5.0
_DEVICES_MAX: Final = 64
_QUERY: Final = (
    "nvidia-smi",
    "--query-gpu=index,name,memory.total,memory.free,driver_version",
    "--format=csv,noheader,nounits",
)


def probe(root: Path) -> Found:
    # Asking a driver that is not loaded costs a second with some versions of the library.
    if not (root / "proc/driver/nvidia").exists():
        return Found()
    by_library = from_library(_library())
    return Found(devices=by_library if by_library is not None else from_text(_asked()))


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
        return tuple(_device(library, index, driver) for index in range(count))
    except library.NVMLError:
        return None
    finally:
        library.nvmlShutdown()


def from_text(text: str) -> tuple[Device, ...]:
    """Devices from nvidia-smi's lines; a line that is not understood is no device."""
    devices = []
    for line in text.splitlines()[:_DEVICES_MAX]:
        words = [word.strip() for word in line.split(",")]
        if len(words) != 5 or not all(words[at].isdigit() for at in (0, 2, 3)):
            continue
        devices.append(
            Device(
                index=int(words[0]),
                vendor="nvidia",
                name=words[1][:200],
                memory_bytes=int(words[2]) << 20,
                memory_free_bytes=int(words[3]) << 20,
                driver=words[4][:64],
            )
        )
    return tuple(devices)


def _device(library: Any, index: int, driver: str) -> Device:
    handle = library.nvmlDeviceGetHandleByIndex(index)
    memory = library.nvmlDeviceGetMemoryInfo(handle)
    return Device(
        index=index,
        vendor="nvidia",
        name=_text(library.nvmlDeviceGetName(handle))[:200],
        memory_bytes=int(memory.total),
        memory_free_bytes=int(memory.free),
        driver=driver[:64],
    )


def _library() -> Any:
    try:
        import pynvml  # An optional package, and needed only where there is a driver.
    except ImportError:
        return None
    return pynvml


def _asked(run: Callable[..., subprocess.CompletedProcess[str]] = subprocess.run) -> str:
    try:
        answer = run(_QUERY, capture_output=True, text=True, timeout=_ASK_WITHIN_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout if answer.returncode == 0 else ""


def _text(value: str | bytes) -> str:
    # Older versions of the library answer in bytes.
    return value.decode(errors="replace") if isinstance(value, bytes) else value
