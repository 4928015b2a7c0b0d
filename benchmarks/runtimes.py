"""Every runtime that is installed: how long it loads, answers first and leaves, and what it holds.

    python -m benchmarks.runtimes [--rounds 3] [--models DIR] [--only NAME ...] [--out DIR]

The same model each, in the form that the runtime takes. `vllm` and `transformers` live in
environments of their own, named by HELEXA_TEST_VLLM_PYTHON and HELEXA_TEST_TRANSFORMERS_PYTHON
or made by `scripts/setup-runtimes`. One that is missing is named in the table, not left out.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import anyio

from benchmarks import machine, overhead
from benchmarks.supervisor import roster
from helexa.neuron.models.store import DEMO_FOLDER
from helexa.neuron.settings import ModelSettings, RuntimeSettings
from helexa.neuron.supervisor.roster import Roster
from helexa.neuron.supervisor.weighing import group_bytes
from helexa.protocol.errors import HelexaError
from helexa.runtime import adapters
from helexa.runtime.contract import Endpoint
from helexa.runtime.shaping import shaped

ROOT = Path(__file__).resolve().parent.parent
GGUF = "helexa-demo"
FOLDER = "helexa-demo-folder"
FORMS = {"llama_cpp": GGUF, "mistral_rs": GGUF, "transformers": FOLDER, "vllm": FOLDER}
ELSEWHERE = ("transformers", "vllm")
CONTEXT_TOKENS = 512
SLOTS = 4


@dataclass
class Figures:
    runtime: str
    missing: str = ""
    """Why it was not measured."""
    load_s: list[float] = field(default_factory=list)
    first_answer_s: list[float] = field(default_factory=list)
    """Of the first request after the load, from asked to its last byte: 8 tokens."""
    next_answer_s: list[float] = field(default_factory=list)
    unload_s: list[float] = field(default_factory=list)
    memory_mb: list[float] = field(default_factory=list)
    """Of all its processes, once it has answered."""
    estimated_mb: float = 0.0


def python_of(name: str) -> Path | None:
    """The interpreter of the environment that has that engine; None where there is none."""
    named = os.environ.get(f"HELEXA_TEST_{name.upper()}_PYTHON")
    found = Path(named) if named else ROOT / ".venv-runtimes" / name / "bin/python"
    return found if found.exists() else None


async def measure(names: Sequence[str], folder: Path, rounds: int) -> list[Figures]:
    found = {one: python_of(one) for one in ELSEWHERE}
    runtimes = {one: RuntimeSettings(python=path) for one, path in found.items() if path}
    figures = []
    for name in names:
        one = Figures(name)
        figures.append(one)
        model = FORMS[name]
        if name not in adapters.names() or (name in ELSEWHERE and found[name] is None):
            one.missing = "not installed"
            continue
        if not adapters.is_installed(adapters.load(name), runtimes):
            one.missing = "not installed"
            continue
        settings = ModelSettings(runtime=name, context_tokens=CONTEXT_TOKENS, slots=SLOTS)
        async with roster(folder, {model: settings}, runtimes) as live:
            for _ in range(rounds):
                try:
                    await _round(live, model, one)
                except HelexaError as error:
                    one.missing = str(error)[:200]
                    break
        print(f"{name}: {one.missing or one.load_s}", file=sys.stderr)
    return figures


async def _round(live: Roster, model: str, into: Figures) -> None:
    began = time.monotonic()
    await live.load(model)
    into.load_s.append(time.monotonic() - began)
    replica = await live.replica(model)
    assert replica.engine is not None
    into.first_answer_s.append(await _answer(live, model))
    into.next_answer_s.append(await _answer(live, model))
    into.memory_mb.append(group_bytes(replica.engine.process.pid) / 2**20)
    into.estimated_mb = replica.adapter.footprint(replica.spec).use / 2**20
    began = time.monotonic()
    await live.unload(model, 0.0)
    into.unload_s.append(time.monotonic() - began)


async def _answer(live: Roster, model: str) -> float:
    replica = await live.replica(model)
    engine = replica.engine
    assert engine is not None
    ask = {
        "model": model,
        "messages": [{"role": "user", "content": "What is helexa?"}],
        "max_tokens": 8,
        "temperature": 0,
    }
    request = shaped(replica.adapter, Endpoint.CHAT, json.dumps(ask).encode(), engine.spec)
    began = time.monotonic()
    headers = ((b"content-type", b"application/json"), *engine.plan.headers)
    with await engine.pool.send(
        request.method,
        request.path,
        headers,
        request.body,
        first_byte_timeout_s=300,
        # llama.cpp closes its connection a moment after an answer.
        resend_safe=True,
    ) as response:
        while not await response.head(1.0):
            pass
        body = await response.read(1 << 22)
        if response.status != 200:
            raise engine.adapter.refusal(response.status, body, engine.spec)
    return time.monotonic() - began


def table(figures: Sequence[Figures]) -> list[str]:
    titles = ("load to ready, s", "first answer, s", "next answer, s", "unload, s")
    lines = [
        f"| runtime | {' | '.join(titles)} | memory, MB | estimated, MB |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for one in figures:
        if one.missing:
            lines.append(f"| `{one.runtime}` | {one.missing} | | | | | |")
            continue
        cells = [
            f"{statistics.median(values):.3f}"
            for values in (one.load_s, one.first_answer_s, one.next_answer_s, one.unload_s)
        ]
        memory = f"{statistics.median(one.memory_mb):.0f}"
        lines.append(
            f"| `{one.runtime}` | {' | '.join(cells)} | {memory} | {one.estimated_mb:.0f} |"
        )
    return lines


def page(figures: Sequence[Figures], added: overhead.Overhead | None, rounds: int) -> str:
    facts = machine.describe()
    how = (
        f"{CONTEXT_TOKENS} tokens of context and {SLOTS} slots; medians of {rounds} loads. An "
        "answer is 8 tokens. Memory is that of all processes of the runtime, files that they map "
        "included."
    )
    lines = [
        "# Runtimes",
        "",
        "Made by `make bench-runtimes`; do not edit it by hand.",
        "",
        f"The demo model in each runtime, as GGUF or as a folder of safetensors, with {how}",
        "",
        *table(figures),
    ]
    if added is not None:
        lines += ["", "## What the neuron adds", "", *overhead.rows(added)]
    lines += ["", "## The machine", "", "| | |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in facts]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.runtimes", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--models", type=Path, help="that scripts/runtime_models made")
    parser.add_argument("--only", nargs="*", default=[], choices=sorted(FORMS))
    parser.add_argument("--no-overhead", action="store_true")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    names = args.only or list(FORMS)
    with tempfile.TemporaryDirectory(prefix="hx-") as scratch:
        folder = Path(scratch)
        shutil.copy(DEMO_FOLDER / f"{GGUF}.gguf", folder)
        if args.models is not None:
            shutil.copytree(args.models / "helexa-demo", folder / FOLDER)
        figures = anyio.run(measure, names, folder, args.rounds)
    added = None if args.no_overhead else overhead.measure()
    text = page(figures, added, args.rounds)
    print(text)
    if args.out is not None:
        raw = {
            "machine": dict(machine.describe()),
            "runtimes": [asdict(one) for one in figures],
            "overhead": asdict(added) if added else None,
        }
        (args.out / "runtimes.md").write_text(text)
        (args.out / "runtimes.json").write_text(json.dumps(raw, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
