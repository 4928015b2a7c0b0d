"""How fast each model is on this neuron, as its requests showed."""

from __future__ import annotations

from typing import Final

from helexa.protocol.ids import ModelId

KEPT: Final = 0.7
"""Of the old estimate when a new measurement comes."""
NEWS: Final = 0.5
"""A change by this part of what was told last is told at once; the rest goes with other news."""

TOKENS_MIN: Final = 16
PIECES_MIN: Final = 8
SECONDS_MIN: Final = 0.05


def of_answer(tokens: int, pieces: int, seconds: float) -> float:
    """Tokens a second between its first piece and its last; 0 where that cannot be told.

    What was made while this process did something else arrives at once, so that a short answer
    shows how fast it was read and not how fast it was made.
    """
    if tokens < TOKENS_MIN or pieces < PIECES_MIN or seconds < SECONDS_MIN:
        return 0.0
    return (tokens - 1) / seconds


class Pace:
    """One measure per model, smoothed. 0 is what was never measured."""

    def __init__(self) -> None:
        self._values: dict[ModelId, float] = {}
        self._told: dict[ModelId, float] = {}

    def of(self, model: ModelId) -> float:
        return self._values.get(model, 0.0)

    def measured(self, model: ModelId, value: float) -> bool:
        """Whether this is news."""
        old = self._values.get(model)
        new = self._values[model] = value if old is None else old * KEPT + value * (1 - KEPT)
        told = self._told.get(model, 0.0)
        if abs(new - told) <= told * NEWS:
            return False
        self._told[model] = new
        return True
