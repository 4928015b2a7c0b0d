"""`helexa config`: the settings in force, and the pages made from the catalogue."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from helexa.cli import flags
from helexa.cli.output import document, table

SUMMARY = "Show settings and where each came from, or write the reference and the example file."
EXAMPLE = "helexa config show --origin --config helexa.toml"


def configure(parser: ArgumentParser) -> None:
    parser.add_argument(
        "action",
        choices=("show", "reference", "example"),
        help="the settings in force; docs/settings.md; helexa.example.toml",
    )
    parser.add_argument(
        "--origin", action="store_true", help="for show: say where each value came from"
    )
    parser.add_argument("--changed", action="store_true", help="for show: leave out the defaults")
    flags.add(parser, *flags.COMMON)


def run(args: Namespace) -> int:
    from helexa.config import Layer, render

    if args.action != "show":
        text = render.reference() if args.action == "reference" else render.example()
        if args.json:
            document({args.action: text})
        else:
            print(text, end="")
        return 0
    config = flags.config_of(args, roles=("cortex", "neuron"))
    values = {
        key: found
        for key, found in config.values.items()
        if not (args.changed and found.origin.layer is Layer.DEFAULT)
    }
    if args.json:
        document(
            {
                key: {"value": _plain(found.value), "origin": str(found.origin)}
                for key, found in values.items()
            }
        )
        return 0
    rows = list(render.shown(values.items()))
    if args.origin:
        print(table(("setting", "value", "origin"), rows))
    else:
        print(table(("setting", "value"), [row[:2] for row in rows]))
    return 0


def _plain(value: object) -> object:
    if value is None or isinstance(value, bool | int | float | dict):
        return value
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return str(value)
