"""Who leaves so that another model fits, as a pure decision.

Only a neuron that is used by itself decides this: a cortex knows more neurons
than one, and what is wanted on them. Never one that somebody uses, never one
that has just come, the longest unused first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from helexa.protocol.ids import ModelId


@dataclass(frozen=True, slots=True, kw_only=True)
class Resident:
    """A replica that holds memory."""

    model: ModelId
    holds: int
    """Of main memory, measured where it was, else what was granted: that much becomes available."""
    idle_s: float
    stayed_s: float
    """Since it serves."""
    is_idle: bool


@dataclass(frozen=True, slots=True)
class Leave:
    models: tuple[ModelId, ...]


@dataclass(frozen=True, slots=True)
class Wait:
    """There would be room once somebody is idle, or has stayed for so many seconds more."""

    seconds: float | None


@dataclass(frozen=True, slots=True)
class Never:
    """Not even without all the others."""


Verdict: TypeAlias = Leave | Wait | Never
Fits: TypeAlias = Callable[[Sequence[Resident]], bool]
"""Whether it would fit once these are gone, whatever is scarce: memory, a device, a CPU."""


def room_for(fits: Fits, residents: Sequence[Resident], *, stay_s: float) -> Verdict:
    if not fits(residents):
        return Never()
    settled = [one for one in residents if one.is_idle and one.stayed_s >= stay_s]
    leaving: list[Resident] = []
    for one in sorted(settled, key=lambda one: (-one.idle_s, one.model)):
        if fits(leaving):
            break
        leaving.append(one)
    if not fits(leaving):
        fresh = [stay_s - one.stayed_s for one in residents if one.is_idle and one not in settled]
        return Wait(min(fresh, default=None))
    # A large one that came last may have made the small ones before it unnecessary.
    for one in tuple(leaving):
        others = [other for other in leaving if other is not one]
        if fits(others):
            leaving = others
    return Leave(tuple(one.model for one in leaving))


def overdue(residents: Sequence[Resident], timeout_s: float) -> tuple[ModelId, ...]:
    """Those that nobody used for so long."""
    return tuple(one.model for one in residents if one.is_idle and one.idle_s >= timeout_s)
