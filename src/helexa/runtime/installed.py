"""Whether the engine of a replica is where it is said to be, without starting anything.

Asked at every load and for every listing, so it looks at files and runs none.
"""

from __future__ import annotations

import os
from pathlib import Path

from helexa.runtime import adapters, exits
from helexa.runtime.contract import Exit, ExitReason, Installation, PackagedAdapter, RuntimeAdapter


def missing(adapter: RuntimeAdapter, where: Installation) -> Exit | None:
    """Why it cannot be started at all; None where nothing speaks against it."""
    for name, path in (("python", where.python), ("program", where.program)):
        if path is not None and (flaw := flaw_of_program(path)):
            detail = f"{flaw}; [neuron.runtimes.{adapter.name}] {name} names it"
            return Exit(reason=ExitReason.NOT_INSTALLED, detail=detail)
    is_elsewhere = where.python is not None or where.program is not None
    if isinstance(adapter, PackagedAdapter) and not (
        is_elsewhere or adapters.is_installed(adapter)
    ):
        return exits.not_installed(adapter.requirement)
    return None


def flaw_of_program(path: Path) -> str:
    """Empty for a file that may be run."""
    if not path.exists():
        return f"{path} does not exist"
    if not path.is_file() or not os.access(path, os.X_OK):
        return f"{path} is no program that this user may run"
    return ""
