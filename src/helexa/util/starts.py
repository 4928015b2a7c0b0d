"""When requests begin that came at once.

A loop runs all that is ready before it looks at its sockets again. Hundreds of new requests in one
turn would let every stream that runs beside them wait for as long as all of them take to begin.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

STARTS_A_TURN: Final = 12
"""So many take half a millisecond; of more at a time each would be a little cheaper."""


class Starts:
    """Of one loop: in the order in which they came, a few each turn."""

    __slots__ = ("_begun", "_waiting")

    def __init__(self) -> None:
        self._begun = 0
        """Of which the first step is yet to come."""
        self._waiting: deque[Callable[[], bool]] = deque()

    def __call__(self, begin: Callable[[], bool]) -> None:
        """Call it now or in one of the next turns. It makes a task that calls `stepped` first of
        all, or returns False where there is nothing to begin any more.
        """
        if self._begun >= STARTS_A_TURN:
            self._waiting.append(begin)
        elif begin():
            self._begun += 1

    def stepped(self) -> None:
        """One that began has taken its first step."""
        self._begun -= 1
        while self._waiting and self._begun < STARTS_A_TURN:
            if self._waiting.popleft()():
                self._begun += 1
