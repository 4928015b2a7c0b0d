"""Everything that is measured of the orchestrator, part after part, each a program of its own.

    python -m benchmarks.orchestrator [--out DIR] [PART ...]

The parts take about a quarter of an hour together. One that fails does not keep the others
from being measured; the exit status says that there was one.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

PARTS: Final = (
    "decisions",
    "planning",
    "waits",
    "swaps",
    "prefixes",
    "swapping",
    "pulls",
    "loads",
    "footprints",
)
PART_WITHIN_S: Final = 900.0


def measure(out: Path | None, parts: Sequence[str] = PARTS) -> bool:
    """Whether all parts were measured."""
    failed = []
    for part in parts:
        print(f"== {part}", file=sys.stderr, flush=True)
        argv = [sys.executable, "-m", f"benchmarks.{part}"]
        if out is not None:
            argv += ["--out", str(out / f"{part}.json")]
        began_s = time.monotonic()
        try:
            ended = subprocess.run(argv, timeout=PART_WITHIN_S, check=False).returncode
        except subprocess.TimeoutExpired:
            ended = -1
        print(f"== {part}: {time.monotonic() - began_s:.0f} s", file=sys.stderr, flush=True)
        if ended:
            failed.append(part)
    if failed:
        print(f"not measured: {', '.join(failed)}", file=sys.stderr)
    return not failed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=[], metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--out", type=Path, help="folder for the figures")
    args = parser.parse_args()
    if unknown := set(args.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    return 0 if measure(args.out, args.parts or PARTS) else 1


if __name__ == "__main__":
    sys.exit(main())
