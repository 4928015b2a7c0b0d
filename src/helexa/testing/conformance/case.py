"""A case: a sentence that has to be true of a runtime, bound to a row of the matrix."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from helexa.testing.conformance.rows import Row
from helexa.testing.conformance.subject import Subject

Check: TypeAlias = Callable[[Subject], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Case:
    """`check` raises AssertionError, NotTestable or Refused where the sentence is not shown."""

    row: Row
    check: Check
    is_last: bool = False
    """It ends the engine, so the others come first."""

    @property
    def name(self) -> str:
        return getattr(self.check, "__name__", str(self.check))


CASES: Final[list[Case]] = []
"""All, once `helexa.testing.conformance` is imported."""


def case(row: Row, *, is_last: bool = False) -> Callable[[Check], Check]:
    def register(check: Check) -> Check:
        CASES.append(Case(row, check, is_last))
        return check

    return register
