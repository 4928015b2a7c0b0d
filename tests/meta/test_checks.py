"""The tools of `make check`, as tests: one run of the suite says everything about a change."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.meta.sources import ROOT

BIN = Path(sys.executable).parent

CHECKS = {
    "ruff check .": "make fmt repairs what it can; argue a line away with `# noqa: CODE - reason`",
    "ruff format --check .": "make fmt",
    "mypy": "types are part of the contract; fix them where they are wrong",
    "lint-imports": "a lower layer must not know a higher one: pass it in, or move it down",
    "deptry .": "declare in pyproject.toml what is imported, remove what is not, then `make lock`",
}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("command", CHECKS)
def test_the_tools_are_content(command: str) -> None:
    program, *arguments = command.split()
    done = subprocess.run(
        [BIN / program, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{done.stdout}{done.stderr}\nfix: {CHECKS[command]}"
