"""How long to wait before the next try, and nothing else: the caller does the waiting."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Exponential with full jitter on the upper half, so that many who fail together do not
    return together.

    `delay_s(n, random)` for the n-th failure in a row, n from 1; `random` gives
    numbers in 0..1.
    """

    first_s: float = 0.2
    factor: float = 2.0
    most_s: float = 15.0

    def delay_s(self, failures: int, random: Callable[[], float]) -> float:
        if failures < 1:
            return 0.0
        # The exponent is bounded because a float overflows long before a day of retries ends.
        full = min(self.most_s, self.first_s * self.factor ** min(failures - 1, 60))
        return full * (0.5 + 0.5 * random())
