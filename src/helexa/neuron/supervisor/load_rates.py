"""How long a load takes, as a pure function of what it has to do and of loads before it.

Seconds are a fixed part and so many for each byte, of three kinds: weights that
come from the disk, weights that the system still holds in memory, and memory
that is made ready for the context. The kinds are apart because their speeds are:
by a factor of ten and more on one machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

_GB: Final = 1e9
_USUAL_S: Final = (0.4, 5.0, 0.4, 1.0)
"""Fixed, then a gigabyte of each kind, where nothing was measured: a disk of 200 MB/s."""
_DOUBT_S: Final = (0.5, 10.0, 1.0, 2.0)
"""How far each of those may well be off; the smaller, the more loads it takes to move it."""
_LEAST_SHARE: Final = 0.02
"""Of the usual: nothing is believed to take no time at all."""
_LOAD_VARIES: Final = 0.1
"""By how much the same load takes longer or shorter, as a share of it, and in seconds."""
_LOAD_VARIES_S: Final = 0.05
_KEPT: Final = 0.93
"""Of a load's weight with each one after it: disks and neighbours change."""
_ROUNDS: Final = 200
_PATIENCE: Final = 0.25
"""Share of a load after which its own pace counts as much as what was learnt before."""


class LoadWork(msgspec.Struct, frozen=True, kw_only=True):
    """What one load has to do, in bytes."""

    cold: int
    """Of weights that the disk has to deliver."""
    warm: int = 0
    """Of weights that the system holds in memory."""
    other: int = 0
    """For the context, and for weights in another order."""


class PastLoad(msgspec.Struct, frozen=True, kw_only=True):
    model: str
    how: str
    """How it was to be served; another context is another load."""
    work: LoadWork
    seconds: float


@dataclass(frozen=True, slots=True)
class Rates:
    """Seconds: fixed, then for each gigabyte of cold, warm and other bytes."""

    fixed_s: float
    cold_s: float
    warm_s: float
    other_s: float

    def weights_s(self, work: LoadWork) -> float:
        return (self.cold_s * work.cold + self.warm_s * work.warm) / _GB

    def seconds(self, work: LoadWork) -> float:
        return self.fixed_s + self.weights_s(work) + self.other_s * work.other / _GB


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What a load has taken in so far, in bytes."""

    weights: int
    other: int


def fitted(past: Sequence[PastLoad]) -> Rates:
    """Least squares over past loads, the latest weighing most, drawn to the usual where few."""
    matrix = [[0.0] * 4 for _ in range(4)]
    right = [0.0] * 4
    for at, (usual, doubt) in enumerate(zip(_USUAL_S, _DOUBT_S, strict=True)):
        matrix[at][at] = 1 / doubt**2
        right[at] = usual / doubt**2
    for age, load in enumerate(reversed(past)):
        work = load.work
        row = (1.0, work.cold / _GB, work.warm / _GB, work.other / _GB)
        trust = _KEPT**age / (_LOAD_VARIES * load.seconds + _LOAD_VARIES_S) ** 2
        for at, value in enumerate(row):
            right[at] += trust * value * load.seconds
            for other, factor in enumerate(row):
                matrix[at][other] += trust * value * factor
    return Rates(*_solved(matrix, right))


def like(past: Sequence[PastLoad], rates: Rates, model: str, how: str) -> float:
    """How much longer this model takes than the rates say, by its own last loads; 1 if unknown."""
    own = [one for one in past if (one.model, one.how) == (model, how)][-3:]
    ratios = sorted(one.seconds / max(1e-3, rates.seconds(one.work)) for one in own)
    return ratios[len(ratios) // 2] if ratios else 1.0


def remaining_s(
    rates: Rates, work: LoadWork, *, scale: float, elapsed_s: float, taken: Taken | None
) -> float:
    """What is left of a load, by what it has taken in and how long it needed for that.

    At its beginning that is what was learnt; the further it is, the more its own
    pace counts. One that takes longer than anything would explain is expected to
    go on as slowly.
    """
    whole_s = rates.seconds(work) * scale
    if taken is None:
        done_s = min(elapsed_s, whole_s * 0.9)
    else:
        weights = work.cold + work.warm
        done_s = scale * (
            min(elapsed_s, rates.fixed_s / 2)
            + rates.weights_s(work) * _share(taken.weights, weights)
            + rates.other_s * work.other / _GB * _share(taken.other, work.other)
        )
    doubt_s = _PATIENCE * whole_s
    pace = (doubt_s + elapsed_s) / (doubt_s + done_s)
    return max(0.0, whole_s - done_s) * pace


def _share(done: int, total: int) -> float:
    return min(1.0, done / total) if total > 0 else 1.0


def _solved(matrix: list[list[float]], right: list[float]) -> list[float]:
    """Coordinate descent, because none of them may become negative."""
    found = list(_USUAL_S)
    for _ in range(_ROUNDS):
        for at, row in enumerate(matrix):
            others = sum(row[k] * found[k] for k in range(4) if k != at)
            found[at] = max(_USUAL_S[at] * _LEAST_SHARE, (right[at] - others) / row[at])
    return found
