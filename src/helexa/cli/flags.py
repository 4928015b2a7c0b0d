"""Flags made from the catalogue of settings, and settings made from flags."""

from __future__ import annotations

import os
from argparse import SUPPRESS, ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Final

from helexa.config import Config, Layer, load
from helexa.config.catalogue import SETTINGS, Setting
from helexa.config.kinds import Choice, Folder, ListOf, Size, Socket, Switch, Ticket
from helexa.config.load import Flags
from helexa.util import logs

COMMON: Final = ("home", "log_level")


def add(parser: ArgumentParser, *keys: str) -> None:
    """`--config`, `--set` and the flags of the settings named."""
    group = parser.add_argument_group("settings")
    for key in keys:
        setting = SETTINGS[key]
        if isinstance(setting.kind, Switch):
            off = "false" if setting.flag.startswith("--no-") else "true"
            group.add_argument(
                setting.flag, dest=key, action="store_const", const=off, default=SUPPRESS,
                help=_help(setting),
            )  # fmt: skip
        else:
            group.add_argument(
                setting.flag,
                dest=key,
                metavar=_metavar(setting),
                default=SUPPRESS,
                action="append" if setting.is_list else "store",
                help=_help(setting),
            )
    group.add_argument("--config", metavar="FILE", help="a TOML file; see helexa.example.toml")
    group.add_argument(
        "--set",
        dest="assignments",
        metavar="KEY=VALUE",
        action="append",
        type=_assignment,
        default=[],
        help="any setting by its key, such as cortex.queue_max=64 (repeatable)",
    )


def config_of(args: Namespace, roles: Collection[str] = ()) -> Config:
    """The settings that this command line asks for. Raises ConfigRefused."""
    file = getattr(args, "config", None)
    config = load(given(args), os.environ, file=Path(file) if file else None, roles=roles)
    # A command that only asks says what it found; the parts that it uses need not tell how.
    quiet = config.origin("log_level").layer is Layer.DEFAULT
    logs.set_up("warning" if quiet else config.node.log_level, config.node.log_format)
    return config


def given(args: Namespace) -> Flags:
    flags: dict[str, tuple[str, str | Sequence[str]]] = {}
    for key, text in getattr(args, "assignments", []):
        flags[key] = (f"--set {key}", text)
    for key, value in vars(args).items():
        if key in SETTINGS:
            flags[key] = (SETTINGS[key].flag, value)
    return flags


def _assignment(text: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not separator or not key:
        raise ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    return key.strip(), value


def _metavar(setting: Setting) -> str:
    kind = setting.kind.item if isinstance(setting.kind, ListOf) else setting.kind
    match kind:
        case Socket():
            return "HOST:PORT"
        case Folder():
            # One kind of setting is both: a path that nothing is relative to.
            return "FILE" if setting.name.startswith("gateway_tls_") else "DIR"
        case Ticket():
            return "TICKET"
        case Size():
            return "SIZE"
        case Choice(options):
            return "|".join(options)
        case _:
            return setting.name.upper().rstrip("S")


def _help(setting: Setting) -> str:
    text = setting.help.rstrip(".")
    if isinstance(setting.kind, Switch):
        return setting.off or text
    if setting.is_list:
        text += " (repeatable)"
    default = setting.default_words
    if not default and setting.default not in (None, "", (), {}):
        default = setting.kind.to_toml(setting.default).strip('"')
    text = f"{text} [{default}]" if default else text
    return text.replace("%", "%%")
