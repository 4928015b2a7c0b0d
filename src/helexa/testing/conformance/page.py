"""The matrix in docs/runtimes: kept as JSON, shown as a table between two markers of the page.

Nobody writes into either by hand. A runtime's column is what the suite found when it was run on
the engine named at its head, the last time that somebody had it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from helexa.runtime import adapters
from helexa.testing.conformance.findings import Findings, Verdict
from helexa.testing.conformance.rows import ROWS

JSON_NAME: Final = "matrix.json"
PAGE_NAME: Final = "README.md"
BEGIN: Final = "<!-- the matrix, written by python -m helexa.testing.conformance -->"
END: Final = "<!-- the end of the matrix -->"

Results = dict[str, Any]
"""By runtime: `engine`, `models` and `cells`, which are by row."""


def read(file: Path) -> Results:
    """Nothing where there is no file yet."""
    if not file.exists():
        return {}
    found: Results = json.loads(file.read_text(encoding="utf-8"))
    return found


def keep(found: Findings, file: Path) -> None:
    """In place of what was found of this runtime before; the others stay."""
    results = read(file)
    results[found.runtime] = {
        "engine": found.engine,
        "models": found.models,
        "cells": written(found),
    }
    text = json.dumps(dict(sorted(results.items())), indent=2, ensure_ascii=False)
    file.write_text(text + "\n", encoding="utf-8")


def written(found: Findings) -> dict[str, str]:
    """As in the file. Raises ValueError where anything failed."""
    if found.failures:
        raise ValueError(f"{found.runtime} failed: nothing is written of it\n{found.table()}")
    return {
        word: f"{cell.verdict.value}: {cell.why}" if cell.why else cell.verdict.value
        for word, cell in found.cells().items()
    }


def rewritten(page: str, results: Results) -> str:
    """The page with its table as the results have it. Raises ValueError without the markers."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the page has no {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{table(results)}\n{END}{after}"


def rewrite(folder: Path) -> None:
    page = folder / PAGE_NAME
    text = rewritten(page.read_text(encoding="utf-8"), read(folder / JSON_NAME))
    page.write_text(text, encoding="utf-8")


def table(results: Results) -> str:
    """In Markdown, with the reasons of what could not be shown below it."""
    names = _columns(results)
    reasons: list[str] = []
    lines = [
        _line("", [f"`{name}`" for name in names]),
        _line("---", ["---"] * len(names)),
        _line("engine", [results[name]["engine"] for name in names]),
    ]
    for row in ROWS:
        cells = [results[name]["cells"].get(row.word, "") for name in names]
        lines.append(_line(row.says, [_shown(cell, reasons) for cell in cells]))
    notes = [f"{at}. {reason}" for at, reason in enumerate(reasons, 1)]
    return "\n".join(lines) + "\n" + ("\n" + "\n".join(notes) + "\n" if notes else "")


def _columns(results: Mapping[str, Any]) -> list[str]:
    known = [name for name in adapters.in_order() if name in results]
    return [*known, *(name for name in sorted(results) if name not in known)]


def _line(first: str, cells: list[str]) -> str:
    return f"| {' | '.join([first, *cells])} |"


def _shown(cell: str, reasons: list[str]) -> str:
    verdict, _, why = cell.partition(": ")
    if verdict != Verdict.UNTESTABLE.value:
        return verdict
    if why not in reasons:
        reasons.append(why)
    return f"not testable here ({reasons.index(why) + 1})"
