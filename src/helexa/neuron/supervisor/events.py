"""What happens to the models of a neuron, told once each to whoever counts it."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from helexa.protocol.ids import ModelId


class LoadOutcome(enum.Enum):
    READY = "ready"
    FAILED = "failed"
    STOPPED = "stopped"
    """Somebody had it unloaded before it served."""


class Why(enum.Enum):
    """A replica leaves."""

    ASKED = "asked"
    IDLE = "idle"
    """Nobody used it for the time that the operator set."""
    EVICTED = "evicted"
    """To make room for another."""
    RENEWED = "renewed"
    """To be started in another way."""
    GONE = "gone"
    """Its files were removed."""


@dataclass(frozen=True, slots=True)
class LoadEnded:
    model: ModelId
    outcome: LoadOutcome
    seconds: float


@dataclass(frozen=True, slots=True)
class Unloaded:
    model: ModelId
    why: Why


Happened: TypeAlias = LoadEnded | Unloaded
Tell: TypeAlias = Callable[[Happened], None]
"""Must not wait."""
