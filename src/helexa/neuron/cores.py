"""Which CPUs a replica is pinned to: whole cores, near to one another, nobody else's.

Two threads of one core share what computes, so a core goes to one replica with all its
threads; and memory of another node is slower, so a replica gets its cores on one node
where one has enough of them left.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

CPU_MOST: Final = 1 << 14
_RANGE: Final = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Core:
    """One that this neuron may use."""

    cpus: tuple[int, ...]
    """Its threads, as the system numbers them; the first is as good as all of them."""
    node: int = 0
    """Of memory that is near to it."""


def parse(text: str) -> tuple[int, ...]:
    """`0-3,8` -> 0, 1, 2, 3, 8. Raises ValueError."""
    found: set[int] = set()
    for part in text.split(","):
        match = _RANGE.fullmatch(part.strip())
        if match is None:
            raise ValueError(f"{text[:80]!r} is not a list of CPUs")
        low = int(match[1])
        high = int(match[2] or low)
        if not low <= high < CPU_MOST:
            raise ValueError(f"{part.strip()} is no range of CPUs")
        found.update(range(low, high + 1))
    return tuple(sorted(found))


def written(cpus: Iterable[int]) -> str:
    """0, 1, 2, 8 -> `0-2,8`."""
    runs: list[list[int]] = []
    for cpu in sorted(cpus):
        if runs and cpu == runs[-1][1] + 1:
            runs[-1][1] = cpu
        else:
            runs.append([cpu, cpu])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in runs)


def threads(cpus: Collection[int], machine: Iterable[Core]) -> int:
    """That compute well on these: one a core, whatever part of it is among them."""
    return max(1, sum(1 for core in machine if not set(core.cpus).isdisjoint(cpus)))


def pick(count: int, machine: Sequence[Core], taken: Collection[int]) -> tuple[int, ...]:
    """All threads of so many cores that nobody has; fewer where fewer are left, perhaps none."""
    left = [core for core in machine if set(core.cpus).isdisjoint(taken)]
    by_node: dict[int, list[Core]] = {}
    for core in sorted(left, key=lambda core: core.cpus):
        by_node.setdefault(core.node, []).append(core)
    # The node that is filled best; where none has enough, those that have most first.
    enough = sorted((len(cores), node) for node, cores in by_node.items() if len(cores) >= count)
    if enough:
        chosen = by_node[enough[0][1]][:count]
    else:
        nodes = sorted(by_node, key=lambda node: (-len(by_node[node]), node))
        chosen = [core for node in nodes for core in by_node[node]][:count]
    return tuple(sorted(cpu for core in chosen for cpu in core.cpus))
