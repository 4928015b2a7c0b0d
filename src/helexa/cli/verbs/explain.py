"""`helexa explain`: where a request would go now, and why not elsewhere."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlencode

from helexa.cli import remote
from helexa.cli.output import document, facts, table

SUMMARY = "Explain where a request for a model would go now, and why not elsewhere."
EXAMPLE = "helexa explain --model helexa-demo"
WORKLOADS: Final = (
    "chat_interactive", "chat_bulk", "completion", "embedding", "rerank", "vision", "image",
    "audio", "other",
)  # fmt: skip


def configure(parser: ArgumentParser) -> None:
    parser.add_argument("--model", metavar="MODEL", required=True, help="a model, or an alias")
    parser.add_argument(
        "--workload", metavar="CLASS", choices=WORKLOADS, default="chat_interactive",
        help=f"the kind of work: {', '.join(WORKLOADS)} [chat_interactive]",
    )  # fmt: skip
    parser.add_argument(
        "--session", metavar="MARK", default="", help="requests of one session keep together"
    )
    parser.add_argument(
        "--policy", metavar="PARTS", default="",
        help="what the request asks of its way, as in x-helexa-policy",
    )  # fmt: skip
    remote.add(parser)


def run(args: Namespace) -> int:
    client = remote.client(args, "cortex")
    asked = {
        "model": args.model,
        "workload": args.workload,
        "session": args.session,
    }
    query = urlencode({name: value for name, value in asked.items() if value})
    wish = {"x-helexa-policy": args.policy} if args.policy else {}
    found = client.get(f"/api/v1/explain?{query}", wish)
    if args.json:
        document(found)
    else:
        print(shown(found))
    return 0 if found["targets"] else 1


def shown(found: Mapping[str, Any]) -> str:
    choices = [one for one in found.get("choices", ()) if one != found["model"]]
    about = facts(
        [
            ("model", found["model"]),
            ("leads to", choices),
            ("work", found["workload"]),
            ("policy", found["policy"]),
        ]
    )
    if not found["candidates"]:
        return f"{about}\n\nnobody has it"
    end = "" if found["targets"] else "\n\nnobody would be asked"
    return f"{about}\n\n{_candidates(found['candidates'])}{end}"


def _candidates(rows: Sequence[Mapping[str, Any]]) -> str:
    several = len({row["model"] for row in rows}) > 1
    head = ["place", "neuron", "state", "busy", "queue", "tok/s", "first token", "price", "why"]
    lines = [
        [
            str(row["place"]) if row["place"] else "-",
            f"via {row['name']}" if row.get("via") else row["name"],
            row.get("state", ""),
            f"{row.get('busy', 0)}/{row['slots']}" if row.get("slots") else "",
            _span(row.get("queue_s")),
            f"{row['tokens_per_s']:.1f}" if row.get("tokens_per_s") else "",
            _span(row.get("first_token_s")),
            _price(row.get("price") or {}),
            row["reason"],
        ]
        for row in rows
    ]
    if several:
        head.insert(1, "model")
        for line, row in zip(lines, rows, strict=True):
            line.insert(1, row["model"])
    return table(head, lines)


def _span(seconds: Any) -> str:
    return f"{seconds:.2f} s" if seconds else ""


def _price(price: Mapping[str, int]) -> str:
    """The dearest kind of token, in nano-credits."""
    dearest = max(price.values(), default=0)
    return str(dearest) if dearest else ""
