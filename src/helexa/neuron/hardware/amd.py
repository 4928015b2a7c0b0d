"""AMD GPUs, by the management library where ROCm brought it, else by the kernel's own files.

Numbers are those of ROCm: its kernel driver's order, not that of the cards on a screen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from helexa.neuron.hardware import _visible
from helexa.neuron.hardware._found import Found
from helexa.protocol.work import OWN_MEMORY, UNIFIED_MEMORY, Device

_MAKER: Final = "0x1002"
_DEVICES_MAX: Final = 64
_MIB: Final = 1 << 20


def probe(root: Path) -> Found:
    if not (root / "sys/module/amdgpu").exists():
        return Found()
    found = from_library(_library()) or from_files(root)
    for name in ("ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"):
        found = _visible.visible(found, _visible.variable(root, name))
    return Found(devices=found)


def from_library(library: Any) -> tuple[Device, ...] | None:
    """None where there is no library, or it cannot talk to the driver."""
    if library is None:
        return None
    try:
        library.amdsmi_init()
    except library.AmdSmiException:
        return None
    try:
        handles = library.amdsmi_get_processor_handles()[:_DEVICES_MAX]
        return tuple(_of_handle(library, at, handle) for at, handle in enumerate(handles))
    except (library.AmdSmiException, KeyError, TypeError, ValueError):
        return None  # Its answers are mappings whose keys changed between versions.
    finally:
        library.amdsmi_shut_down()


def from_files(root: Path) -> tuple[Device, ...]:
    driver = _line(root / "sys/module/amdgpu/version")
    found = []
    for card in _cards(root):
        total = _number(card.folder / "mem_info_vram_total")
        used = _number(card.folder / "mem_info_vram_used")
        if total is None:
            continue
        found.append(
            Device(
                index=card.index,
                vendor="amd",
                name=(_line(card.folder / "product_name") or "AMD GPU")[:200],
                memory_bytes=total,
                memory_free_bytes=max(0, total - (used or 0)),
                driver=driver[:64],
                uuid=f"GPU-{unique}" if (unique := _line(card.folder / "unique_id")) else "",
                compute=card.compute,
                memory=UNIFIED_MEMORY if card.beside_cpu else OWN_MEMORY,
            )
        )
    return tuple(sorted(found, key=lambda one: one.index))


@dataclass(frozen=True, slots=True)
class _Card:
    folder: Path
    index: int
    compute: str = ""
    beside_cpu: bool = False
    """It is part of a processor and has its memory."""


def _cards(root: Path) -> Iterator[_Card]:
    """Of this maker, with what ROCm's part of the kernel says of each."""
    nodes = [one for one in _compute_nodes(root) if int(one.get("simd_count", "0"))]
    by_minor = {one.get("drm_render_minor", ""): at for at, one in enumerate(nodes)}
    folders = sorted((root / "sys/class/drm").glob("card[0-9]*"), key=lambda one: _digits(one.name))
    for place, card in enumerate(one for one in folders if one.name[4:].isdecimal()):
        device = card / "device"
        if _line(device / "vendor") != _MAKER or place >= _DEVICES_MAX:
            continue
        minors = [one.name.removeprefix("renderD") for one in (device / "drm").glob("renderD*")]
        at = next((by_minor[minor] for minor in minors if minor in by_minor), None)
        if at is None:
            yield _Card(device, place)
        else:
            node = nodes[at]
            yield _Card(
                device,
                at,
                _generation(node.get("gfx_target_version", "")),
                beside_cpu=node.get("cpu_cores_count", "0") != "0",
            )


def _compute_nodes(root: Path) -> Iterator[Mapping[str, str]]:
    folders = (root / "sys/class/kfd/kfd/topology/nodes").glob("[0-9]*")
    for folder in sorted(folders, key=lambda one: _digits(one.name)):
        pairs = (line.split() for line in _text(folder / "properties").splitlines())
        yield {pair[0]: pair[1] for pair in pairs if len(pair) == 2 and pair[1].isdecimal()}


def _generation(version: str) -> str:
    """90402 -> gfx942; the last two parts are written in hexadecimal."""
    if not version.isdecimal() or not int(version):
        return ""
    number = int(version)
    return f"gfx{number // 10_000}{number // 100 % 100:x}{number % 100:x}"


def _of_handle(library: Any, index: int, handle: Any) -> Device:
    about = library.amdsmi_get_gpu_asic_info(handle)
    memory = library.amdsmi_get_gpu_vram_usage(handle)
    driver = library.amdsmi_get_gpu_driver_info(handle)
    total, used = int(memory["vram_total"]) * _MIB, int(memory["vram_used"]) * _MIB
    return Device(
        index=index,
        vendor="amd",
        name=str(about["market_name"])[:200],
        memory_bytes=total,
        memory_free_bytes=max(0, total - used),
        driver=str(driver["driver_version"])[:64],
        uuid=str(library.amdsmi_get_gpu_device_uuid(handle))[:100],
        compute=str(about.get("target_graphics_version", ""))[:16],
    )


def _library() -> Any:
    try:
        import amdsmi  # Comes with ROCm, and is needed only where there is its driver.
    except (ImportError, OSError, KeyError):
        return None  # It looks for its own library when it is imported, and fails in many ways.
    return amdsmi


def _digits(name: str) -> int:
    digits = "".join(each for each in name if each.isdecimal())
    return int(digits or 0)


def _number(file: Path) -> int | None:
    text = _line(file)
    return int(text) if text.isdecimal() else None


def _line(file: Path) -> str:
    return _text(file).strip().partition("\n")[0]


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
