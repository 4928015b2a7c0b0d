"""How well a neuron foretells its loads: real children, real files, the page cache emptied before.

    python -m benchmarks.loads [--gb 2] [--rounds 4] [--out docs/benchmarks/loads.json]

Each load is asked when it may be done at its beginning and every quarter of a
second after. An error is |foretold - real| / real, of the whole time from asked
to ready. A like load was seen before where the same model was loaded in the
same way; the first ones of a new neuron know only what disks usually do. Only
loads over two seconds count: nobody waits for shorter ones.
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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import anyio

from benchmarks import machine, random_models
from benchmarks.random_models import Shape
from benchmarks.supervisor import roster
from helexa.neuron.settings import ModelSettings
from helexa.neuron.supervisor.roster import Roster
from helexa.protocol.work import ModelProgress

COUNTED_S = 2.0
WITHIN = 0.25
WANTED_SHARE = 0.8
ASK_EVERY_S = 0.25
FREE_DISK_FACTOR = 3


@dataclass(frozen=True)
class Case:
    model: str
    shape: Shape
    context_tokens: int
    slots: int


@dataclass
class Load:
    model: str
    cold: bool
    like: str
    """`same`: this model in this way before; `other`: only others; `none`: no load at all."""
    seconds: float
    asked: list[tuple[float, float, float]]
    """At, foretold seconds left, share of the weights taken in."""

    @property
    def first_error(self) -> float:
        at, left, _ = self.asked[0]
        return abs(at + left - self.seconds) / self.seconds

    def error_at(self, share: float) -> float:
        """Of the last foretelling before this share of the load was over."""
        before = [each for each in self.asked if each[0] <= share * self.seconds]
        at, left, _ = before[-1]
        return abs(at + left - self.seconds) / self.seconds


def cases(gb: float) -> list[Case]:
    wide = Shape(width=2048, heads=16, heads_kv=4, feed_forward=6144, vocabulary=32_000)

    def layers(form: str, share: float) -> int:
        per_layer = {"f16": 98e6, "q8_0": 52e6, "q4_0": 27.6e6}[form]
        return max(2, round(gb * share * 1e9 / per_layer))

    def shape(form: str, share: float) -> Shape:
        return Shape(**{**asdict(wide), "format": form, "layers": layers(form, share)})

    return [
        Case("half-precision", shape("f16", 1.0), 4_096, 2),
        Case("eight-bit", shape("q8_0", 0.9), 4_096, 4),
        Case("repacked", shape("q4_0", 0.5), 4_096, 2),
        Case("long-context", shape("q8_0", 0.4), 32_768, 1),
    ]


def evict(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


async def measure(all_cases: Sequence[Case], rounds: int, folder: Path) -> list[Load]:
    models = {one.model: ModelSettings(context_tokens=one.context_tokens, slots=one.slots)
              for one in all_cases}  # fmt: skip
    found: list[Load] = []
    seen: set[str] = set()
    async with roster(folder, models) as live:
        for turn in range(rounds):
            for one in all_cases:
                # Each time but one from the disk; that is what people wait for.
                cold = turn != rounds - 1
                if cold:
                    evict(folder / f"{one.model}.gguf")
                like = "same" if one.model in seen else "other" if seen else "none"
                load = await _one(live, one.model, cold, like)
                seen.add(one.model)
                found.append(load)
                say(
                    f"{one.model:15} {'cold' if cold else 'warm'} {like:5} {load.seconds:6.2f} s, "
                    f"foretold {load.asked[0][1]:6.2f} s at once, "
                    f"errors {load.first_error:4.0%} {load.error_at(0.5):4.0%} at half"
                )
    return found


async def _one(live: Roster, model: str, cold: bool, like: str) -> Load:
    asked: list[tuple[float, float, float]] = []
    done = anyio.Event()
    begun = time.monotonic()

    async def ask() -> None:
        while not done.is_set():
            at = time.monotonic() - begun
            asked.extend(_asked(each, at) for each in live.progress())
            await anyio.sleep(ASK_EVERY_S if asked else 0.005)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        await live.load(model)
        seconds = time.monotonic() - begun
        done.set()
    await live.unload(model, 0)
    return Load(model, cold, like, seconds, asked)


def _asked(each: ModelProgress, at: float) -> tuple[float, float, float]:
    progress = each.progress
    share = progress.bytes_done / progress.bytes_total if progress.bytes_total else 0.0
    return round(at, 3), float(progress.eta_s or 0.0), round(share, 3)


def summary(loads: Sequence[Load]) -> dict[str, Any]:
    counted = [one for one in loads if one.seconds >= COUNTED_S]

    def over(errors: Sequence[float]) -> dict[str, Any]:
        if not errors:
            return {"loads": 0}
        within = sum(error <= WITHIN for error in errors) / len(errors)
        return {
            "loads": len(errors),
            "within_25_percent": round(within, 3),
            "median_error": round(statistics.median(errors), 3),
            "worst_error": round(max(errors), 3),
        }

    alike = [one for one in counted if one.like == "same"]
    return {
        "wanted": f"within {WITHIN:.0%} for {WANTED_SHARE:.0%} of loads over {COUNTED_S:g} s",
        "at once, a like load was seen": over([one.first_error for one in alike]),
        "at once, others were seen": over(
            [one.first_error for one in counted if one.like == "other"]
        ),
        "at once, all": over([one.first_error for one in counted]),
        "at a quarter, all": over([one.error_at(0.25) for one in counted]),
        "at half, all": over([one.error_at(0.5) for one in counted]),
        "at three quarters, all": over([one.error_at(0.75) for one in counted]),
    }


def say(text: str) -> None:
    print(text, file=sys.stderr)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loads", description=__doc__)
    parser.add_argument("--gb", type=float, default=2.0, help="of the largest model")
    parser.add_argument("--rounds", type=int, default=4, help="loads of each; the last is warm")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    wanted = cases(args.gb)
    with tempfile.TemporaryDirectory(prefix="helexa-loads-") as name:
        folder = Path(name)
        free = shutil.disk_usage(folder).free
        if free < args.gb * 1e9 * FREE_DISK_FACTOR * 2:
            say(f"only {free / 1e9:.0f} GB of disk are free")
            return 2
        for one in wanted:
            path = random_models.write(folder / f"{one.model}.gguf", one.shape)
            say(f"{one.model}: {path.stat().st_size / 1e9:.2f} GB")
        loads = anyio.run(measure, wanted, args.rounds, folder)
    result = {
        "machine": dict(machine.describe()),
        "summary": summary(loads),
        "loads": [{**asdict(one), "first_error": round(one.first_error, 3)} for one in loads],
    }
    text = json.dumps(result, indent=1) + "\n"
    print(json.dumps(result["summary"], indent=1))
    if args.out is not None:
        args.out.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
