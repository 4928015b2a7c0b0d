"""`helexa models`: what can be served where; pulling, loading, unloading and removing it."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final
from urllib.parse import urlencode

from helexa.cli import flags, models_table, progress, remote
from helexa.cli.client import Client, Refused, in_path, running
from helexa.cli.following import LOOK_EVERY_S, Asking, until_over
from helexa.cli.output import document, note
from helexa.cli.verb import Misused

SUMMARY = "List models, pull, load, unload or remove one, or take one into the catalogue."
EXAMPLE = "helexa models pull team/qwen --source hf:owner/repo --quantisation Q4_K_M"

LISTS: Final = ("ls", "list")
FOR_PULL: Final = ("source", "quantisation", "copies", "pin", "cancel")
PULL_WAITS: Final = ("unloaded", "failed", "absent")
"""States that a neuron may still announce when it has just begun to pull."""


ACTIONS: Final = ("ls", "pull", "load", "unload", "rm", "import", "list")


def configure(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("action", choices=ACTIONS, metavar="action",
        help="ls, pull, load, unload, rm (the files), import (into the catalogue)")  # fmt: skip
    add("model", nargs="?", help="the model's name; all but ls need one")
    add("--node", metavar="NODE", action="append", default=[], help="on one neuron; pull: on each")
    add("--everywhere", action="store_true", help="rm, pull --cancel: on all neurons")
    add("--source", metavar="SOURCE", help="pull: hf:OWNER/REPO, https://..., file:/PATH")
    add("--quantisation", metavar="WORD", help="pull: which variant, such as Q4_K_M")
    add("--copies", type=int, metavar="N", help="pull: to the best N neurons [1]")
    add("--pin", action="store_true", help="pull: never removed to make room on the disk")
    add("--cancel", action="store_true", help="pull: end it instead")
    add("--detach", action="store_true", help="pull, load: do not wait for the end")
    add("--on", choices=("cortex", "neuron"), help="ls, load, unload: whom to ask [who runs]")
    remote.add(parser)


def run(args: Namespace) -> int:
    _check(args)
    role = args.on or _role(args)
    if role == "neuron" and args.action not in (*LISTS, "load", "unload"):
        raise Misused(f"{args.action} is asked of a cortex, not of a neuron alone")
    client = remote.client(args, role)
    match args.action:
        case "ls" | "list":
            return _list(args, client, role)
        case "pull" if args.cancel:
            path = f"/api/v1/models/{in_path(args.model)}/pull{_where(args)}"
            return _told(args, client.delete(path))
        case "pull":
            return _pull(args, client)
        case "rm":
            return _told(args, client.delete(f"/api/v1/models/{in_path(args.model)}{_where(args)}"))
        case "import":
            return _import(args, client)
        case "load" if role == "cortex":
            return _load(args, client)
        case _:
            return _told(args, _act(args, client))


def _check(args: Namespace) -> None:
    if (args.action in LISTS) == bool(args.model):
        wants = "takes no model" if args.model else "needs a model's name"
        raise Misused(f"{args.action} {wants}")
    for flag in FOR_PULL:
        if getattr(args, flag) and args.action != "pull":
            raise Misused(f"--{flag} goes with pull")
    if args.cancel and (args.source or args.quantisation or args.copies or args.pin):
        raise Misused("--cancel takes a model and a neuron, nothing else")
    if args.detach and args.action not in ("pull", "load"):
        raise Misused("--detach goes with pull and load")
    if len(args.node) > 1 and (args.action != "pull" or args.cancel):
        raise Misused(f"{args.action} takes one --node")
    if args.copies is not None and args.copies < 1:
        raise Misused("--copies is 1 or more")
    if args.action in LISTS and (args.node or args.everywhere):
        raise Misused(f"{args.action} shows all neurons; it takes no --node and no --everywhere")
    if args.copies is not None and args.node:
        raise Misused("--copies chooses the neurons; --node names them")


def _role(args: Namespace) -> str:
    """The cortex when one runs here, because it knows every neuron."""
    home = flags.config_of(args).node.home
    alone = running(home / "cortex") is None and running(home / "neuron") is not None
    return "neuron" if alone and not args.url else "cortex"


def _list(args: Namespace, client: Client, role: str) -> int:
    path = "/api/v1/models" if role == "cortex" else "/api/v1/status"
    answer = client.get(path)
    rows: list[dict[str, Any]] = list(answer["models"])
    troubles = list(answer.get("servers", ()))
    if args.json:
        document({"models": rows, **({"servers": troubles} if role == "neuron" else {})})
    elif not rows:
        print("no models; put a GGUF file into the models folder, or `helexa models pull`")
    else:
        print((models_table.of_cortex if role == "cortex" else models_table.of_neuron)(rows))
    if not args.json:
        for one in troubles:
            print(f"the server {one['server']}: {one['reason']}")
    return 0


# --- what goes on for a while


def _pull(args: Namespace, client: Client) -> int:
    body = {
        "nodes": args.node,
        "source": args.source or "",
        "quantisation": args.quantisation or "",
        "copies": args.copies or 1,
        **({"pin": True} if args.pin else {}),
    }
    answer = client.post(f"/api/v1/models/{in_path(args.model)}/pull", body)
    begun = [one["node"] for one in answer["results"] if not one["response"]["final"]]
    if args.detach or not begun:
        return _told(args, answer)
    look = partial(_steps, client, args.model, begun)
    found = _follow(
        args,
        lambda screen: until_over(look, screen, idle=PULL_WAITS),
        f"the pull goes on; `helexa models pull {args.model} --cancel` ends it",
    )
    by_node = dict(zip(begun, found, strict=True))
    results = [
        {
            "node": one["node"],
            "response": one["response"]
            if one["node"] not in by_node
            else _outcome(by_node[one["node"]]),
        }
        for one in answer["results"]
    ]
    return _told(args, {"model": args.model, "results": results})


def _load(args: Namespace, client: Client) -> int:
    nodes = [one["node"] for one in _row(client, args.model).get("nodes", ())]
    asking = Asking(partial(_act, args, client))
    if args.detach:
        # Long enough to be refused; whatever was begun by then goes on without us.
        if asking.over.wait(2 * LOOK_EVERY_S):
            return _told(args, asking.answer())
        answer = {"model": args.model, "results": [_begun(node) for node in nodes]}
        return _told(args, answer)
    chosen = args.node[0] if args.node else ""
    look = partial(_steps, client, args.model, nodes, chosen)
    answer = _follow(args, lambda screen: asking.watched(look, screen), "the load goes on")
    return _told(args, answer)


def _follow(args: Namespace, watch: Callable[[progress.Screen], Any], parting: str) -> Any:
    screen = progress.screen(as_json=args.json)
    try:
        return watch(screen)
    except KeyboardInterrupt:
        note(f"\n{parting}")
        raise
    finally:
        screen.close()


def _steps(
    client: Client, model: str, nodes: Sequence[str], chosen: str = ""
) -> Sequence[progress.Step]:
    found = progress.steps(_row(client, model), nodes)
    named = zip(nodes, found, strict=True)
    return [one for node, one in named if node.startswith(chosen) or one.name == chosen]


def _row(client: Client, model: str) -> dict[str, Any]:
    try:
        return dict(client.get(f"/api/v1/models/{in_path(model)}"))
    except Refused as error:
        if error.code == "model_not_found":
            return {}
        raise


def _begun(node: str) -> dict[str, Any]:
    return {"node": node, "response": {"state": "loading", "final": False}}


def _outcome(step: progress.Step) -> dict[str, Any]:
    if step.state == "absent":
        return {"state": "failed", "reason": "the pull was ended, or its neuron left"}
    return {"state": step.state, "reason": step.note if step.has_failed else ""}


# --- the rest


def _act(args: Namespace, client: Client) -> dict[str, Any]:
    body = {"node": args.node[0]} if args.node else {}
    return dict(client.post(f"/api/v1/models/{in_path(args.model)}/{args.action}", body))


def _where(args: Namespace) -> str:
    query = {"node": args.node[0]} if args.node else {}
    if args.everywhere:
        query["everywhere"] = "true"
    return f"?{urlencode(query)}" if query else ""


def _import(args: Namespace, client: Client) -> int:
    answer = client.post(f"/api/v1/models/{in_path(args.model)}/import")
    if args.json:
        document(answer)
    else:
        done = "is in the catalogue now" if answer["created"] else "has a new entry"
        print(f"{args.model} {done}; `helexa catalogue show {args.model}` shows it")
    return 0


_DONE: Final = {"pull": "pulled", "rm": "removed", "cancel": "not pulled any more"}


def _told(args: Namespace, answer: dict[str, Any]) -> int:
    """Each neuron's outcome, and the exit status of them all."""
    outcomes = _outcomes(answer)
    if args.json:
        document(answer)
    else:
        word = _DONE.get("cancel" if args.cancel else args.action)
        for node, state, reason, is_final in outcomes:
            where = f" on {node[:10]}" if node else ""
            said = state if state == "failed" or not word or not is_final else word
            print(f"{args.model} is {said}{where}{': ' + reason if reason else ''}")
    return 1 if any(state == "failed" for _, state, _, _ in outcomes) else 0


def _outcomes(answer: dict[str, Any]) -> list[tuple[str, str, str, bool]]:
    """(node, state, reason, final) of each neuron that acted; a neuron alone answers for itself."""
    results = answer.get("results")
    if results is None:
        return [("", str(answer.get("state", "")), str(answer.get("reason", "")), True)]
    if not results:
        return [("", "failed", "no neuron that has it is connected", True)]
    return [
        (
            one["node"],
            str(one["response"].get("state", "")),
            str(one["response"].get("reason") or ""),
            bool(one["response"].get("final", True)),
        )
        for one in results
    ]
