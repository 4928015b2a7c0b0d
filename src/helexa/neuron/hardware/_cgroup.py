"""What a container may use, which is less than what its machine shows.

Version 2 has one tree with `memory.max` and `cpu.max`, version 1 one tree per
controller. Inside a container the own group is usually mounted as the root of
the tree; outside, the path in /proc/self/cgroup leads to it. A limit set on any
group above holds too, so the smallest on the way up counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from helexa.neuron import cores

_UNLIMITED: Final = 1 << 60
"""Version 1 writes "no limit" as a number near 2^63."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    memory_bytes: int | None = None
    memory_used: int = 0
    """Of the limited group, without the page cache that can be dropped."""
    cpus: float | None = None
    cpus_allowed: frozenset[int] | None = None
    """By number."""


def limits(root: Path) -> Limits:
    groups = _own_groups(root / "proc/self/cgroup")
    tree = root / "sys/fs/cgroup"
    if (tree / "cgroup.controllers").exists():
        return _version_2(tree, groups.get("", "/"))
    return _version_1(tree, groups)


def _version_2(tree: Path, own: str) -> Limits:
    memory: tuple[int, int] | None = None
    cpus: float | None = None
    for folder in _upwards(tree, own):
        most = _number(folder / "memory.max")
        if most is not None and (memory is None or most < memory[0]):
            cached = _stat(folder / "memory.stat", "inactive_file")
            memory = most, max(0, (_number(folder / "memory.current") or 0) - cached)
        quota = _words(folder / "cpu.max")
        if len(quota) == 2 and quota[0].isdigit() and quota[1].isdigit() and int(quota[1]):
            share = int(quota[0]) / int(quota[1])
            cpus = share if cpus is None else min(cpus, share)
    return Limits(
        memory_bytes=memory[0] if memory else None,
        memory_used=memory[1] if memory else 0,
        cpus=cpus,
        cpus_allowed=_cpu_set(tree, own, "cpuset.cpus.effective"),
    )


def _version_1(tree: Path, groups: dict[str, str]) -> Limits:
    memory: tuple[int, int] | None = None
    cpus: float | None = None
    for folder in _upwards(tree / "memory", groups.get("memory", "/")):
        most = _number(folder / "memory.limit_in_bytes")
        if most is not None and (memory is None or most < memory[0]):
            cached = _stat(folder / "memory.stat", "total_inactive_file")
            memory = most, max(0, (_number(folder / "memory.usage_in_bytes") or 0) - cached)
    for folder in _upwards(tree / "cpu", groups.get("cpu", "/")):
        quota, period = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
        if quota and period and quota > 0:
            cpus = quota / period if cpus is None else min(cpus, quota / period)
    return Limits(
        memory_bytes=memory[0] if memory else None,
        memory_used=memory[1] if memory else 0,
        cpus=cpus,
        cpus_allowed=_cpu_set(
            tree / "cpuset", groups.get("cpuset", "/"), "cpuset.effective_cpus", "cpuset.cpus"
        ),
    )


def _cpu_set(tree: Path, own: str, *names: str) -> frozenset[int] | None:
    """Of the nearest group that has one: it is what holds, those above are within it already."""
    for folder in _upwards(tree, own):
        for name in names:
            text = _text(folder / name).strip()
            if text:
                try:
                    return frozenset(cores.parse(text))
                except ValueError:
                    return None
    return None


def _own_groups(file: Path) -> dict[str, str]:
    """Controller -> path of this process's group; version 2 has the empty name."""
    groups: dict[str, str] = {}
    for line in _text(file).splitlines():
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        for controller in controllers.split(","):
            groups[controller] = path
    return groups


def _upwards(tree: Path, own: str) -> Iterator[Path]:
    folder = tree / own.lstrip("/")
    while folder != tree and folder.is_relative_to(tree):
        yield folder
        folder = folder.parent
    yield tree


def _number(file: Path) -> int | None:
    """None for no file, no number, or no limit."""
    text = _text(file).strip()
    if not text.lstrip("-").isdigit():
        return None
    number = int(text)
    return number if number < _UNLIMITED else None


def _stat(file: Path, name: str) -> int:
    for line in _text(file).splitlines():
        key, _, value = line.partition(" ")
        if key == name and value.isdigit():
            return int(value)
    return 0


def _words(file: Path) -> list[str]:
    return _text(file).split()


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
