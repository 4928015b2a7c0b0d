"""Processor and main memory, within the limits of the container."""

from __future__ import annotations

import os
from pathlib import Path

import psutil

from helexa.neuron.hardware import _cgroup
from helexa.neuron.hardware._found import Found


def probe(root: Path) -> Found:
    limits = _cgroup.limits(root)
    allowed = float(_allowed())
    total = psutil.virtual_memory().total
    return Found(
        cpu_model=_model(root),
        cpus=min(allowed, limits.cpus) if limits.cpus else allowed,
        memory_bytes=min(total, limits.memory_bytes) if limits.memory_bytes else total,
    )


def memory_available(root: Path) -> int:
    """Bytes that could be taken now without swapping and without leaving the container's limit."""
    available: int = psutil.virtual_memory().available
    limits = _cgroup.limits(root)
    if limits.memory_bytes is None:
        return available
    return max(0, min(available, limits.memory_bytes - limits.memory_used))


def compute_threads(cpus: float) -> int:
    """Threads for matrix work: a second one on the same core only slows the first."""
    cores = psutil.cpu_count(logical=False) or _allowed()
    return max(1, min(cores, _allowed(), int(cpus)))


def _allowed() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _model(root: Path) -> str:
    try:
        text = (root / "proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "Model"):
            return value.strip()[:200]
    return ""
