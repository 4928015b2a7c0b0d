"""Models as people read them: one row each, and where they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from helexa.cli.output import table
from helexa.util.units import format_bytes

Row = Mapping[str, Any]


def of_cortex(rows: Sequence[Row]) -> str:
    head = (
        *("model", "state", "replicas", "can", "context", "memory", "disk", "file", "runtime"),
        *("on", "note"),
    )
    return table(
        head,
        [
            (
                row["model"],
                row["state"],
                _replicas(row),
                abilities(row),
                row.get("context_tokens") or "",
                _size(row.get("memory_bytes")),
                _size(row.get("disk_bytes")),
                row.get("quantisation", ""),
                _runtimes(row),
                _where(row),
                _note(row),
            )
            for row in rows
        ],
    )


def of_neuron(rows: Sequence[Row]) -> str:
    head = "model", "state", "can", "context", "slots", "memory", "file", "runtime", "note"
    return table(
        head,
        [
            (
                row["model"],
                row["state"],
                abilities(row),
                row.get("context_tokens") or "",
                row.get("slots") or "",
                _size(row.get("memory_bytes")),
                row.get("quantisation", ""),
                row.get("runtime", ""),
                row.get("reason", ""),
            )
            for row in rows
        ],
    )


def abilities(row: Row) -> str:
    words = {"chat_interactive": "chat", "chat_bulk": "chat"}
    can = dict.fromkeys(words.get(one, one) for one in row.get("classes", ()))
    can |= dict.fromkeys(one for one in ("tools", "reasoning") if row.get(one))
    return ", ".join(can)


def _replicas(row: Row) -> str:
    """`2`, or `2 (1..4)` where the catalogue says how many."""
    least, most = row.get("replicas_min", 0), row.get("replicas_max")
    wanted = f" ({least}..{most if most is not None else ''})" if least or most else ""
    return f"{row.get('replicas', 0)}{wanted}"


def _runtimes(row: Row) -> str:
    """By which the neurons serve it."""
    found = dict.fromkeys(one.get("runtime", "") for one in row.get("nodes", ()))
    return ", ".join(filter(None, found))


def _where(row: Row) -> str:
    """The neurons that have it, those that serve it first; a few by name."""
    names = [one.get("neuron") or str(one["node"])[:10] for one in row.get("nodes", ())]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _note(row: Row) -> str:
    if row.get("reason"):
        return str(row["reason"])
    if row["state"] == "absent":
        source = row.get("source")
        return f"comes from {source} when asked for" if source else "on no connected neuron"
    return ""


def _size(count: Any) -> str:
    return format_bytes(count) if count else ""
