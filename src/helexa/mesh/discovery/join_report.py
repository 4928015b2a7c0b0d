"""What became of a join: its steps, for people and for machines."""

from __future__ import annotations

import enum
from typing import Any, Final

import msgspec

from helexa.mesh.statements.plain_text import plain
from helexa.util.units import format_seconds

DETAIL_CHARS_MAX: Final = 300


class Outcome(enum.Enum):
    """How a step ended; only OK leads to the next."""

    OK = "ok"
    FAILED = "failed"
    DENIED = "denied"
    PENDING = "pending"
    SKIPPED = "skipped"
    """Not waited for, since another way was found."""


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One step: `advice` is what to try where it did not go well."""

    name: str
    outcome: Outcome
    took_s: float
    detail: str = ""
    advice: str = ""


class JoinReport(msgspec.Struct, frozen=True, kw_only=True):
    """`str()` for people, `as_json()` for machines."""

    steps: tuple[Step, ...]
    joined: bool

    def as_json(self) -> dict[str, Any]:
        """`{"steps": [{"name", "outcome", "took_s", "detail", "advice"}, ...], "joined"}`."""
        return {"steps": [as_json(step) for step in self.steps], "joined": self.joined}

    def __str__(self) -> str:
        lines = []
        for step in self.steps:
            detail = f": {step.detail}" if step.detail else ""
            took = format_seconds(step.took_s)
            lines.append(f"{step.outcome.value:8}{step.name}{detail} ({took})")
            if step.advice:
                lines.append(f"{'':8}-> {step.advice}")
        lines.append("joined" if self.joined else "not joined")
        return "\n".join(lines)


def as_json(step: Step) -> dict[str, Any]:
    """Strings and numbers, as the control API tells a step."""
    plain_step: dict[str, Any] = msgspec.to_builtins(step)
    return plain_step


def step_of(name: str, outcome: Outcome, took_s: float, detail: str, fix: str = "") -> Step:
    """A step whose texts are fit to be shown."""
    # A stranger's words may be in the detail, and end in somebody's terminal.
    shown = plain(detail, DETAIL_CHARS_MAX)
    return Step(name=name, outcome=outcome, took_s=round(took_s, 4), detail=shown, advice=fix)
