"""Token buckets: so much a second on average, and so much at once. Pure; times are passed in."""

from __future__ import annotations


class Bucket:
    """Full at first. What is taken may make it owe, where one take is larger than it is."""

    __slots__ = ("_at_s", "_level", "most", "per_s")

    def __init__(self, per_s: float, most: float, now_s: float) -> None:
        self.per_s = per_s
        self.most = most
        self._level = most
        self._at_s = now_s

    def change(self, per_s: float, most: float, now_s: float) -> None:
        """Another limit holds from now on; what was used stays used."""
        self._flow(now_s)
        self._level += most - self.most
        self.per_s, self.most = per_s, most

    def wait_s(self, amount: float, now_s: float) -> float:
        """Until so much could be taken; 0 now. More than it ever holds needs it to be full."""
        self._flow(now_s)
        return max(min(amount, self.most) - self._level, 0.0) / self.per_s

    def take(self, amount: float) -> None:
        """After `wait_s` said 0."""
        self._level -= amount

    def put_back(self, amount: float) -> None:
        """Less was used than taken; with a negative amount, more."""
        self._level = min(self._level + amount, self.most)

    def left(self, now_s: float) -> float:
        self._flow(now_s)
        return max(self._level, 0.0)

    def full_in_s(self, now_s: float) -> float:
        self._flow(now_s)
        return (self.most - self._level) / self.per_s

    def _flow(self, now_s: float) -> None:
        self._level = min(self._level + (now_s - self._at_s) * self.per_s, self.most)
        self._at_s = now_s
