"""The repository's files, as the checks of this folder read them."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SRC = ROOT / "src" / "helexa"


@cache
def tracked() -> tuple[Path, ...]:
    """What git knows, so that build output and notes of one's own are left alone."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True
    ).stdout.decode()
    paths = (ROOT / name for name in listed.split("\0") if name)
    return tuple(path for path in paths if path.is_file())


def modules() -> Iterator[tuple[Path, str, ast.Module]]:
    """Every module of the package: its path below the package, its text, its tree."""
    for path in sorted(SRC.rglob("*.py")):
        text, tree = _parsed(path)
        yield path.relative_to(SRC), text, tree


@cache
def _parsed(path: Path) -> tuple[str, ast.Module]:
    text = path.read_text()
    return text, ast.parse(text)


def pages() -> list[Path]:
    """Every Markdown page."""
    return [path for path in tracked() if path.suffix == ".md"]


def dotted(node: ast.AST) -> str:
    """`os.environ.get` of a nested attribute; "" for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return ""
