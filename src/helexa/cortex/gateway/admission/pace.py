"""How fast a model's requests end, as measured: what `Retry-After` and deadlines go by. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

SMOOTHING: Final = 0.1
UNKNOWN_S: Final = 1.0
"""A request's time where none has ended yet and none runs."""
RETRY_MOST_S: Final = 3_600


class Pace:
    """By the law of Little: so many run at once, each for so long."""

    __slots__ = ("_refused", "_service_s")

    def __init__(self) -> None:
        self._service_s = 0.0
        self._refused = 0.0

    def ended(self, service_s: float) -> None:
        """One that ran this long is over, whatever came of it."""
        known = self._service_s
        self._service_s = known + SMOOTHING * (service_s - known) if known else service_s
        if self._refused:
            self._refused -= 1

    def refused(self) -> None:
        """One more was sent away, and will be back."""
        self._refused += 1

    def is_known(self) -> bool:
        return self._service_s > 0

    def service_s(self, began_s: Iterable[float], now_s: float) -> float:
        """Of one request; longer than measured where those that run now have run longer."""
        ages = [now_s - one for one in began_s]
        so_far_s = sum(ages) / len(ages) if ages else 0.0
        return max(self._service_s, so_far_s) or UNKNOWN_S

    def wait_s(self, ahead: float, began_s: Iterable[float], now_s: float) -> float:
        """Until it is the turn of one that has so many before it."""
        running = list(began_s)
        return (ahead + 1) * self.service_s(running, now_s) / max(len(running), 1)

    def retry_s(self, began_s: Iterable[float], now_s: float) -> int:
        """Until there is room for one that was refused now, after those refused before it."""
        return whole_s(self.wait_s(self._refused, began_s, now_s))


def whole_s(seconds: float) -> int:
    """As a header says it: never less than is true, never nothing."""
    return min(max(math.ceil(seconds), 1), RETRY_MOST_S)
