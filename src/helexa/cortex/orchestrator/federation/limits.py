"""How much one other operator may ask here: requests a minute, and requests at once.

One owner, on one event loop. An operator is counted over all its cortexes: more nodes
are not more rights.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from helexa.protocol.errors import RateLimited
from helexa.protocol.ids import OperatorId

OPERATORS_MAX: Final = 4_096
"""Remembered at once; the one that asked longest ago is forgotten first."""


class Limits:
    """A bucket an operator that holds one minute's requests and fills within a minute."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._buckets: dict[OperatorId, tuple[float, float]] = {}
        self._under_way: dict[OperatorId, int] = {}

    @property
    def under_way(self) -> int:
        return sum(self._under_way.values())

    def take(self, operator: OperatorId, per_minute: int) -> None:
        """Count one request. Raises RateLimited saying when the next one may come.

        `per_minute` is what holds now; 0 sets no limit.
        """
        if per_minute == 0:
            return
        now_s = self._monotonic()
        left, at_s = self._buckets.pop(operator, (float(per_minute), now_s))
        left = min(left + (now_s - at_s) * per_minute / 60, float(per_minute))
        if len(self._buckets) >= OPERATORS_MAX:
            del self._buckets[next(iter(self._buckets))]
        if left < 1:
            self._buckets[operator] = left, now_s
            wait_s = math.ceil((1 - left) * 60 / per_minute)
            raise RateLimited(
                f"Another operator may send {per_minute} requests a minute here "
                "(lend_rate_per_minute).",
                wait_s,
            )
        self._buckets[operator] = left - 1, now_s

    def enter(self, operator: OperatorId, at_once: int) -> None:
        """One more under way; `leave` ends it. Raises RateLimited."""
        count = self._under_way.get(operator, 0)
        if count >= at_once:
            raise RateLimited(
                f"Another operator may have {at_once} requests under way here (lend_concurrency)."
            )
        self._under_way[operator] = count + 1

    def leave(self, operator: OperatorId) -> None:
        count = self._under_way[operator] - 1
        if count:
            self._under_way[operator] = count
        else:
            del self._under_way[operator]
