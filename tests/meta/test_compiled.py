"""What `make compile` makes is the same helexa: its own tests, against the compiled modules.

A compiler (and Python's headers) may not be there; `HELEXA_TEST_COMPILED=off` leaves these out.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.meta.sources import ROOT

TESTS = ("tests/gateway", "tests/passthrough", "tests/util")
MODULES = tuple(
    line.removesuffix(".py").replace("/", ".")
    for line in (ROOT / "scripts/compiled.txt").read_text().splitlines()
    if not line.startswith("#")
)


@pytest.fixture(scope="module")
def compiled() -> dict[str, str]:
    """The environment of a process that finds the compiled helexa."""
    if os.environ.get("HELEXA_TEST_COMPILED", "").lower() == "off":
        pytest.skip("compiled modules are turned off by HELEXA_TEST_COMPILED=off")
    done = subprocess.run(
        [ROOT / "scripts/compile"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    # Nothing of the run around this one: its coverage, workers and options are its own.
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("COV", "PY"))}
    return {**kept, "PYTHONPATH": done.stdout.strip()}


@pytest.mark.timeout(900)
def test_each_of_the_modules_is_compiled(compiled: dict[str, str]) -> None:
    code = f"import importlib as i; print(*[i.import_module(m).__file__ for m in {MODULES}])"
    argv = [sys.executable, "-c", code]
    done = subprocess.run(argv, cwd=ROOT, env=compiled, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [Path(file).suffix for file in done.stdout.split()] == [".so"] * len(MODULES)


@pytest.mark.timeout(900)
def test_the_path_of_a_request_is_the_same_compiled(compiled: dict[str, str]) -> None:
    argv = [sys.executable, "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider", *TESTS]
    done = subprocess.run(argv, cwd=ROOT, env=compiled, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
