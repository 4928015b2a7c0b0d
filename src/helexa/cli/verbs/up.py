"""`helexa up`: one machine, one command."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final

import helexa
from helexa.cli import flags
from helexa.cli.nodes import explain_taken
from helexa.cli.output import event, facts, note
from helexa.cli.pair import Pair, Ready
from helexa.cli.verb import Failed
from helexa.config import Config
from helexa.config.catalogue import SETTINGS
from helexa.util import lifetime
from helexa.util.sockets import AddressTaken, listen_tcp

SUMMARY = "Run a cortex and a neuron on this machine, with the demo model loaded."
EXAMPLE = "helexa up --models-dir ~/models"

SOCKETS: Final = (
    "up.gateway_socket",
    "up.portal_socket",
    "up.orchestrator_socket",
    "up.api_socket",
)


def configure(parser: ArgumentParser) -> None:
    tls = ("cortex.gateway_tls_cert", "cortex.gateway_tls_key")
    flags.add(parser, *SOCKETS, *tls, "neuron.models_dir", *flags.COMMON)


def run(args: Namespace) -> int:
    config = flags.config_of(args, roles=("up",))
    _refuse_taken(config)
    pair = Pair(config, _passed_on(args), event if args.json else _tell)
    say_ready = _as_event if args.json else _as_text
    lifetime.run(
        lambda: lifetime.until_told(
            pair.running(),
            lambda ready: say_ready(config, ready),
            lambda _ready: pair.hang_up(),
        )
    )
    if args.json:
        event({"event": "stopped", "role": "up"})
    return 0


def _refuse_taken(config: Config) -> None:
    """Now, with the flag's name, rather than in a child's log."""
    for key in SOCKETS:
        try:
            listen_tcp(config.values[key].value).close()
        except AddressTaken as error:
            raise Failed(explain_taken(error, config, "up")) from error


def _passed_on(args: Namespace) -> list[str]:
    """The given settings that are not `up`'s own, in the form that every node verb reads."""
    passed = []
    for key, (_, text) in flags.given(args).items():
        if key in SETTINGS and SETTINGS[key].section != "up" and key != "home":
            value = text if isinstance(text, str) else ",".join(text)
            passed += ["--set", f"{key}={value}"]
    return passed


def _as_event(config: Config, ready: Ready) -> None:
    urls = ("gateway_url", "portal_urls", "orchestrator_url", "ticket", "node_id")
    event(
        {
            "event": "ready",
            "role": "up",
            **asdict(ready),
            **{name: ready.cortex.get(name) for name in urls},
            "api_url": ready.neuron.get("api_url"),
            "control_addr": ready.neuron.get("control_addr"),
            "home": str(config.node.home),
            "pid": os.getpid(),
            "version": helexa.__version__,
        }
    )


def _as_text(config: Config, ready: Ready) -> None:
    told = facts(
        [
            ("portal", ready.portal_url),
            ("base URL", ready.base_url),
            ("API key", ready.api_key),
            ("admin token", ready.admin_token),
            ("models", ready.models),
            ("home", config.node.home),
        ]
    )
    print(f"helexa is ready; Ctrl-C ends it\n\n{told}\n\ntry:\n{ready.curl}\n", flush=True)


def _tell(fields: Mapping[str, Any]) -> None:
    match fields["event"]:
        case "ended":
            words = "".join(f"\n  {line}" for line in fields["last_words"])
            note(
                f"the {fields['role']} ended with status {fields['status']}; "
                f"starting it again in {fields['again_in_s']:g} s{words}"
            )
        case "back":
            note(f"the {fields['role']} is back")
        case _:
            note(f"{fields['event']}: {fields.get('reason', '')}")
