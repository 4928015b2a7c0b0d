"""What one probe contributes; zero or empty is "nothing to say"."""

from __future__ import annotations

from dataclasses import dataclass

from helexa.protocol.work import Device


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    cpu_model: str = ""
    cpus: float = 0.0
    memory_bytes: int = 0
    cpu_features: tuple[str, ...] = ()
    numa_nodes: int = 0
    devices: tuple[Device, ...] = ()
