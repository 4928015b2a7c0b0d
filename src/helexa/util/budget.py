"""A bound on bytes that many hold at once, counted as they come and go."""

from __future__ import annotations


class OverBudget(Exception):
    """There is no room for these bytes beside what the others hold."""


class Budget:
    """Whoever takes gives as much back. For one event loop; costs an addition each."""

    __slots__ = ("bytes_max", "held")

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.held = 0

    def check(self, size: int) -> None:
        """Raises OverBudget when so many bytes would not fit now. Takes nothing."""
        if self.held + size > self.bytes_max:
            raise OverBudget

    def take(self, size: int) -> None:
        """Raises OverBudget, and then nothing was taken."""
        held = self.held + size
        if held > self.bytes_max:
            raise OverBudget
        self.held = held

    def give(self, size: int) -> None:
        self.held -= size
