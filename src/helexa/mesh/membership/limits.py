"""How much a peer may ask of this node: token buckets, and a bounded number of them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Allowance:
    """Tokens that refill with time. `burst` at first and at most, `rate` a second."""

    __slots__ = ("_at_s", "_burst", "_rate", "_tokens")

    def __init__(self, burst: float, rate: float, now_s: float) -> None:
        self._burst = burst
        self._rate = rate
        self._tokens = burst
        self._at_s = now_s

    def take(self, now_s: float, amount: float = 1.0) -> bool:
        """Whether `amount` was there; nothing is taken where it was not."""
        if self.left(now_s) < amount:
            return False
        self._tokens -= amount
        return True

    def left(self, now_s: float) -> float:
        """Tokens that are there at `now_s`."""
        if now_s > self._at_s:
            self._tokens = min(self._burst, self._tokens + (now_s - self._at_s) * self._rate)
            self._at_s = now_s
        return self._tokens

    def wait_s(self, now_s: float) -> float:
        """Until one token is there, and a little more: a clock's steps are coarser than floats."""
        return max(0.0, (1.0 - self.left(now_s)) / self._rate) + 0.001

    def repace(self, rate: float, now_s: float) -> None:
        """Refill at another rate from now on; a lower one counts for the time since as well."""
        self._rate = min(self._rate, rate)
        self.left(now_s)
        self._rate = rate


class Recent(Generic[K, V]):
    """A mapping that makes what it lacks and keeps the `entries_max` used last."""

    def __init__(self, make: Callable[[], V], entries_max: int) -> None:
        self._make = make
        self._entries_max = entries_max
        self._entries: OrderedDict[K, V] = OrderedDict()

    def of(self, key: K) -> V:
        """What stands under `key`, made now where there is nothing; it counts as used."""
        found = self._entries.get(key)
        if found is None:
            found = self._entries[key] = self._make()
            if len(self._entries) > self._entries_max:
                self._entries.popitem(last=False)
        else:
            self._entries.move_to_end(key)
        return found

    def get(self, key: K) -> V | None:
        """What stands under `key`, without making or using it."""
        return self._entries.get(key)

    def __len__(self) -> int:
        return len(self._entries)
