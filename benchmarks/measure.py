"""Rounds of measurements, interleaved, and what they say: figures and ratios."""

from __future__ import annotations

import contextlib
import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import instruments
from benchmarks.processes import cpu_us, free_port, rss_mb, running, wait_for_port
from benchmarks.targets import Running, Target

STREAMS = 50
MANY_STREAMS = 500
MANY_EVERY_US = 50_000
PROMPT_KB = 256


@dataclass(frozen=True)
class Plan:
    rounds: int
    seconds: float


FULL = Plan(rounds=7, seconds=5)
QUICK = Plan(rounds=2, seconds=2)


@dataclass
class Figures:
    """One target's values, one a round, by the name of the measure."""

    name: str
    version: str
    values: dict[str, list[float]] = field(default_factory=dict)

    def add(self, measure: str, value: float) -> None:
        self.values.setdefault(measure, []).append(value)

    def median(self, measure: str) -> float | None:
        found = self.values.get(measure)
        return statistics.median(found) if found else None


def ratio(ours: Figures, theirs: Figures, measure: str) -> float | None:
    """The median of the ratios inside each round."""
    pairs = zip(ours.values.get(measure, ()), theirs.values.get(measure, ()), strict=False)
    ratios = [one / other for one, other in pairs if other]
    return statistics.median(ratios) if ratios else None


def measure_hops(
    targets: Sequence[Target], plan: Plan, say: Callable[[str], None]
) -> dict[str, Figures]:
    """All targets at once, each measured in turn, `plan.rounds` times."""
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="helexa-bench-")))
        upstream, log = free_port(), scratch / "mock.log"
        mock = stack.enter_context(running([str(instruments.BIN / "mock"), str(upstream)], log))
        wait_for_port(upstream, mock, log)
        started: list[Running] = []
        for target in targets:
            say(f"starting {target.name}")
            started.append(stack.enter_context(target.start(upstream, scratch)))
        figures = {one.name: Figures(one.name, one.version) for one in started}
        for one in started:
            # Caches, pools and compilers settle outside the measurement.
            instruments.requests(one.port, one.key, connections=16, seconds=1)
        for number in range(plan.rounds):
            for one in started:
                say(f"round {number + 1} of {plan.rounds}: {one.name}")
                _measure(one, figures[one.name], plan)
        return figures


def _measure(target: Running, figures: Figures, plan: Plan) -> None:
    for connections in (16, 64):
        before = cpu_us(target.pid)
        result = instruments.requests(
            target.port, target.key, connections=connections, seconds=plan.seconds
        )
        _expect_no_errors(target, result, ("non2xx", "sockerr"))
        figures.add(f"us_request_{connections}", (cpu_us(target.pid) - before) / result["n"])
        figures.add(f"rps_{connections}", result["rps"])
        figures.add(f"p50_us_{connections}", result["p50_us"])
        figures.add(f"p99_us_{connections}", result["p99_us"])
    seconds = max(plan.seconds, 5.0)
    before = cpu_us(target.pid)
    result = instruments.streams(target.port, target.key, count=STREAMS, seconds=seconds)
    used = cpu_us(target.pid) - before
    _expect_no_errors(target, result, ("errs", "bad"))
    figures.add("us_chunk", used / (result["chunks_s"] * seconds))
    figures.add("chunks_s", result["chunks_s"])
    figures.add("lag_p50_us", result["lag_p50_us"])
    figures.add("lag_p99_us", result["lag_p99_us"])
    figures.add("rss_mb", rss_mb(target.pid))
    result = instruments.streams(
        target.port, target.key, count=MANY_STREAMS, seconds=seconds, every_us=MANY_EVERY_US
    )
    _expect_no_errors(target, result, ("errs", "bad"))
    figures.add("many_lag_p50_us", result["lag_p50_us"])
    figures.add("many_lag_p99_us", result["lag_p99_us"])
    before = cpu_us(target.pid)
    result = instruments.requests(
        target.port, target.key, connections=16, seconds=plan.seconds, prompt_kb=PROMPT_KB
    )
    _expect_no_errors(target, result, ("non2xx", "sockerr"))
    # The slowest target may not answer one in a phase.
    if result["n"]:
        figures.add("us_large", (cpu_us(target.pid) - before) / result["n"])
    figures.add("rps_large", result["rps"])


def _expect_no_errors(target: Running, result: dict[str, Any], fields: Sequence[str]) -> None:
    wrong = {name: result[name] for name in fields if result[name]}
    if wrong:
        raise RuntimeError(f"{target.name} answered with errors: {wrong}")
