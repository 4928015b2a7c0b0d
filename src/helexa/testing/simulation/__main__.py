"""`python -m helexa.testing.simulation`: every scenario from one seed, or the figures.

What fails is named with the seed that shows it again.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
import traceback
from pathlib import Path

from helexa.testing.simulation import figures, report
from helexa.testing.simulation.scenarios import SCENARIOS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m helexa.testing.simulation")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=SCENARIOS, action="append", help="repeatable")
    parser.add_argument("--figures", type=Path, metavar="FOLDER", help="measure, and write there")
    arguments = parser.parse_args()
    # Millions of objects that live as long as the run: looking for rings among them again and
    # again takes half of the time, and there are none worth finding.
    gc.disable()
    if arguments.figures is not None:
        report.write(arguments.figures, figures.measure(arguments.seed, _say))
        return 0
    failed = []
    for name in arguments.only or SCENARIOS:
        began_s = time.monotonic()
        try:
            world = SCENARIOS[name](arguments.seed)
            said = f"{world.now_s:.0f} s of {len(world.nodes)} nodes"
        except AssertionError as error:
            traceback.print_exc()
            failed.append(name)
            said = f"FAILED: {error}"
        _say(f"{name}: {said} in {time.monotonic() - began_s:.1f} s")
    for name in failed:
        _say(f"again: make sim SEED={arguments.seed} ARGS='--only {name}'")
    return 1 if failed else 0


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
