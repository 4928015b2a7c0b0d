"""`python -m helexa.testing.conformance`: one runtime, its engine, one or several models."""

from __future__ import annotations

import argparse
import sys
import tomllib
from pathlib import Path
from typing import Any

import anyio
import msgspec

from helexa.neuron.settings import NeuronSettings
from helexa.runtime import adapters, installed
from helexa.runtime.contract import Installation
from helexa.testing.conformance import engines, page
from helexa.testing.conformance.findings import Findings
from helexa.testing.conformance.knowledge import KINDS
from helexa.testing.conformance.run import conform
from helexa.testing.conformance.stage import staged, usually
from helexa.testing.conformance.usual import LOOKS


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m helexa.testing.conformance",
        description="Try a runtime's engine behind a neuron, and say what it keeps.",
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--runtime", help="by name, as in [neuron.runtimes.NAME]")
    which.add_argument("--usual", nargs="*", metavar="NAME", help="with models of our own")
    parser.add_argument("--models", type=Path, metavar="FOLDER", help="the models folder")
    parser.add_argument("--model", action="append", help="repeatable; helexa-demo without any")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of the neuron"
    )
    parser.add_argument(
        "--argument", action="append", default=[], metavar="NAME=VALUE", help="for the runtime"
    )
    parser.add_argument("--knows", choices=KINDS, help="what the model says; by its name without")
    parser.add_argument("--cannot", action="append", default=[], metavar="ROW=REASON")
    parser.add_argument(
        "--only", default="", metavar="WORD", help="a row, or part of a case's name"
    )
    parser.add_argument("--patience", type=float, default=60.0, metavar="S", help="for one answer")
    parser.add_argument("--engine", default="", help="what the results call it")
    parser.add_argument("--results", type=Path, metavar="FILE", help="keep what was found, as JSON")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="into the page of the matrix")
    asked = parser.parse_args()
    if asked.runtime and (lack := _lack(asked)):
        parser.error(lack)
    found = anyio.run(_all, asked, backend_options={"use_uvloop": True})
    for each in found:
        sys.stdout.write(each.table() + "\n\n")
    failed = any(each.failures for each in found)
    if not failed:
        _keep(found, asked)
    return 1 if failed else 0


def _lack(asked: argparse.Namespace) -> str:
    """Why there is nothing to try; empty where there is."""
    try:
        adapter = adapters.load(asked.runtime)
    except adapters.AdapterUnknown as error:
        return str(error)
    own = _settings(asked.set).get("runtimes", {}).get(asked.runtime)
    where = Installation(python=own.python, program=own.program) if own else Installation()
    lack = installed.missing(adapter, where)
    if lack is None:
        return ""
    return f"{lack.detail}; or name its place: --set runtimes.{asked.runtime}.python=PATH"


def _keep(found: list[Findings], asked: argparse.Namespace) -> None:
    files = [asked.results] if asked.results else []
    files += [asked.write / page.JSON_NAME] if asked.write else []
    for file in files:
        for each in found:
            page.keep(each, file)
    if asked.write:
        page.rewrite(asked.write)


async def _all(asked: argparse.Namespace) -> list[Findings]:
    if asked.runtime:
        return [await _look(asked)]
    names = LOOKS if asked.usual == [] else asked.usual or ()
    return [await LOOKS[name]() for name in names]


async def _look(asked: argparse.Namespace) -> Findings:
    settings = _settings(asked.set)
    own = settings.get("runtimes", {}).get(asked.runtime)
    engine = asked.engine or engines.version(asked.runtime, own.python if own else None)
    found = Findings(runtime=asked.runtime, engine=engine)
    cannot = dict(each.split("=", 1) for each in asked.cannot)
    models_dir = asked.models.resolve() if asked.models else None
    for model in asked.model or ["helexa-demo"]:
        async with staged(
            model,
            runtime=asked.runtime,
            models_dir=models_dir,
            served=usually(tuple(asked.argument)),
            more=settings,
            knowledge=KINDS[asked.knows] if asked.knows else None,
            cannot=cannot,
            patience_s=asked.patience,
        ) as subject:
            found.add(await conform(subject, word=asked.only))
    return found


def _settings(words: list[str]) -> dict[str, Any]:
    """Of `a.b=1`: {"a": {"b": 1}}, as the types of the settings want it."""
    found: dict[str, Any] = {}
    for word in words:
        path, _, text = word.partition("=")
        *folders, name = path.split(".")
        inner = found
        for folder in folders:
            inner = inner.setdefault(folder, {})
        inner[name] = _value(text)
    types = {each.name: each.type for each in msgspec.structs.fields(NeuronSettings)}
    return {
        name: msgspec.convert(value, types[name], dec_hook=_made) for name, value in found.items()
    }


def _made(kind: type, value: Any) -> Any:
    """Paths and the like, which TOML has as texts."""
    return kind(value)


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"x = {text}")["x"]
    except tomllib.TOMLDecodeError:
        return text


if __name__ == "__main__":
    sys.exit(main())
