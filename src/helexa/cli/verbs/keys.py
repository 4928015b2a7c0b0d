"""`helexa keys`: API keys, in the database under --home or through a cortex elsewhere."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from helexa.cli import flags, remote
from helexa.cli.client import Client, in_path
from helexa.cli.output import day, document, note, table
from helexa.cli.verb import Misused

SUMMARY = "Make, list and revoke the API keys that clients use."
DEFAULT_NAME = "default"
EXAMPLE = "helexa keys create laptop"


class KeyStore(Protocol):
    """The three things to do with keys, wherever they are kept. Rows are JSON objects."""

    def create(self, name: str) -> dict[str, Any]: ...
    def all(self) -> list[dict[str, Any]]: ...
    def revoke(self, key: str) -> dict[str, Any]: ...


def configure(parser: ArgumentParser) -> None:
    parser.add_argument("action", choices=("create", "list", "revoke"))
    parser.add_argument(
        "key", nargs="?", help="create: a name for it; revoke: its id, its name, or itself"
    )
    parser.add_argument("--name", help="the same name, said with a flag")
    remote.add(parser, flag="--admin-token")


def run(args: Namespace) -> int:
    match args.action:
        case "create" if args.name and args.key:
            raise Misused("create takes one name")
        case "revoke" if not args.key:
            raise Misused("revoke needs a key's id, its name, or the key itself")
        case "list" if args.key:
            raise Misused(f"list takes no {args.key!r}")
    with _store(args) as store:
        match args.action:
            case "create":
                made = store.create(args.key or args.name or DEFAULT_NAME)
                if args.json:
                    document(made)
                else:
                    note(f"{made['key']['id']}: keep it, it is shown only now")
                    print(made["secret"])
            case "list":
                keys = store.all()
                if args.json:
                    document({"keys": keys})
                else:
                    print(_listed(keys) if keys else "no keys; `helexa keys create NAME`")
            case "revoke":
                gone = store.revoke(args.key)
                if args.json:
                    document(gone)
                else:
                    print(f"{gone['id']} ({gone['name']}) is revoked")
    return 0


def _listed(keys: list[dict[str, Any]]) -> str:
    rows = [
        (one["id"], one["name"], one["hint"], day(one["created_at"]), day(one["revoked_at"]))
        for one in keys
    ]
    return table(("id", "name", "key", "created (UTC)", "revoked (UTC)"), rows)


@contextmanager
def _store(args: Namespace) -> Iterator[KeyStore]:
    if args.url:
        yield _Remote(remote.client(args, "cortex"))
        return
    import msgspec  # The database brings SQLAlchemy; a remote cortex needs neither.

    from helexa.cortex.accounts.keys import Keys, open_keys

    class Local:
        def __init__(self, keys: Keys) -> None:
            self._keys = keys

        def create(self, name: str) -> dict[str, Any]:
            return dict(msgspec.to_builtins(self._keys.create(name)))

        def all(self) -> list[dict[str, Any]]:
            return [dict(msgspec.to_builtins(key)) for key in self._keys.all()]

        def revoke(self, key: str) -> dict[str, Any]:
            return dict(msgspec.to_builtins(self._keys.revoke(key)))

    config = flags.config_of(args)
    with open_keys(config.cortex.home) as keys:
        yield Local(keys)


class _Remote:
    def __init__(self, client: Client) -> None:
        self._client = client

    def create(self, name: str) -> dict[str, Any]:
        return dict(self._client.post("/api/v1/keys", {"name": name}))

    def all(self) -> list[dict[str, Any]]:
        return list(self._client.get("/api/v1/keys")["keys"])

    def revoke(self, key: str) -> dict[str, Any]:
        return dict(self._client.delete(f"/api/v1/keys/{in_path(key)}"))
