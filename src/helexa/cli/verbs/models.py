"""`helexa models`: what can be served where, and loading and unloading it."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Any

from helexa.cli import flags, remote
from helexa.cli.client import Client, in_path, running
from helexa.cli.output import document, table
from helexa.cli.verb import Misused
from helexa.util.units import format_bytes

SUMMARY = "List models with their state, load one, or unload one."
EXAMPLE = "helexa models load helexa-demo"


def configure(parser: ArgumentParser) -> None:
    parser.add_argument("action", choices=("list", "load", "unload"))
    parser.add_argument("model", nargs="?", help="for load and unload: the model's name")
    parser.add_argument(
        "--on",
        choices=("cortex", "neuron"),
        help="ask the cortex (every neuron it knows) or the neuron alone [whichever runs]",
    )
    parser.add_argument("--node", metavar="NODE", help="one neuron by id, start of id, or name")
    remote.add(parser)


def run(args: Namespace) -> int:
    if (args.action == "list") == bool(args.model):
        wants = "takes no model" if args.model else "needs a model's name"
        raise Misused(f"{args.action} {wants}")
    role = args.on or _role(args)
    client = remote.client(args, role)
    if args.action == "list":
        rows = _models(client, role)
        if args.json:
            document({"models": rows})
        else:
            print(_listed(rows) if rows else "no models; put a GGUF file into the models folder")
        return 0
    body = {"node": args.node} if args.node else {}
    answer = client.post(f"/api/v1/models/{in_path(args.model)}/{args.action}", body)
    outcomes = _outcomes(answer)
    if args.json:
        document(answer)
    else:
        for node, state, reason in outcomes:
            where = f" on {node[:10]}" if node else ""
            print(f"{args.model} is {state}{where}{': ' + reason if reason else ''}")
    return 1 if any(state == "failed" for _, state, _ in outcomes) else 0


def _role(args: Namespace) -> str:
    """The cortex when one runs here, because it knows every neuron."""
    home = flags.config_of(args).node.home
    alone = running(home / "cortex") is None and running(home / "neuron") is not None
    return "neuron" if alone and not args.url else "cortex"


def _models(client: Client, role: str) -> list[dict[str, Any]]:
    path = "/api/v1/models" if role == "cortex" else "/api/v1/status"
    return list(client.get(path)["models"])


def _outcomes(answer: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(node, state, reason) of each neuron that acted; a neuron alone answers for itself."""
    results = answer.get("results")
    if results is None:
        return [("", str(answer.get("state", "")), str(answer.get("reason", "")))]
    if not results:
        return [("", "failed", "no neuron that has it is connected")]
    return [
        (
            one["node"],
            str(one["response"].get("state", "")),
            str(one["response"].get("reason") or ""),
        )
        for one in results
    ]


def _listed(rows: list[dict[str, Any]]) -> str:
    several = len({row.get("node") for row in rows}) > 1
    head = ["model", "state", "can", "context", "slots", "memory", "file", "note"]
    lines = []
    for row in rows:
        line = [
            row["model"],
            row["state"],
            _abilities(row),
            row.get("context_tokens") or "",
            row.get("slots") or "",
            format_bytes(row["memory_bytes"]) if row.get("memory_bytes") else "",
            row.get("quantisation", ""),
            row.get("reason", ""),
        ]
        lines.append([*line, row.get("neuron") or str(row.get("node", ""))[:10]])
    if several:
        return table([*head, "neuron"], lines)
    return table(head, [line[:-1] for line in lines])


def _abilities(row: dict[str, Any]) -> str:
    words = {"chat_interactive": "chat", "chat_bulk": "chat"}
    can = dict.fromkeys(words.get(one, one) for one in row.get("classes", ()))
    can |= dict.fromkeys(one for one in ("tools", "reasoning") if row.get(one))
    return ", ".join(can)
