"""What the installed llama.cpp was built for: its package does not say, its library does.

The build from PyPI computes on processors alone. Lending it a device would keep that from
others, and its weights would be missing from the count of main memory.
"""

from __future__ import annotations

import functools
import importlib.util
import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from helexa.runtime.contract import Installation

_MARKS: Final[Mapping[str, bytes]] = {
    "nvidia": b"ggml_backend_cuda_reg",
    "amd": b"ggml_backend_hip_reg",
    "apple": b"ggml_backend_metal_reg",
}
"""The function by which each of its parts makes itself known."""
_ANY: Final = ("nvidia", "amd", "apple")


def vendors(installation: Installation) -> tuple[str, ...]:
    """An engine that the operator put there is taken to be built for what the machine has."""
    if installation.python is not None or installation.program is not None:
        return _ANY
    return _packaged()


@functools.cache
def _packaged() -> tuple[str, ...]:
    found = importlib.util.find_spec("xllamacpp")
    if found is None or not found.submodule_search_locations:
        return ()
    folder = Path(found.submodule_search_locations[0])
    # Large parts may lie beside the package, as tools that repair wheels put them.
    files = [*folder.glob("*.so*"), *folder.with_name("xllamacpp.libs").glob("*.so*")]
    return marked(files)


def marked(files: list[Path]) -> tuple[str, ...]:
    found = set()
    for file in files:
        try:
            with (
                file.open("rb") as opened,
                mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content,
            ):
                found |= {name for name, mark in _MARKS.items() if content.find(mark) >= 0}
        except (OSError, ValueError):
            continue
    return tuple(name for name in _MARKS if name in found)
