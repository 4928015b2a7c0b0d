"""`python -m benchmarks [--quick] [--only NAME ...] [--no-chain] [--install] [--out DIR]`."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from benchmarks import chain, comparison, instruments, machine, orchestrator, report, transports
from benchmarks.measure import FULL, QUICK, measure_hops
from benchmarks.targets import ROOT, TARGETS, install


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="short; for a look, not the record")
    parser.add_argument(
        "--only",
        nargs="*",
        default=[],
        help="measure these alone: targets of the gateway's table, `transports`, `orchestrator`",
    )
    parser.add_argument("--no-chain", action="store_true", help="leave `helexa up` out")
    parser.add_argument("--install", action="store_true", help="make the peers' environments first")
    parser.add_argument("--rounds", type=int, help="of the gateway's table, instead of the plan's")
    parser.add_argument("--out", type=Path, help="folder; docs/benchmarks, or none with --quick")
    args = parser.parse_args()
    plan = QUICK if args.quick else FULL
    if args.rounds:
        plan = replace(plan, rounds=args.rounds)
    facts = machine.describe()
    out = args.out or (None if args.quick else ROOT / "docs/benchmarks")
    if not args.only or "transports" in args.only:
        _transports(facts, out, quick=args.quick)
        if args.only == ["transports"]:
            return 0
    complete = True
    if "orchestrator" in args.only or not (args.only or args.quick):
        complete = orchestrator.measure(out)
        if args.only == ["orchestrator"]:
            return 0 if complete else 1
    try:
        instruments.build()
    except instruments.Missing as missing:
        print(f"The benchmark needs {missing}.", file=sys.stderr)
        return 2
    if args.install or not args.quick:
        install()
    wanted = [one for one in TARGETS if not args.only or one.name in (*args.only, "helexa")]
    for one in wanted:
        if what := one.missing():
            print(f"leaving out {one.name}: it needs {what}", file=sys.stderr)
    targets = [one for one in wanted if not one.missing()]
    figures = measure_hops(targets, plan, say=lambda text: print(text, file=sys.stderr))
    measured = None if args.no_chain else chain.measure(quick=args.quick)
    page = report.markdown(figures, facts, plan, chain.lines(measured) if measured else ())
    print(page)
    if out is not None:
        more = {"chain": measured.as_dict()} if measured else {}
        report.write(
            out,
            {
                "gateway.md": page,
                "gateway.svg": report.svg(figures),
                "gateway.json": report.raw(figures, facts, more),
            },
        )
        if out / "gateway.json" == comparison.ROOT / comparison.SOURCE:
            comparison.write()
    return 0 if complete else 1


def _transports(facts: list[tuple[str, str]], out: Path | None, *, quick: bool) -> None:
    plan = transports.QUICK if quick else transports.FULL
    figures = transports.measure(plan, say=lambda text: print(text, file=sys.stderr))
    page = transports.markdown(figures, facts, plan)
    print(page)
    if out is not None:
        raw = report.raw(figures, facts, {})
        report.write(out, {"transports.md": page, "transports.json": raw})


if __name__ == "__main__":
    sys.exit(main())
