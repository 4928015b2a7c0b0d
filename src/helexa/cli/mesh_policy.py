"""`helexa mesh policy`: federation settings of a running cortex, or of one that will start here.

A cortex that runs is asked, so that a change holds with its next request. When none
runs, the same file is changed under the lock that a running one would hold.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from typing import Any

from helexa.cli import flags, remote
from helexa.cli.client import running
from helexa.cli.output import table
from helexa.cli.verb import Failed, Misused
from helexa.config.federation import FederationStore
from helexa.protocol.errors import RequestRejected
from helexa.util.home import claimed

PATH = "/api/v1/mesh/policy"
USE = "nothing, `set NAME=VALUE ...` or `unset NAME ...`"

Shown = Mapping[str, Mapping[str, Any]]


def policy(args: Namespace, words: Sequence[str]) -> Shown:
    """The policy, or after a change what was changed of it. Raises Misused, Failed."""
    verb, *rest = words or ["show"]
    if verb not in ("show", "set", "unset") or bool(rest) == (verb == "show"):
        raise Misused(f"policy takes {USE}")
    changes = dict(map(_pair, rest)) if verb == "set" else {}
    unset = list(map(_name, rest)) if verb == "unset" else []
    shown = _asked(args, changes, unset)
    touched = {*changes, *unset}
    return {name: one for name, one in shown.items() if not touched or name in touched}


def _asked(args: Namespace, changes: Mapping[str, str], unset: Sequence[str]) -> Shown:
    config = flags.config_of(args)
    if args.url or running(config.cortex.home) is not None:
        client = remote.client(args, "cortex")
        body = {"set": changes, "unset": unset}
        found = client.post(PATH, body) if changes or unset else client.get(PATH)
        return dict(found["policy"])
    store = FederationStore.of(config)
    if changes or unset:
        try:
            with claimed(config.cortex.home):
                store.change(changes, unset)
        except RequestRejected as error:
            raise Failed(error.message) from error
    return store.shown()


def _pair(word: str) -> tuple[str, str]:
    name, separator, value = word.partition("=")
    if not separator:
        raise Misused(f"{word!r} is not NAME=VALUE")
    return _name(name), value


def _name(name: str) -> str:
    return name.strip().removeprefix("federation.")


def told(shown: Shown) -> str:
    rows = [(name, _value(one.get("value")), one.get("origin", "")) for name, one in shown.items()]
    return table(("setting", "value", "origin"), rows)


def _value(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "(all)"
    return "(no limit)" if value is None else str(value)
