"""Requests over time, made up: who asks for which model when. Pure; the same for simulated fleets
and for real processes.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Ask:
    at_s: float
    model: str
    service_s: float
    """How long a neuron works on it; with real processes, so many tokens."""


LETTERS = "ABAACABC"


def letters(
    pace_s: float, *, rounds: int, service_s: float, text: str = LETTERS
) -> tuple[Ask, ...]:
    """One letter every `pace_s`, the text again and again."""
    return tuple(Ask(at * pace_s, letter, service_s) for at, letter in enumerate(text * rounds))


def zipf(
    models: Sequence[str],
    *,
    per_s: float,
    seconds: float,
    service_s: float,
    exponent: float = 1.0,
    seed: int = 1,
) -> tuple[Ask, ...]:
    """Requests come at random moments, for the nth model in proportion to 1 / n ** exponent."""
    chance = random.Random(seed)  # noqa: S311 - the same every time
    weights = [1 / (rank**exponent) for rank in range(1, len(models) + 1)]
    asks = []
    at_s = 0.0
    while (at_s := at_s + chance.expovariate(per_s)) < seconds:
        model = chance.choices(models, weights)[0]
        asks.append(Ask(at_s, model, service_s * chance.uniform(0.5, 1.5)))
    return tuple(asks)
