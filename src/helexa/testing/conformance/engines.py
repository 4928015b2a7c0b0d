"""Which engine, in which version, stands behind a runtime: for the head of its column."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

from helexa.runtime import adapters
from helexa.runtime.contract import PackagedAdapter

_ASKED: Final = """
import importlib.metadata as metadata, sys
named = metadata.packages_distributions().get(sys.argv[1]) or [sys.argv[1]]
print(named[0], metadata.version(named[0]))
"""
_IN_US: Final = {"llama_cpp": "xllamacpp"}
_WITHIN_S: Final = 60.0


def version(runtime: str, python: Path | None = None) -> str:
    """Empty where no package is known; `python` is the interpreter that has the engine."""
    adapter = adapters.load(runtime)
    module = _IN_US.get(runtime, "")
    if isinstance(adapter, PackagedAdapter):
        module = adapter.requirement.module
    if not module:
        return ""
    asked = subprocess.run(
        [str(python or sys.executable), "-c", _ASKED, module],
        capture_output=True,
        text=True,
        timeout=_WITHIN_S,
        check=False,
    )
    return asked.stdout.strip() if asked.returncode == 0 else ""
