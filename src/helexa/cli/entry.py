"""From a command line to a verb, and from whatever happened to an exit status.

0 done, 1 refused or failed (one line on stderr each), 2 a command line that cannot be
read, 130 interrupted. Tracebacks are for those who set HELEXA_DEBUG.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from argparse import Action, ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Sequence
from typing import Final, cast

import helexa
from helexa.cli.output import event
from helexa.cli.verb import Failed, Misused, Verb

VERBS: Final = (
    "up",
    "cortex",
    "neuron",
    "keys",
    "models",
    "nodes",
    "catalogue",
    "explain",
    "mesh",
    "operator",
    "inspect",
    "doctor",
    "config",
    "version",
)
"""In the order of `--help`: what a newcomer needs first."""

HELP_WIDTH: Final = 100


def enter(argv: Sequence[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        print(_overview())
        return 0 if argv else 2
    if argv[0] in ("-V", "--version"):
        argv = ["version", *argv[1:]]
    word = argv[0]
    if word not in VERBS:
        print(f"helexa: {word!r} is not a verb; `helexa --help` lists them", file=sys.stderr)
        return 2
    verb = verb_of(word)
    # Intermixed: a person puts flags between an action and what it acts on.
    args = parser_of(word, verb).parse_intermixed_args(argv[1:])
    return _run(verb, args)


def verb_of(word: str) -> Verb:
    return cast(Verb, importlib.import_module(f"helexa.cli.verbs.{word}"))


def parser_of(word: str, verb: Verb) -> ArgumentParser:
    parser = ArgumentParser(
        prog=f"helexa {word}",
        description=verb.SUMMARY,
        epilog=f"example:\n  {verb.EXAMPLE}",
        formatter_class=lambda prog: RawDescriptionHelpFormatter(
            prog, max_help_position=32, width=HELP_WIDTH
        ),
        allow_abbrev=False,
    )
    verb.configure(parser)
    parser.add_argument("--json", action="store_true", help="machine-readable output on stdout")
    # Every option is listed below it with its words; twice would be more than a screen.
    named = [_shown(one) for one in parser._get_positional_actions()]  # noqa: SLF001
    parser.usage = " ".join(("%(prog)s", *named, "[options]"))
    return parser


def _shown(positional: Action) -> str:
    """As argparse shows it in its own line of usage."""
    name = positional.metavar or "|".join(positional.choices or ()) or positional.dest
    assert isinstance(name, str)
    match positional.nargs:
        case "?":
            return f"[{name}]"
        case "*" | "+":
            return f"{name} ..." if positional.nargs == "+" else f"[{name} ...]"
        case _:
            return name


def _overview() -> str:
    width = max(len(word) for word in VERBS)
    verbs = "\n".join(f"  {word:{width}}  {verb_of(word).SUMMARY}" for word in VERBS)
    return (
        f"helexa {helexa.__version__}: neurons run models, cortexes route to them, "
        "clients see one OpenAI endpoint.\n\n"
        f"usage: helexa VERB [FLAGS]\n\nverbs:\n{verbs}\n\n"
        "`helexa VERB --help` explains one.\n\nexample:\n  helexa up"
    )


def _run(verb: Verb, args: Namespace) -> int:
    try:
        return verb.run(args)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our output left; the interpreter's last flush must not complain about it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:  # noqa: BLE001 - the outermost edge: a person gets a sentence
        if os.environ.get("HELEXA_DEBUG"):
            traceback.print_exc()
        for line in told(error):
            print(f"helexa: {line}", file=sys.stderr)
            if args.json:
                event({"event": "error", "message": line})
        return 2 if isinstance(error, Misused) else 1


def told(error: BaseException) -> list[str]:
    """What a person is told about an exception: its own words when it was made for that."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    if isinstance(error, Failed) or _is_ours(error):
        return str(error).splitlines() or [type(error).__name__]
    if isinstance(error, OSError):
        return [str(error)]
    return [f"internal fault: {type(error).__name__}: {error} (HELEXA_DEBUG=1 shows where)"]


def _is_ours(error: BaseException) -> bool:
    """Exceptions of this package are written for operators; others are somebody else's words."""
    return type(error).__module__.startswith("helexa.")
