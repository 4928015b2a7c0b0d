"""The planner beside first come first served, in virtual time: swaps, and how long requests wait.

    python -m benchmarks.swaps [--quick] [--out FILE]

The same neurons and the same requests for both, and both hear of things as late. Where a load
takes long against the pace of requests, first come first served does nothing but load. Where
it does not, swapping less means waiting a little longer; both are in the table.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks import traces
from helexa.testing.provisioning.race import fifo, planner

OUT = Path("docs/benchmarks/swaps.json")


def scenes(
    *, quick: bool
) -> list[tuple[str, tuple[int, ...], Sequence[str], float, tuple[traces.Ask, ...]]]:
    twelve = [f"m{number:02d}" for number in range(12)]
    rounds, seconds = (10, 60) if quick else (40, 400)
    found: list[tuple[str, tuple[int, ...], Sequence[str], float, tuple[traces.Ask, ...]]] = []
    for load_s in (0.5, 3.0, 10.0):
        found += [
            (
                f"A B A A C A B C, one each {pace_s:g} s",
                (1, 1),
                "ABC",
                load_s,
                traces.letters(pace_s, rounds=rounds, service_s=0.3),
            )
            for pace_s in (0.1, 0.25, 0.5, 1.0, 2.0, 4.0)
        ]
        found += [
            (
                f"Zipf, 12 models, {per_s:g} a second",
                (1, 1, 2, 2),
                twelve,
                load_s,
                traces.zipf(twelve, per_s=per_s, seconds=seconds, service_s=0.5),
            )
            for per_s in (1, 2, 5, 10)
        ]
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="short; for a look, not the record")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    rows = []
    for name, rooms, models, load_s, trace in scenes(quick=asked.quick):
        plain, made = fifo(rooms, models, load_s, trace), planner(rooms, models, load_s, trace)
        fewer = 1 - made.swaps / plain.swaps if plain.swaps else 0.0
        rows.append(
            {
                "trace": name,
                "load_s": load_s,
                "fewer_swaps": round(fewer, 2),
                "fifo": asdict(plain),
                "planner": asdict(made),
            }
        )
        print(
            f"{name:34} load {load_s:4g} s  swaps {plain.swaps:4} -> {made.swaps:4} ({fewer:4.0%})"
            f"  p50 {plain.p50_s:6.2f} -> {made.p50_s:6.2f}  p99 {plain.p99_s:7.2f} -> "
            f"{made.p99_s:6.2f}  most {plain.most_s:7.2f} -> {made.most_s:6.2f}",
            flush=True,
        )
    out = asked.out or (None if asked.quick else OUT)
    if out is not None:
        out.write_text(json.dumps({"rows": rows}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
