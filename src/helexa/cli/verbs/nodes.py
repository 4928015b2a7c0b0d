"""`helexa nodes`: the neurons of a cortex, and what its operator says about them."""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from helexa.cli import remote
from helexa.cli.client import Client, in_path
from helexa.cli.output import document, note, table
from helexa.cli.verb import Failed, Misused
from helexa.util.units import format_bytes, format_seconds, parse_seconds

SUMMARY = "List neurons; drain or cordon one, or undo that."
EXAMPLE = "helexa nodes drain attic --wait"
LOOK_EVERY_S: Final = 0.5
TELL_EVERY_S: Final = 5.0


def configure(parser: ArgumentParser) -> None:
    parser.add_argument(
        "action", choices=("ls", "drain", "undrain", "cordon", "uncordon"), metavar="action",
        help="ls; drain: no requests, no models, running work ends; cordon: no new models; "
        "undrain and uncordon undo them",
    )  # fmt: skip
    parser.add_argument("node", nargs="?", help="a neuron by its id, the start of it, or its name")
    parser.add_argument(
        "--wait", action="store_true", help="drain: return when no request is running there"
    )
    parser.add_argument(
        "--within", metavar="TIME", help="with --wait: fail when that takes longer, such as 10m"
    )
    remote.add(parser)


def run(args: Namespace) -> int:
    if (args.action == "ls") == bool(args.node):
        raise Misused(f"{args.action} {'takes no' if args.node else 'needs a'} node")
    if args.wait and args.action != "drain":
        raise Misused("--wait goes with drain")
    if args.within and not args.wait:
        raise Misused("--within goes with --wait")
    within_s = _seconds(args.within)
    client = remote.client(args, "cortex")
    if args.action == "ls":
        rows = client.get("/api/v1/nodes")["nodes"]
        if args.json:
            document({"nodes": rows})
        else:
            print(listed(rows))
        return 0
    answer = client.post(f"/api/v1/nodes/{in_path(args.node)}/{args.action}")
    if args.wait:
        answer = _until_idle(args, client, answer, within_s)
    if args.json:
        document(answer)
    else:
        print(_said(args, answer))
    return 0


def _seconds(text: str | None) -> float | None:
    try:
        return parse_seconds(text) if text else None
    except ValueError as error:
        raise Misused(f"--within: {error}") from error


def _said(args: Namespace, answer: Mapping[str, Any]) -> str:
    mark = answer["mark"]
    if mark and args.action in ("undrain", "uncordon"):
        return f"{args.node} is still {mark}; `helexa nodes {_UNDO[mark]} {args.node}` undoes that"
    running = answer.get("running", 0)
    works = f", {_requests(running)} still running" if running and mark == "drained" else ""
    if not mark and answer.get("draining"):
        return f"{args.node} is not marked here, and drains by another's word"
    return f"{args.node} is {mark or 'not marked any more'}{works}"


_UNDO: Final = {"drained": "undrain", "cordoned": "uncordon"}


def _requests(count: int) -> str:
    return "1 request" if count == 1 else f"{count} requests"


def _until_idle(
    args: Namespace,
    client: Client,
    answer: Mapping[str, Any],
    within_s: float | None,
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
) -> dict[str, Any]:
    """The answer again, with what is running when nothing is any more."""
    node, running = answer["node"], answer["running"]
    began_s, told, told_s = clock(), -1, 0.0
    # Its first report after the word may be of before it.
    sure_after_s = began_s + 2 * LOOK_EVERY_S
    while running or clock() < sure_after_s:
        now_s = clock()
        if within_s is not None and now_s - began_s > within_s:
            raise Failed(f"{args.node} still has {_requests(running)} after {within_s:g} s")
        if running and running != told and (told < 0 or now_s - told_s > TELL_EVERY_S):
            told, told_s = running, now_s
            if not args.json:
                note(f"{_requests(running)} still running on {args.node}")
        pause(LOOK_EVERY_S)
        row = client.get(f"/api/v1/nodes/{node}")
        running = row["running"] if row["presence"] != "gone" else 0
    return {**answer, "running": running}


def listed(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return "no neurons; start one with `helexa neuron --cortex TICKET`"
    head = (
        "neuron", "id", "state", "mark", "for", "models", "running", "waiting", "memory free",
        "disk free", "cpu", "gpus", "region", "note",
    )  # fmt: skip
    return table(head, [_row(one) for one in rows])


def _row(one: Mapping[str, Any]) -> tuple[object, ...]:
    load = one.get("load") or {}
    replicas = load.get("replicas", [])
    devices = one.get("hardware", {}).get("devices", [])
    cpus = one.get("hardware", {}).get("cpus", 0)
    return (
        one.get("name") or "-",
        one["node"][:10],
        "draining" if one["draining"] and one["presence"] == "present" else one["presence"],
        one.get("mark", ""),
        format_seconds(one.get("since_s", 0)),
        one.get("models", 0),
        one.get("running", 0),
        sum(replica.get("waiting", 0) for replica in replicas),
        _size(load.get("memory_free_bytes")),
        _size(load.get("disk_free_bytes")),
        f"{load.get('cpu_share', 0.0):.0%} of {cpus:g}" if load else "",
        ", ".join(device.get("name", "") for device in devices),
        one.get("region", ""),
        one.get("reason", ""),
    )


def _size(count: Any) -> str:
    return format_bytes(count) if count else ""
