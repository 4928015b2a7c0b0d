"""The hardware that this neuron may use. One probe a file, found by its name.

A file in this folder without a leading underscore exports `probe(root)`, which
returns what it found and never raises: a machine without a GPU is a machine, not
an error. `root` is where the system's files are, so that a test can make a
machine out of a folder.
"""

from __future__ import annotations

import importlib
import pkgutil
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from helexa.neuron.hardware._found import Found
from helexa.protocol.work import Device, Fingerprint

__all__ = ["SYSTEM_ROOT", "Found", "fingerprint", "probes"]

SYSTEM_ROOT: Final = Path("/")


def probes() -> Sequence[str]:
    found = (module.name for module in pkgutil.iter_modules(__path__))
    return tuple(sorted(name for name in found if not name.startswith("_")))


def fingerprint(root: Path = SYSTEM_ROOT) -> Fingerprint:
    """What all probes found together. Takes a while where a driver has to be asked."""
    cpu_model, cpus, memory_bytes = "", 1.0, 0
    devices: list[Device] = []
    for name in probes():
        found: Found = importlib.import_module(f"{__name__}.{name}").probe(root)
        cpu_model = found.cpu_model or cpu_model
        cpus = found.cpus or cpus
        memory_bytes = found.memory_bytes or memory_bytes
        devices.extend(found.devices)
    return Fingerprint(
        machine=platform.machine(),
        system=platform.system().lower(),
        cpu_model=cpu_model,
        cpus=cpus,
        memory_bytes=memory_bytes,
        devices=tuple(devices),
    )
