"""Small models for other engines than llama.cpp, made once for all tests of a process."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

SCRIPTS = Path(__file__).parent.parent / "scripts" / "runtime_models"


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="helexa-models-")


@functools.cache
def made(name: str, cache: Path | None = None) -> Path:
    """The folder in which the script's model of that name lies, with those made before.

    `cache` keeps what is downloaded; without one only what needs no network can be made.
    """
    out = Path(_folder().name)
    words = [sys.executable, str(SCRIPTS), "--out", str(out), "--only", name]
    words += ["--cache", str(cache)] if cache is not None else []
    subprocess.run(words, check=True, capture_output=True, timeout=110)
    return out


def reference(name: str) -> Any:
    """What transformers computes with a model."""
    return json.loads((SCRIPTS / "references" / f"{name}.json").read_text(encoding="utf-8"))
