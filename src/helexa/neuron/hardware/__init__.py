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

__all__ = ["SYSTEM_ROOT", "Found", "devices", "fingerprint", "probes"]

SYSTEM_ROOT: Final = Path("/")


def probes() -> Sequence[str]:
    found = (module.name for module in pkgutil.iter_modules(__path__))
    return tuple(sorted(name for name in found if not name.startswith("_")))


def fingerprint(root: Path = SYSTEM_ROOT) -> Fingerprint:
    """What all probes found together. Takes a while where a driver has to be asked."""
    cpu_model, cpus, memory_bytes = "", 1.0, 0
    features: tuple[str, ...] = ()
    numa_nodes = 1
    there: list[Device] = []
    for name in probes():
        found = _probed(name, root)
        features = found.cpu_features or features
        numa_nodes = found.numa_nodes or numa_nodes
        cpu_model = found.cpu_model or cpu_model
        cpus = found.cpus or cpus
        memory_bytes = found.memory_bytes or memory_bytes
        there.extend(found.devices)
    return Fingerprint(
        machine=platform.machine(),
        system=platform.system().lower(),
        cpu_model=cpu_model,
        cpus=cpus,
        memory_bytes=memory_bytes,
        devices=tuple(there),
        cpu_features=features,
        numa_nodes=numa_nodes,
    )


def devices(root: Path = SYSTEM_ROOT) -> tuple[Device, ...]:
    """Those that there are, with what is free of them now."""
    return tuple(one for name in probes() for one in _probed(name, root).devices)


def _probed(name: str, root: Path) -> Found:
    found: Found = importlib.import_module(f"{__name__}.{name}").probe(root)
    return found
