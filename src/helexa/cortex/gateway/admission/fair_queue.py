"""Whose request is next: the account that was given the least so far, in tokens by its weight.

A virtual token counter for each account, as in Sheng et al., "Fairness in Serving Large
Language Models" (2024): what an account is given is added to its counter, and the lowest
counter is served next. An account that comes back after a pause is lifted to the lowest of
those that wait, so that nobody saves up; but for `credit_tokens`, which let a light account's
burst go before one that always waits. Pure: no clock, and nothing here waits.
"""

from __future__ import annotations

import heapq
from collections import deque
from typing import Final, Generic, TypeVar

T = TypeVar("T")

ACCOUNTS_MAX: Final = 4_096
"""Remembered without a request here; those that were given least are forgotten first."""


class Account(Generic[T]):
    """One account's part of a queue. Made by `FairQueue.account`."""

    __slots__ = ("called", "expected", "here", "mark", "served", "waiting")

    def __init__(self, called: str, served: float, expected: float) -> None:
        self.called = called
        self.served = served
        """Virtual tokens: what it was given, by its weight."""
        self.expected = expected
        """Tokens of its answers, as they were lately."""
        self.waiting: deque[tuple[int, T]] = deque()
        """With the place of each in the order in which they came."""
        self.here = 0
        """Its requests that wait or run."""
        self.mark = 0
        """Of its newest place in the heap; older ones count for nothing."""


class FairQueue(Generic[T]):
    """Requests of one model and one rank. First in, first out within an account."""

    def __init__(self, *, credit_tokens: float = 0.0, fair: bool = True) -> None:
        """Without `fair` all accounts are one: first come, first served."""
        self._credit = credit_tokens
        self._fair = fair
        self._accounts: dict[str, Account[T]] = {}
        self._heap: list[tuple[float, int, int, Account[T]]] = []
        self._count = 0
        self._came = 0
        self._floor = 0.0
        """The counter of the one that was served last, before it was served."""

    def __len__(self) -> int:
        return self._count

    def account(self, called: str, expected: float) -> Account[T]:
        """The account as it is known, or a new one; `leave` gives it back."""
        if not self._fair:
            called = ""
        found = self._accounts.get(called)
        if found is None:
            if len(self._accounts) >= ACCOUNTS_MAX:
                self._forget()
            found = self._accounts[called] = Account(called, 0.0, expected)
        found.here += 1
        return found

    def leave(self, account: Account[T]) -> None:
        """One of its requests is neither waiting nor running any more."""
        account.here -= 1

    def pass_by(self, account: Account[T]) -> None:
        """One of its requests is served at once, while nobody waits."""
        # Of every request, so two comparisons and no call.
        served, floor = account.served, self._floor
        if served < floor - self._credit:
            account.served = served = floor - self._credit
        if served > floor:
            self._floor = served

    def put(self, account: Account[T], one: T) -> None:
        """At the end of its account's part."""
        self._came += 1
        if not account.waiting:
            first = self._first()
            lowest = (self._floor if first is None else first.served) - self._credit
            account.served = max(account.served, lowest)
        account.waiting.append((self._came, one))
        self._count += 1
        if len(account.waiting) == 1:
            self._push(account)

    def peek(self) -> T | None:
        """The next one, which `take` would give."""
        first = self._first()
        return None if first is None else first.waiting[0][1]

    def take(self) -> T:
        """The next one; what it is given is for `charge`. Raises IndexError when nobody waits."""
        first = self._first()
        if first is None:
            raise IndexError("nobody waits")
        _, one = first.waiting.popleft()
        self._count -= 1
        self._floor = max(self._floor, first.served)
        self._push(first)
        return one

    def charge(self, account: Account[T], tokens: float) -> None:
        """It was given so many more by its weight; or fewer, where more was charged than true."""
        account.served += tokens
        # A higher counter is found when its place comes up; a lower one must move forward.
        if tokens < 0 and account.waiting:
            self._push(account)

    def remove(self, account: Account[T], one: T) -> None:
        """It waits no longer. Raises ValueError for one that did not wait."""
        for place, (_, other) in enumerate(account.waiting):
            if other is one:
                del account.waiting[place]
                break
        else:
            raise ValueError("it does not wait")
        self._count -= 1
        if place == 0:
            self._push(account)

    def longest(self) -> Account[T] | None:
        """The account with the most that wait."""
        waiting = [one for one in self._accounts.values() if one.waiting]
        return max(waiting, key=lambda one: len(one.waiting), default=None)

    def ahead_of(self, account: Account[T]) -> int:
        """About how many go before one more of this account: one of each other in turn."""
        own = len(account.waiting)
        return own + sum(
            min(len(one.waiting), own + 1)
            for one in self._accounts.values()
            if one is not account and one.waiting
        )

    def _first(self) -> Account[T] | None:
        heap = self._heap
        while heap:
            served, _, mark, account = heap[0]
            if mark != account.mark or not account.waiting:
                heapq.heappop(heap)
            elif account.served > served:
                heapq.heappop(heap)
                self._push(account)
            else:
                return account
        return None

    def _push(self, account: Account[T]) -> None:
        account.mark += 1
        if account.waiting:
            # Of equals the one that came first; no two came at the same time.
            came = account.waiting[0][0]
            heapq.heappush(self._heap, (account.served, came, account.mark, account))

    def _forget(self) -> None:
        """Those that were given least lose least: they would be lifted anyway."""
        idle = sorted(
            (one for one in self._accounts.values() if not one.here), key=lambda one: one.served
        )
        for one in idle[: max(len(idle) // 2, 1)]:
            del self._accounts[one.called]
