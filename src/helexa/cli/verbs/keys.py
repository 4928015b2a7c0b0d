"""`helexa keys`: API keys, in the database under --home or through a cortex elsewhere."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from helexa.cli import flags, key_limits, remote
from helexa.cli.client import Client, in_path
from helexa.cli.output import day, document, note, table
from helexa.cli.verb import Misused

SUMMARY = "Make, list, limit and revoke the API keys that clients use."
DEFAULT_NAME = "default"
EXAMPLE = "helexa keys create laptop"

Json = dict[str, Any]


class KeyStore(Protocol):
    """What is to be done with keys, wherever they are kept. Rows are JSON objects."""

    def create(self, name: str, account: str, limits: Json, expires_at: int | None) -> Json: ...
    def change(
        self, key: str, limits: Json, unset: list[str], expires_at: int | None, *, lasts: bool
    ) -> Json: ...
    def change_account(self, name: str, limits: Json, unset: list[str]) -> Json: ...
    def all(self) -> list[Json]: ...
    def accounts(self) -> list[Json]: ...
    def revoke(self, key: str) -> Json: ...


def configure(parser: ArgumentParser) -> None:
    parser.add_argument("action", choices=("create", "list", "set", "revoke", "accounts"))
    parser.add_argument(
        "key", nargs="?", help="create: a name for it; set, revoke: its id, its name, or itself"
    )
    parser.add_argument("--name", help="the same name, said with a flag")
    parser.add_argument(
        "--account", help="create: whose key it is; set: limit the account instead of a key"
    )
    key_limits.add(parser)
    remote.add(parser, flag="--admin-token")


def run(args: Namespace) -> int:
    limits, unset = key_limits.said(args)
    is_limited = bool(limits or unset or args.expires is not None)
    match args.action:
        case "create" if args.name and args.key:
            raise Misused("create takes one name")
        case "create" if unset:
            raise Misused("a new key has no limits to leave to others")
        case "revoke" if not args.key:
            raise Misused("revoke needs a key's id, its name, or the key itself")
        case "set" if bool(args.key) == bool(args.account):
            raise Misused("set needs a key, or --account NAME")
        case "set" if not is_limited:
            raise Misused("set needs something to set, such as --tokens-per-minute 10000")
        case "set" if args.account and args.expires is not None:
            raise Misused("keys expire, accounts do not")
        case "list" | "accounts" if args.key:
            raise Misused(f"{args.action} takes no {args.key!r}")
        case "list" | "accounts" | "revoke" if is_limited:
            raise Misused(f"{args.action} sets nothing")
    key_limits.checked(limits)
    with _store(args) as store:
        _do(args, store, limits, unset)
    return 0


def _do(args: Namespace, store: KeyStore, limits: Json, unset: list[str]) -> None:
    expires_at = args.expires or None
    match args.action:
        case "create":
            given = args.key if args.key is not None else args.name
            name = DEFAULT_NAME if given is None else given
            made = store.create(name, args.account or "default", limits, expires_at)
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
        case "accounts":
            accounts = store.accounts()
            if args.json:
                document({"accounts": accounts})
            else:
                print(_accounts(accounts) if accounts else "no accounts")
        case "set" if args.account:
            _changed(args, store.change_account(args.account, limits, unset))
        case "set":
            lasts = args.expires == 0
            _changed(args, store.change(args.key, limits, unset, expires_at, lasts=lasts))
        case "revoke":
            gone = store.revoke(args.key)
            if args.json:
                document(gone)
            else:
                print(f"{gone['id']} ({gone['name']}) is revoked")


def _changed(args: Namespace, row: Json) -> None:
    if args.json:
        document(row)
        return
    who = f"{row['id']} ({row['name']})" if "id" in row else f"account {row['name']}"
    said = key_limits.shown(row["limits"]) or "nothing: its account or [limits] decides"
    ends = f", until {day(row['expires_at'])} UTC" if row.get("expires_at") else ""
    print(f"{who} says {said}{ends}")


def _listed(keys: list[Json]) -> str:
    rows = [
        (
            one["id"],
            one["name"],
            one["account"],
            one["hint"],
            day(one["created_at"]),
            day(one.get("expires_at")),
            day(one["revoked_at"]),
            key_limits.shown(one.get("limits", {})),
        )
        for one in keys
    ]
    heads = (
        "id",
        "name",
        "account",
        "key",
        "created (UTC)",
        "expires (UTC)",
        "revoked (UTC)",
        "limits",
    )
    return table(heads, rows)


def _accounts(accounts: list[Json]) -> str:
    rows = [(one["name"], str(one["keys"]), key_limits.shown(one["limits"])) for one in accounts]
    return table(("account", "keys", "limits"), rows)


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

        def create(self, name: str, account: str, limits: Json, expires_at: int | None) -> Json:
            return _row(
                self._keys.create(
                    name, account=account, limits=key_limits.checked(limits), expires_at=expires_at
                )
            )

        def change(
            self, key: str, limits: Json, unset: list[str], expires_at: int | None, *, lasts: bool
        ) -> Json:
            without = (*unset, *(("expires_at",) if lasts else ()))
            return _row(
                self._keys.change(
                    key, key_limits.checked(limits), unset=without, expires_at=expires_at
                )
            )

        def change_account(self, name: str, limits: Json, unset: list[str]) -> Json:
            found = self._keys.change_account(name, key_limits.checked(limits), tuple(unset))
            return _row(found)

        def all(self) -> list[Json]:
            return [_row(key) for key in self._keys.all()]

        def accounts(self) -> list[Json]:
            return [_row(one) for one in self._keys.accounts()]

        def revoke(self, key: str) -> Json:
            return _row(self._keys.revoke(key))

    def _row(value: object) -> Json:
        return dict(msgspec.to_builtins(value))

    config = flags.config_of(args)
    with open_keys(config.cortex.home) as keys:
        yield Local(keys)


class _Remote:
    def __init__(self, client: Client) -> None:
        self._client = client

    def create(self, name: str, account: str, limits: Json, expires_at: int | None) -> Json:
        body = {"name": name, "account": account, "limits": limits, "expires_at": expires_at}
        return dict(self._client.post("/api/v1/keys", body))

    def change(
        self, key: str, limits: Json, unset: list[str], expires_at: int | None, *, lasts: bool
    ) -> Json:
        body = {
            "limits": limits,
            "unset": unset,
            "expires_at": expires_at,
            "unset_expiry": lasts,
        }
        return dict(self._client.patch(f"/api/v1/keys/{in_path(key)}", body))

    def change_account(self, name: str, limits: Json, unset: list[str]) -> Json:
        body = {"limits": limits, "unset": unset}
        return dict(self._client.patch(f"/api/v1/accounts/{in_path(name)}", body))

    def all(self) -> list[Json]:
        return list(self._client.get("/api/v1/keys")["keys"])

    def accounts(self) -> list[Json]:
        return list(self._client.get("/api/v1/accounts")["accounts"])

    def revoke(self, key: str) -> Json:
        return dict(self._client.delete(f"/api/v1/keys/{in_path(key)}"))
