"""Where a value came from, and what to tell an operator whose value is refused."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass


class Layer(enum.Enum):
    """Later layers win."""

    DEFAULT = "default"
    FILE = "file"
    ENVIRONMENT = "environment"
    FLAG = "flag"


@dataclass(frozen=True, slots=True)
class Origin:
    """`where` is `FILE:LINE`, the variable's name or the flag; empty for a default."""

    layer: Layer
    where: str = ""

    def __str__(self) -> str:
        return self.where or self.layer.value


DEFAULT = Origin(Layer.DEFAULT)


@dataclass(frozen=True, slots=True)
class Problem:
    """One reason not to start. `key` may be empty where no setting is at fault."""

    origin: Origin
    key: str
    message: str

    def __str__(self) -> str:
        return ": ".join(part for part in (str(self.origin), self.key, self.message) if part)


class ConfigRefused(Exception):
    """The configuration cannot be used. Every problem found, one a line."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)
