"""`helexa catalogue`: what may be served, how and where; by call, beside the configuration."""

from __future__ import annotations

import tomllib
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from helexa.cli import entry_words, remote
from helexa.cli.client import Client, Refused, in_path
from helexa.cli.output import document, facts, note, table
from helexa.cli.verb import Failed, Misused

SUMMARY = "Show and change the catalogue: what may be served, how, and where."
EXAMPLE = "helexa catalogue set team/qwen source=hf:owner/repo quantisation=Q4_K_M replicas_min=1"


def configure(parser: ArgumentParser) -> None:
    parser.add_argument(
        "action", choices=("ls", "show", "set", "rm", "reload", "check"), metavar="action",
        help="ls; show, set or rm one entry; reload: read the configuration's entries again; "
        "check: what is wrong with them, or with those of --file",
    )  # fmt: skip
    parser.add_argument("model", nargs="?", help="show, set, rm: the entry's id")
    parser.add_argument(
        "changes", nargs="*", metavar="NAME=VALUE",
        help="set: settings of [[models]]; commas part a list, NAME= is the default again",
    )  # fmt: skip
    parser.add_argument("--file", metavar="FILE", help="check: a TOML file with [[models]]")
    remote.add(parser)


def run(args: Namespace) -> int:
    needs_model = args.action in ("show", "set", "rm")
    if needs_model != bool(args.model):
        raise Misused(f"{args.action} {'needs an' if needs_model else 'takes no'} entry's id")
    if args.changes and args.action != "set":
        raise Misused(f"{args.action} changes nothing: {args.changes[0]!r} goes with set")
    if args.file and args.action != "check":
        raise Misused("--file goes with check")
    client = remote.client(args, "cortex")
    match args.action:
        case "ls":
            return _list(args, client)
        case "show":
            return _show(args, client)
        case "set":
            return _set(args, client)
        case "rm":
            answer = client.delete(f"/api/v1/catalogue/{in_path(args.model)}")
            return _told(args, answer, f"{args.model} is out of the catalogue; its files stay")
        case "reload":
            return _reload(args, client)
        case _:
            return _check(args, client)


def _told(args: Namespace, answer: Mapping[str, Any], text: str) -> int:
    if args.json:
        document(answer)
    else:
        print(text)
    return 0


def _list(args: Namespace, client: Client) -> int:
    found = client.get("/api/v1/catalogue")
    if not args.json:
        for problem in found["problems"]:
            note(f"not in force: {problem}")
        for one in found["stale"]:
            note(f"holds after a restart: {one}")
    rows = found["entries"]
    return _told(args, found, _listed(rows) if rows else "no entries; models that neurons have are "
                 "served as entries of defaults would be")  # fmt: skip


def _listed(rows: Sequence[Mapping[str, Any]]) -> str:
    head = "model", "source", "replicas", "priority", "aliases", "where", "from"
    return table(head, [_row(one["entry"], one["origin"]) for one in rows])


def _row(entry: Mapping[str, Any], origin: str) -> tuple[object, ...]:
    most = entry.get("replicas_max")
    bound = [f"{key}={value}" for key, value in entry.get("labels", {}).items()]
    bound += [*entry.get("regions", ()), *entry.get("nodes", ())]
    bound += [one[:10] for one in entry.get("operators", ())]
    return (
        entry["id"],
        entry.get("source", ""),
        f"{entry.get('replicas_min', 0)}..{'' if most is None else most}",
        entry.get("priority", 0),
        ", ".join(alias["name"] for alias in entry.get("aliases", ())),
        ", ".join(bound) or "anywhere",
        origin,
    )


def _show(args: Namespace, client: Client) -> int:
    found = client.get(f"/api/v1/catalogue/{in_path(args.model)}")
    entry = {name: value for name, value in found["entry"].items() if value not in (None, {}, [])}
    shown = [(name, _words(value)) for name, value in entry.items()]
    return _told(args, found, facts([*shown, ("from", found["origin"])]))


def _words(value: Any) -> Any:
    """Lists as people write them; what has more shape as it is."""
    if isinstance(value, dict):
        return ", ".join(f"{key}={one}" for key, one in value.items())
    if isinstance(value, list):
        return [one["name"] if isinstance(one, dict) and "name" in one else one for one in value]
    return value


def _set(args: Namespace, client: Client) -> int:
    path = f"/api/v1/catalogue/{in_path(args.model)}"
    try:
        before = dict(client.get(path)["entry"])
    except Refused as error:
        if error.code != "entry_not_found":
            raise
        before = {}
    entry = entry_words.changed(before, args.changes)
    answer = client.ask("PUT", path, entry)
    done = "is in the catalogue now" if answer["created"] else "is changed"
    return _told(args, answer, f"{args.model} {done}")


def _reload(args: Namespace, client: Client) -> int:
    answer = client.post("/api/v1/catalogue/reload")
    problems = answer["problems"]
    text = "\n".join(problems) or f"read again; the catalogue is at revision {answer['revision']}"
    _told(args, answer, text)
    return 1 if problems else 0


def _check(args: Namespace, client: Client) -> int:
    entries = _entries(Path(args.file)) if args.file else []
    answer = client.post("/api/v1/catalogue/check", {"entries": entries})
    problems = answer["problems"]
    lines = [": ".join(part for part in (one["id"], one["where"], one["message"]) if part)
             for one in problems]  # fmt: skip
    _told(args, answer, "\n".join(lines) or "nothing is wrong")
    return 1 if problems else 0


def _entries(file: Path) -> list[Any]:
    try:
        found = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise Failed(f"{file}: {error}") from error
    entries = found.get("models", [])
    if not isinstance(entries, list) or not entries:
        raise Failed(f"{file} has no [[models]]")
    return entries
