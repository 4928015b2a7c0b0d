"""Apple's own processors, whose GPU computes in main memory.

Such a device needs no grant: what a model takes there is main memory and counted as that.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Final

from helexa.neuron.hardware._found import Found
from helexa.protocol.work import UNIFIED_MEMORY, Device

_ASK_WITHIN_S: Final = 5.0
_METAL: Final = "System/Library/Frameworks/Metal.framework"
_NAMES: Final = ("machdep.cpu.brand_string", "hw.memsize", "iogpu.wired_limit_mb")
_USUAL_SHARE: Final = 0.75
"""Of memory that the system lets a GPU hold, where nobody changed that."""


def probe(root: Path) -> Found:
    if not (root / _METAL).exists():
        return Found()
    return from_text(_asked())


def from_text(text: str) -> Found:
    """From `sysctl`'s lines, `NAME: VALUE`."""
    pairs = (line.partition(":") for line in text.splitlines())
    found = {name.strip(): value.strip() for name, _, value in pairs}
    name, size = found.get(_NAMES[0], ""), found.get(_NAMES[1], "")
    if not name.startswith("Apple ") or not size.isdecimal():
        return Found()  # An older Mac: its GPUs are not what engines are built for.
    limit = found.get(_NAMES[2], "")
    limit_bytes = int(limit) << 20 if limit.isdecimal() else 0
    device = Device(
        index=0,
        vendor="apple",
        name=name[:200],
        memory_bytes=limit_bytes or int(int(size) * _USUAL_SHARE),
        compute="metal",
        memory=UNIFIED_MEMORY,
    )
    return Found(cpu_model=name[:200], devices=(device,))


def _asked(run: Callable[..., subprocess.CompletedProcess[str]] = subprocess.run) -> str:
    try:
        # An unknown name is an error for the status, and no line; the others are answered.
        answer = run(
            ("sysctl", *_NAMES), capture_output=True, text=True, timeout=_ASK_WITHIN_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout
