"""The machine that the figures belong to."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def describe() -> list[tuple[str, str]]:
    return [
        ("processor", f"{_first('/proc/cpuinfo', 'model name') or platform.machine()}"),
        ("cores", str(len(os.sched_getaffinity(0)))),
        ("memory", f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGESIZE') / 2**30:.1f} GiB"),
        ("kernel", platform.release()),
        ("Python", platform.python_version()),
        ("load before", f"{os.getloadavg()[0]:.2f}"),
    ]


def _first(path: str, name: str) -> str:
    for line in Path(path).read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""
