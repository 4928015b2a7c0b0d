"""`helexa version`: what runs here, for a bug report."""

from __future__ import annotations

import platform
from argparse import ArgumentParser, Namespace
from importlib import metadata
from importlib.util import find_spec
from typing import Final

import helexa
from helexa.cli.output import document, facts
from helexa.protocol.version import SPOKEN

SUMMARY = "Show the versions of helexa, its protocol, and the parts it stands on."
EXAMPLE = "helexa version --json"

PARTS: Final = ("iroh", "xllamacpp", "uvicorn", "uvloop", "sqlalchemy", "msgspec")


def configure(parser: ArgumentParser) -> None:
    """No flags but `--json`."""


def run(args: Namespace) -> int:
    found = {
        "helexa": helexa.__version__,
        "protocol": str(SPOKEN),
        "python": platform.python_version(),
        "request path": _request_path(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        **{part: _version(part) for part in PARTS},
    }
    if args.json:
        document(found)
    else:
        print(facts(list(found.items())))
    return 0


def _version(part: str) -> str:
    try:
        return metadata.version(part)
    except metadata.PackageNotFoundError:
        return "missing"


def _request_path() -> str:
    """`make compile` makes the one, and what is installed is the other."""
    found = find_spec("helexa.util.exchange")
    interpreted = found is None or (found.origin or "").endswith(".py")
    return "interpreted" if interpreted else "compiled"
