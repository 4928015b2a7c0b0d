"""How a verb speaks: aligned tables for people, JSON lines for machines."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any


def event(fields: Mapping[str, Any]) -> None:
    """One JSON object a line, at once: a reader waits for it."""
    print(json.dumps(fields, default=str), flush=True)


def document(value: Any) -> None:
    """The whole answer of a verb that asks."""
    print(json.dumps(value, indent=2, default=str, ensure_ascii=False))


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Left-aligned columns; numbers to the right."""
    cells = [[_cell(one) for one in row] for row in rows]
    widths = [max(len(line[i]) for line in [list(head), *cells]) for i in range(len(head))]
    numeric = [bool(rows) and all(_is_number(row[i]) for row in rows) for i in range(len(head))]

    def line(words: Sequence[str]) -> str:
        return "  ".join(
            word.rjust(width) if right else word.ljust(width)
            for word, width, right in zip(words, widths, numeric, strict=True)
        ).rstrip()

    return "\n".join([line([word.upper() for word in head]), *(line(row) for row in cells)])


def facts(pairs: Sequence[tuple[str, object]]) -> str:
    """`name  value` lines, for one thing rather than many; empty values are left out."""
    kept = [(name, _cell(value)) for name, value in pairs if value not in (None, "", (), [])]
    width = max((len(name) for name, _ in kept), default=0)
    return "\n".join(f"{name:{width}}  {value}" for name, value in kept)


def day(seconds: float | None) -> str:
    """A moment in UTC, to the minute; nothing for never."""
    if seconds is None:
        return ""
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime(seconds))


def note(text: str) -> None:
    """For a person who watches, not for the answer."""
    print(text, file=sys.stderr, flush=True)


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(str(one) for one in value)
    return str(value)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
