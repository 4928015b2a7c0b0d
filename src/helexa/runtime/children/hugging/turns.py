"""Whose step it is: one step of one request at a time, and all that wait come in turn.

Steps of several requests at once would share the same cores or the same device and each
take longer. After each token the next in line goes on, so that a short answer does not
wait for the end of a long one.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager


class Turns:
    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._is_taken = False
        self._waiting: deque[threading.Lock] = deque()

    @contextmanager
    def mine(self) -> Iterator[None]:
        """Until the end of the block, but for `yield_to_others` in it."""
        self._take()
        try:
            yield
        finally:
            self._pass_on()

    def yield_to_others(self) -> None:
        """By whoever has the turn. Returns at once where nobody waits."""
        with self._guard:
            if not self._waiting:
                return
            place = self._place()
            self._waiting.popleft().release()
        place.acquire()

    def _take(self) -> None:
        with self._guard:
            if not self._is_taken:
                self._is_taken = True
                return
            place = self._place()
        place.acquire()

    def _place(self) -> threading.Lock:
        place = threading.Lock()
        place.acquire()
        self._waiting.append(place)
        return place

    def _pass_on(self) -> None:
        with self._guard:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._is_taken = False
