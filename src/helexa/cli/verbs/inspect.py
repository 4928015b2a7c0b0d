"""`helexa inspect`: what a running node believes about itself and its peers."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Any

from helexa.cli import mesh_tables, remote
from helexa.cli.client import Client, Refused
from helexa.cli.output import document, facts, table
from helexa.util.units import format_bytes, format_seconds

SUMMARY = "Show what a running cortex or neuron knows: state, links, hardware, load."
EXAMPLE = "helexa inspect cortex"


def configure(parser: ArgumentParser) -> None:
    parser.add_argument("role", choices=("cortex", "neuron"))
    remote.add(parser)


def run(args: Namespace) -> int:
    client = remote.client(args, args.role)
    found = gathered(client, args.role)
    if args.json:
        document(found)
    else:
        print("\n\n".join(_blocks(found)))
    return 0


def gathered(client: Client, role: str) -> dict[str, Any]:
    status = dict(client.get("/api/v1/status"))
    if role == "cortex":
        status |= client.get("/api/v1/neurons") | client.get("/api/v1/models") | _mesh(client)
    return status


def _mesh(client: Client) -> dict[str, Any]:
    try:
        return {"mesh": client.get("/api/v1/mesh"), **client.get("/api/v1/mesh/peers")}
    except Refused as error:
        if error.code == "unknown_url":  # A cortex of an earlier version.
            return {}
        raise


def _blocks(found: dict[str, Any]) -> list[str]:
    """Single facts first, then a table for each list of things."""
    flat = [(_label(key), _units(key, one)) for key, one in found.items() if _is_plain(one)]
    blocks = [facts(flat)]
    for name, value in found.items():
        if name == "neurons":
            blocks.append(_neurons(value))
        elif name == "mesh":
            blocks.append("mesh\n" + _indented(mesh_tables.status(value)))
        elif name == "peers":
            blocks.append(mesh_tables.peers(value))
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            blocks.append(_anything(name, value))
        elif isinstance(value, dict) and value:
            blocks.append(f"{_label(name)}\n" + _indented(_nested(value)))
    return [block for block in blocks if block]


def _neurons(neurons: list[dict[str, Any]]) -> str:
    if not neurons:
        return "no neurons; start one with `helexa neuron --cortex TICKET`"
    rows = []
    for one in neurons:
        load = one.get("load") or {}
        replicas = load.get("replicas", [])
        hardware = one.get("hardware", {})
        rows.append(
            (
                one.get("name") or one["node"][:10],
                "draining" if one.get("draining") else one["presence"],
                format_seconds(one.get("since_s", 0)),
                one.get("path", ""),
                one.get("models", 0),
                sum(replica["running"] for replica in replicas),
                sum(replica["waiting"] for replica in replicas),
                f"{hardware.get('cpus', 0):g}",
                format_bytes(load.get("memory_free_bytes", 0)),
                one.get("reason", ""),
            )
        )
    head = "neuron", "state", "for", "path", "models", "running", "waiting", "cpus", "free", "note"
    return table(head, rows)


def _anything(name: str, rows: list[dict[str, Any]]) -> str:
    columns = [key for key in rows[0] if any(_is_plain(row.get(key)) for row in rows)]
    columns = [key for key in columns if any(row.get(key) not in (None, "", 0) for row in rows)][:9]
    cells = [[_cut(_units(key, row.get(key))) for key in columns] for row in rows]
    return f"{_label(name)}\n" + _indented(table([_label(key) for key in columns], cells))


def _nested(value: dict[str, Any]) -> str:
    return facts([(_label(key), _cut(_units(key, one), 100)) for key, one in value.items()])


def _label(key: str) -> str:
    """The unit stands with the value, so the name need not carry it."""
    return key.removesuffix("_s").removesuffix("_bytes").replace("_", " ")


def _units(key: str, value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    if key.endswith("bytes"):
        return format_bytes(value)
    return format_seconds(value) if key.endswith("_s") else value


def _cut(value: Any, chars: int = 40) -> Any:
    text = value if isinstance(value, str) else None
    if isinstance(value, list | dict):
        text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return value if text is None or len(text) <= chars else f"{text[: chars - 3]}..."


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float | bool)


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())
