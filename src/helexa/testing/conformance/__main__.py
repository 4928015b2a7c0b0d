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
from helexa.testing.conformance.findings import Findings
from helexa.testing.conformance.run import conform
from helexa.testing.conformance.stage import staged


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m helexa.testing.conformance")
    parser.add_argument("--runtime", required=True, help="by name, as in [neuron.runtimes.NAME]")
    parser.add_argument("--models", type=Path, metavar="FOLDER", help="the models folder")
    parser.add_argument("--model", action="append", help="repeatable; helexa-demo without any")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of the neuron"
    )
    parser.add_argument("--cannot", action="append", default=[], metavar="ROW=REASON")
    parser.add_argument(
        "--only", default="", metavar="WORD", help="a row, or part of a case's name"
    )
    parser.add_argument("--patience", type=float, default=60.0, metavar="S", help="for one answer")
    asked = parser.parse_args()
    found = anyio.run(_look, asked, backend_options={"use_uvloop": True})
    sys.stdout.write(found.table() + "\n")
    return 1 if found.failures else 0


async def _look(asked: argparse.Namespace) -> Findings:
    found = Findings(runtime=asked.runtime)
    cannot = dict(each.split("=", 1) for each in asked.cannot)
    models_dir = asked.models.resolve() if asked.models else None
    for model in asked.model or ["helexa-demo"]:
        async with staged(
            model,
            runtime=asked.runtime,
            models_dir=models_dir,
            more=_settings(asked.set),
            cannot=cannot,
        ) as subject:
            subject.patience_s = asked.patience
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
