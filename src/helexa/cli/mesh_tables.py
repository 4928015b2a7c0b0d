"""What `helexa mesh` answers, as people read it: tables, facts, and steps with their advice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from helexa.cli.output import day, facts, table
from helexa.util.units import format_bytes, format_seconds

Row = Mapping[str, Any]

ID_DIGITS: Final = 12
"""Of an id in a table: more than `helexa mesh` needs to know who is meant."""
_MARKS: Final = {"ok": "ok  ", "skipped": "skip", "pending": "wait"}


def status(found: Row) -> str:
    certificate = found.get("certificate") or {}
    return facts(
        [
            ("node", found["node"]),
            ("operator", _operator(found)),
            ("certificate", _certificate(certificate)),
            ("mesh", "member" if found.get("joined", True) else "left; `helexa mesh join` returns"),
            ("members", _counts(found.get("members"))),
            ("neighbours", found.get("neighbours")),
            ("admission", f"{found.get('admission')}; neurons {found.get('neurons')}"),
            ("pending", _asked(found.get("pending", 0))),
            ("denied", found.get("denied") or ""),
            ("preset", found.get("preset")),
            ("transports", _addresses(found.get("addresses") or {})),
            ("rejected", _counts(found.get("rejected"))),
            ("traffic", _traffic(found.get("traffic") or {})),
            ("clock", _clock(found.get("clock_off_s", 0.0))),
            ("ticket", found.get("ticket")),
        ]
    )


def peers(rows: Sequence[Row]) -> str:
    if not rows:
        return "no peers; `helexa mesh join TICKET` with the ticket of another cortex"
    head = "peer", "id", "operator", "trust", "state", "for", "link", "rtt", "region", "models"
    return table(
        head,
        [
            (
                row.get("name") or "-",
                _head(row["node"]),
                row.get("operator_name") or _whose(row),
                row.get("trust", ""),
                row.get("state", ""),
                format_seconds(row.get("since_s", 0)),
                row.get("link", ""),
                _ms(row.get("rtt_ms")),
                row.get("region", ""),
                _few((*row.get("offers", ()), *map("({})".format, row.get("withheld", ())))),
            )
            for row in rows
        ],
    )


def pending(rows: Sequence[Row]) -> str:
    if not rows:
        return "nobody waits to be let in"
    head = "name", "id", "operator", "role", "address", "first asked", "last asked"
    return table(
        head,
        [
            (
                row.get("name") or "-",
                _head(row["node"]),
                row.get("operator_name") or _whose(row),
                row.get("role", ""),
                row.get("address", ""),
                f"{format_seconds(row.get('since_s', 0))} ago",
                f"{format_seconds(row.get('seen_s', 0))} ago",
            )
            for row in rows
        ],
    )


def step(one: Row) -> str:
    """One step of a join, its advice on a line of its own."""
    mark = _MARKS.get(str(one.get("outcome")), "FAIL")
    took = format_seconds(float(one.get("took_s") or 0))
    detail = f": {one['detail']}" if one.get("detail") else ""
    advice = f"\n      try: {one['advice']}" if one.get("advice") else ""
    return f"{mark}  {one.get('name', '')}{detail} ({took}){advice}"


def ping(found: Row) -> str:
    who = found.get("name") or _head(found["node"])
    dialled = found.get("dialled_ms")
    how = "over the session that stood" if dialled is None else f"after a dial of {_ms(dialled)}"
    return f"{who} answered in {_ms(found['rtt_ms'])} by {found['transport']}, {how}"


def changes(before: Sequence[Row], after: Sequence[Row]) -> Iterator[str]:
    """What is new among peers from one look to the next, a line each."""
    known = {row["node"]: row for row in before}
    for row in after:
        old = known.pop(row["node"], None)
        who = f"{row.get('name') or '-'} ({_head(row['node'])})"
        if old is None:
            yield f"{who} is {row.get('state')}, {row.get('trust')}"
            continue
        for key in ("state", "trust", "link"):
            if row.get(key) != old.get(key):
                yield f"{who}: {key} {old.get(key) or 'none'} -> {row.get(key) or 'none'}"
        for model in sorted(set(row.get("offers", ())) ^ set(old.get("offers", ()))):
            offered = model in row.get("offers", ())
            yield f"{who} {'offers' if offered else 'no longer offers'} {model}"
    for row in known.values():
        yield f"{row.get('name') or '-'} ({_head(row['node'])}) is forgotten"


def _operator(found: Row) -> str:
    if found.get("operator") == found["node"]:
        return "the node itself; `helexa operator init` makes one for many nodes"
    name = found.get("operator_name")
    return f"{found.get('operator')}{f' ({name})' if name else ''}"


def _certificate(certificate: Row) -> str:
    if not certificate:
        return ""
    roles = ", ".join(certificate.get("roles", ()))
    return f"for {roles}, until {day(certificate.get('expires_s'))} UTC"


def _asked(count: int) -> str:
    return f"{count}; `helexa mesh pending` lists them" if count else ""


def _addresses(addresses: Mapping[str, Sequence[str]]) -> list[str]:
    return [f"{name} {' '.join(some)}".strip() for name, some in addresses.items()]


def _traffic(traffic: Mapping[str, float]) -> str:
    return ", ".join(
        f"{format_bytes(traffic[f'{way}_bytes'])} {way}"
        + (f" ({format_bytes(rate)}/s)" if (rate := traffic.get(f"{way}_bytes_per_s")) else "")
        for way in ("sent", "received")
        if f"{way}_bytes" in traffic
    )


def _clock(off_s: float) -> str:
    if not off_s:
        return ""
    way = "ahead of" if off_s > 0 else "behind"
    return f"{format_seconds(abs(off_s))} {way} most others; set it (timedatectl set-ntp true)"


def _counts(counts: Mapping[str, int] | None) -> str:
    return ", ".join(f"{count} {word}" for word, count in (counts or {}).items() if count)


def _whose(row: Row) -> str:
    return "itself" if row.get("operator") == row["node"] else _head(str(row.get("operator", "")))


def _head(full: str) -> str:
    return full[:ID_DIGITS]


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:.1f} ms"


def _few(names: Sequence[str], shown: int = 3) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more
