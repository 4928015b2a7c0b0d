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

    @property
    def name(self) -> str:
        return getattr(self.check, "__name__", str(self.check))


CASES: Final[list[Case]] = []
"""All, once `helexa.testing.conformance` is imported."""


def case(row: Row) -> Callable[[Check], Check]:
    def register(check: Check) -> Check:
        CASES.append(Case(row, check))
        return check

    return register


REFUSALS: Final[dict[str, Check]] = {}
"""By the row's word: how it is asked for, where a request cannot do that."""


def refusal(row: Row) -> Callable[[Check], Check]:
    """For a check that what is not declared is refused, naming the runtime."""

    def register(check: Check) -> Check:
        REFUSALS[row.word] = check
        return check

    return register
