"""How far something is, as a person reads it: one line for each neuron, redrawn in place.

On something that is no terminal a line is written every few seconds instead. Rates are measured
here, from what was reported; how long it takes still is the neuron's own estimate where it has one.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TextIO

from helexa.util.units import format_bytes, format_seconds

BAR_CELLS: Final = 24
LINE_EVERY_S: Final = 5.0
"""Between two lines for one neuron, where lines cannot be redrawn."""
RATE_OVER_S: Final = 5.0
"""What lies further back counts less and less."""
_ROWS_MAX: Final = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One neuron's part as of now."""

    name: str
    state: str
    done: int = 0
    total: int = 0
    eta_s: float | None = None
    note: str = ""

    @property
    def is_over(self) -> bool:
        return self.state not in GOING

    @property
    def has_failed(self) -> bool:
        return self.state == "failed"


GOING: Final = frozenset(("waiting", "downloading", "loading", "unloading", "draining"))


@dataclass(slots=True)
class Rates:
    """Bytes a second by name, smoothed."""

    _last: dict[str, tuple[float, int, float]] = field(default_factory=dict)

    def of(self, name: str, done: int, now_s: float) -> float:
        before = self._last.get(name)
        if before is None or done < before[1]:
            self._last[name] = (now_s, done, 0.0)
            return 0.0
        at_s, had, rate = before
        span_s = now_s - at_s
        if span_s <= 0 or done == had:
            # Reports are a second apart: between two of them nothing is known.
            return rate if span_s < RATE_OVER_S else 0.0
        share = 1.0 if rate == 0 else min(1.0, span_s / RATE_OVER_S)
        rate += share * ((done - had) / span_s - rate)
        self._last[name] = (now_s, done, rate)
        return rate


def line(step: Step, rate: float, name_width: int) -> str:
    """`n1  [#####-----]  45%  1.2 GiB of 2.6 GiB  35.0 MiB/s  40 s left`."""
    parts = [step.name.ljust(name_width), step.state]
    if step.is_over:
        return "  ".join(one for one in (*parts, step.note) if one)
    if step.total > 0:
        share = min(1.0, step.done / step.total)
        full = int(share * BAR_CELLS)
        parts += [
            f"[{'#' * full}{'-' * (BAR_CELLS - full)}]",
            f"{int(share * 100):3d}%",
            f"{format_bytes(step.done)} of {format_bytes(step.total)}",
        ]
    elif step.done:
        parts.append(format_bytes(step.done))
    if rate > 0 and step.state == "downloading":
        parts.append(f"{format_bytes(rate)}/s")
    eta_s = step.eta_s
    if eta_s is None and rate > 0 and step.total > step.done:
        eta_s = (step.total - step.done) / rate
    if eta_s is not None:
        parts.append(f"{format_seconds(max(eta_s, 0))} left")
    return "  ".join(one for one in (*parts, step.note) if one)


class Screen(Protocol):
    def show(self, steps: Sequence[Step], now_s: float) -> None: ...

    def close(self) -> None: ...


class Terminal:
    """Redraws its lines in place."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._rates = Rates()
        self._drawn = 0

    def show(self, steps: Sequence[Step], now_s: float) -> None:
        width = max((len(step.name) for step in steps), default=0)
        columns = shutil.get_terminal_size().columns
        lines = [
            line(step, self._rates.of(step.name, step.done, now_s), width)[: columns - 1]
            for step in steps[:_ROWS_MAX]
        ]
        up = f"\x1b[{self._drawn}A" if self._drawn else ""
        self._out.write(up + "".join(f"\r{one}\x1b[K\n" for one in lines))
        self._out.flush()
        self._drawn = len(lines)

    def close(self) -> None:
        """The lines stay as they are."""


class Plain:
    """Writes a line when a state changes, and every few seconds."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._rates = Rates()
        self._told: dict[str, tuple[str, float]] = {}

    def show(self, steps: Sequence[Step], now_s: float) -> None:
        for step in steps:
            rate = self._rates.of(step.name, step.done, now_s)
            state, at_s = self._told.get(step.name, ("", float("-inf")))
            if state == step.state and (step.is_over or now_s - at_s < LINE_EVERY_S):
                continue
            self._told[step.name] = (step.state, now_s)
            print(line(step, rate, 0), file=self._out, flush=True)

    def close(self) -> None:
        """Nothing is left open."""


class Silent:
    def show(self, steps: Sequence[Step], now_s: float) -> None:
        """For machines: they read the end."""

    def close(self) -> None:
        """Nothing is left open."""


def screen(*, as_json: bool, out: TextIO | None = None) -> Screen:
    """For standard error, which is not what the verb answers."""
    out = out or sys.stderr
    if as_json:
        return Silent()
    return Terminal(out) if out.isatty() else Plain(out)


Look = Callable[[], Mapping[str, Any]]
"""A model's row, as `GET /api/v1/models/{model}` has it."""


def steps(row: Mapping[str, Any], nodes: Sequence[str]) -> list[Step]:
    """The model on each of these neurons, in their order."""
    here = {one["node"]: one for one in row.get("nodes", ())}
    return [_step(node, here.get(node)) for node in nodes]


def _step(node: str, placed: Mapping[str, Any] | None) -> Step:
    if placed is None:
        return Step(name=node[:10], state="absent")
    progress = placed.get("progress") or {}
    phase = progress.get("phase")
    state = str(placed["state"])
    return Step(
        name=placed.get("neuron") or node[:10],
        # A model that waits to be loaded is unloaded by its neuron's own word.
        state=phase if phase and state == "unloaded" else state,
        done=int(progress.get("bytes_done", 0)),
        total=int(progress.get("bytes_total", 0)),
        eta_s=progress.get("eta_s"),
        note=str(placed.get("reason") or ""),
    )
