"""Processor and main memory, within the limits of the container."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import psutil

from helexa.neuron.cores import Core
from helexa.neuron.hardware import _cgroup, _topology
from helexa.neuron.hardware._found import Found

FEATURES: Final = (
    "avx", "avx2", "f16c", "fma", "avx_vnni", "avx512f", "avx512bw", "avx512vl", "avx512_vnni",
    "avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16", "asimd", "asimddp", "i8mm",
    "bf16", "sve", "sve2", "sme",
)  # fmt: skip
"""Of the system's names for instructions, those that engines are built for."""


def probe(root: Path) -> Found:
    limits = _cgroup.limits(root)
    allowed = float(len(_allowed(root)))
    total = psutil.virtual_memory().total
    text = _text(root)
    return Found(
        cpu_model=_model(text),
        cpu_features=_features(text),
        numa_nodes=_topology.node_count(root),
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
    allowed = len(_allowed(Path("/")))
    cores = psutil.cpu_count(logical=False) or allowed
    return max(1, min(cores, allowed, int(cpus)))


def cores(root: Path) -> tuple[Core, ...]:
    """That this neuron may use; none where the system does not tell."""
    return _topology.cores(root, _allowed(root))


def _allowed(root: Path) -> frozenset[int]:
    allowed = frozenset(range(os.cpu_count() or 1))
    if hasattr(os, "sched_getaffinity"):
        allowed = frozenset(os.sched_getaffinity(0))
    # A group that names none of these is not this process's, or not yet in force.
    return allowed & (_cgroup.limits(root).cpus_allowed or allowed) or allowed


def _text(root: Path) -> str:
    try:
        return (root / "proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _features(text: str) -> tuple[str, ...]:
    """Of the first processor: they are all alike where one program runs on all."""
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            flags = frozenset(value.split())
            return tuple(one for one in FEATURES if one in flags)
    return ()


def _model(text: str) -> str:
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "Model"):
            return value.strip()[:200]
    return ""
