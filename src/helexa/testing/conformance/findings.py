"""What was found of a runtime, case by case and row by row."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field

from helexa.testing.conformance.rows import ROWS, Row


class Verdict(enum.Enum):
    YES = "yes"
    NO = "no"
    """Refused, as it has to be."""
    UNTESTABLE = "not testable here"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    row: Row
    case: str
    """Its name, or `refusal` where the row was not declared."""
    verdict: Verdict
    why: str = ""
    """Of what failed or cannot be shown; what a refusal said."""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    verdict: Verdict
    why: str = ""


@dataclass(slots=True, kw_only=True)
class Findings:
    runtime: str = ""
    engine: str = ""
    """What it is, and its version."""
    models: list[str] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def failures(self) -> Sequence[Outcome]:
        return [each for each in self.outcomes if each.verdict is Verdict.FAILED]

    def add(self, other: Findings) -> None:
        """What the same runtime did with another model."""
        self.models += other.models
        self.outcomes += other.outcomes

    def cells(self) -> dict[str, Cell]:
        """By the row's word. What one model shows, the runtime can do."""
        return {row.word: self._cell(row) for row in ROWS}

    def _cell(self, row: Row) -> Cell:
        here = [each for each in self.outcomes if each.row is row]
        for verdict in (Verdict.FAILED, Verdict.YES, Verdict.NO, Verdict.UNTESTABLE):
            found = [each for each in here if each.verdict is verdict]
            if found:
                shown = verdict in (Verdict.FAILED, Verdict.UNTESTABLE)
                return Cell(verdict=verdict, why=found[0].why if shown else "")
        return Cell(verdict=Verdict.UNTESTABLE, why="no case of it was tried")

    def table(self) -> str:
        """For a terminal, one row a line."""
        width = max(len(row.word) for row in ROWS)
        lines = [f"{self.runtime} ({', '.join(self.models)})"]
        for word, cell in self.cells().items():
            why = f": {cell.why.splitlines()[0][:100]}" if cell.why else ""
            lines.append(f"  {word:<{width}}  {cell.verdict.value}{why}")
        for each in self.failures:
            lines += ["", f"FAILED {each.row.word}: {each.case}", each.why]
        return "\n".join(lines)
