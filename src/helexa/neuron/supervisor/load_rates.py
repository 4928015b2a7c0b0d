"""How long a load takes, as a pure function of what it has to do and of loads before it.

A load has three phases, one after the other: weights come from the disk or from
what the system still holds of them; memory is made ready for the context, and
for weights in another order; then the engine begins, which reads all weights
once. The phases are fitted apart, because their speeds have nothing to do with
one another: a busy disk slows the first, busy processors the last.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

_GB: Final = 1e9
_LEAST_SHARE: Final = 0.02
"""Of what is usual: nothing is believed to take no time at all."""
_PHASE_VARIES: Final = 0.15
"""By how much the same phase takes longer or shorter, as a share of it, and in seconds."""
_PHASE_VARIES_S: Final = 0.1
_KEPT: Final = 0.9
"""Of a load's weight with each one after it: disks and neighbours change."""
_OWN_MAX: Final = 5
"""Loads of a model that say how it differs from others."""
_OWN_DOUBT: Final = 0.5
_OWN_RATIO_MOST: Final = 5.0
_PATIENCE: Final = 0.3
"""Share of a phase after which its own pace counts as much as what was learnt before."""
_OVERDUE: Final = 0.3
"""Of the time that the last phase took already: the least that is left of it once it is over."""
_ROUNDS: Final = 100


class LoadWork(msgspec.Struct, frozen=True, kw_only=True):
    """What one load has to do, in bytes."""

    cold: int
    """Of weights that the disk has to deliver."""
    warm: int = 0
    """Of weights that the system holds in memory."""
    other: int = 0
    """For the context, and for weights in another order."""

    @property
    def weights(self) -> int:
        return self.cold + self.warm


class PhaseTimes(msgspec.Struct, frozen=True, kw_only=True):
    """Of the three phases."""

    weights_s: float
    other_s: float
    begin_s: float

    @property
    def seconds(self) -> float:
        return self.weights_s + self.other_s + self.begin_s


class ThisLoad(msgspec.Struct, frozen=True, kw_only=True):
    model: str
    how: str
    """How it is to be served; another context is another load."""
    work: LoadWork


class PastLoad(msgspec.Struct, frozen=True, kw_only=True):
    load: ThisLoad
    took: PhaseTimes


@dataclass(frozen=True, slots=True)
class Rates:
    """Seconds, fixed or for a gigabyte."""

    cold_s: float
    warm_s: float
    other_s: float
    begin_s: float
    begin_gb_s: float

    def times(self, work: LoadWork) -> PhaseTimes:
        return PhaseTimes(
            weights_s=(self.cold_s * work.cold + self.warm_s * work.warm) / _GB,
            other_s=self.other_s * work.other / _GB,
            begin_s=self.begin_s + self.begin_gb_s * work.weights / _GB,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What a load has taken in so far, in bytes."""

    weights: int
    other: int


def fitted(past: Sequence[PastLoad]) -> Rates:
    """Least squares over past loads, the latest weighing most, drawn to the usual where few."""
    newest = [(load, _KEPT**age) for age, load in enumerate(reversed(past))]
    cold_s, warm_s = _least_squares(
        [
            ((one.load.work.cold / _GB, one.load.work.warm / _GB), one.took.weights_s, w)
            for one, w in newest
        ],
        usual=(5.0, 0.1),  # A disk of 200 MB/s; pages that are only counted.
        doubt=(10.0, 0.3),
    )
    (other_s,) = _least_squares(
        [((one.load.work.other / _GB,), one.took.other_s, w) for one, w in newest],
        usual=(0.6,),
        doubt=(2.0,),
    )
    begin_s, begin_gb_s = _least_squares(
        [((1.0, one.load.work.weights / _GB), one.took.begin_s, w) for one, w in newest],
        usual=(0.3, 0.2),
        doubt=(0.5, 1.0),
    )
    return Rates(cold_s, warm_s, other_s, begin_s, begin_gb_s)


def expected(past: Sequence[PastLoad], rates: Rates, load: ThisLoad) -> PhaseTimes:
    """What `load` will take: by the rates, and by how its own last loads differed from them."""
    times = rates.times(load.work)
    own = [one for one in past if (one.load.model, one.load.how) == (load.model, load.how)][
        -_OWN_MAX:
    ]
    if not own:
        return times
    usual = [rates.times(one.load.work) for one in own]
    return PhaseTimes(
        weights_s=times.weights_s
        * _ratio([(o.took.weights_s, u.weights_s) for o, u in zip(own, usual, strict=True)]),
        other_s=times.other_s
        * _ratio([(o.took.other_s, u.other_s) for o, u in zip(own, usual, strict=True)]),
        begin_s=times.begin_s
        * _ratio([(o.took.begin_s, u.begin_s) for o, u in zip(own, usual, strict=True)]),
    )


def remaining_s(
    times: PhaseTimes,
    work: LoadWork,
    *,
    elapsed_s: float,
    taken: Taken | None,
    full_since_s: float | None,
) -> float:
    """What is left of a load, by what it has taken in and how long it needed for that.

    At its beginning that is what was learnt; the further it is, the more its own
    pace counts. `full_since_s` is how long everything has been taken in: then only the
    last phase is left, and one that takes longer than ever is expected to go on.
    """
    if full_since_s is not None:
        return max(times.begin_s - full_since_s, _OVERDUE * full_since_s)
    filling_s = times.weights_s + times.other_s
    if taken is None:
        return max(filling_s - elapsed_s, 0.0) + times.begin_s
    done_s = times.weights_s * _share(taken.weights, work.weights)
    done_s += times.other_s * _share(taken.other, work.other)
    doubt_s = _PATIENCE * filling_s
    pace = (doubt_s + elapsed_s) / (doubt_s + done_s) if doubt_s + done_s > 0 else 1.0
    return max(0.0, filling_s - done_s) * pace + times.begin_s


def _share(done: int, total: int) -> float:
    return min(1.0, done / total) if total > 0 else 1.0


def _ratio(pairs: Sequence[tuple[float, float]]) -> float:
    """Of seconds that it took to those that were usual, drawn to 1 where few or short."""
    ratios = [(took + _PHASE_VARIES_S) / (usual + _PHASE_VARIES_S) for took, usual in pairs]
    middle = statistics.median(ratios)
    drawn = (_OWN_DOUBT + len(ratios) * middle) / (_OWN_DOUBT + len(ratios))
    return min(_OWN_RATIO_MOST, max(1 / _OWN_RATIO_MOST, drawn))


def _least_squares(
    rows: Sequence[tuple[tuple[float, ...], float, float]],
    *,
    usual: tuple[float, ...],
    doubt: tuple[float, ...],
) -> list[float]:
    """Of values, seconds and trust. None becomes negative, so each is found in turn, many times."""
    count = len(usual)
    matrix = [[0.0] * count for _ in range(count)]
    right = [0.0] * count
    for at in range(count):
        matrix[at][at] = 1 / doubt[at] ** 2
        right[at] = usual[at] / doubt[at] ** 2
    for values, seconds, weight in rows:
        trust = weight / (_PHASE_VARIES * seconds + _PHASE_VARIES_S) ** 2
        for at, value in enumerate(values):
            right[at] += trust * value * seconds
            for other, factor in enumerate(values):
                matrix[at][other] += trust * value * factor
    found = list(usual)
    for _ in range(_ROUNDS):
        for at, row in enumerate(matrix):
            others = sum(row[k] * found[k] for k in range(count) if k != at)
            found[at] = max(usual[at] * _LEAST_SHARE, (right[at] - others) / row[at])
    return found
