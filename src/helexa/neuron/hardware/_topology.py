"""Which CPUs are threads of one core, and which memory is near to them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final

from helexa.neuron.cores import CPU_MOST, Core, parse

_CPUS: Final = "sys/devices/system/cpu"
_NODES: Final = "sys/devices/system/node"


def cores(root: Path, allowed: Collection[int]) -> tuple[Core, ...]:
    """Of the CPUs that are allowed; one that the system says nothing of is a core by itself."""
    near = _near(root)
    found: dict[tuple[int, int, int], list[int]] = {}
    for cpu in sorted(allowed):
        about = root / _CPUS / f"cpu{cpu}" / "topology"
        package, core = _number(about / "physical_package_id"), _number(about / "core_id")
        # Threads of the same core have the same number within their package.
        mark = (-1, -1, cpu) if package is None or core is None else (package, core, -1)
        found.setdefault(mark, []).append(cpu)
    return tuple(
        sorted(
            (Core(cpus=tuple(cpus), node=near.get(cpus[0], 0)) for cpus in found.values()),
            key=lambda core: core.cpus,
        )
    )


def node_count(root: Path) -> int:
    return max(1, len(set(_near(root).values())))


def _near(root: Path) -> Mapping[int, int]:
    """CPU -> its node of memory."""
    found: dict[int, int] = {}
    try:
        folders = sorted((root / _NODES).glob("node[0-9]*"))
    except OSError:
        return {}
    for folder in folders[:CPU_MOST]:
        number = folder.name.removeprefix("node")
        try:
            cpus = parse((folder / "cpulist").read_text(encoding="ascii").strip())
        except (OSError, ValueError):
            continue  # A node of memory alone has an empty list.
        if number.isdecimal():
            found.update(dict.fromkeys(cpus, int(number)))
    return found


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text(encoding="ascii").strip())
    except (OSError, ValueError):
        return None
