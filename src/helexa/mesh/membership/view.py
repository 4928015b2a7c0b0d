"""Whom a node picks as its neighbours: the few that score highest under its own secret salt.

Rendezvous hashing keeps the choice steady while others come and go. The salt is
private and new at every start: nobody can make up ids that end up beside a
victim, because nobody can tell which ids would.
"""

from __future__ import annotations

import bisect
import hashlib
import heapq
from collections import Counter
from collections.abc import Iterable
from typing import Final, TypeAlias

from helexa.mesh.membership.heads import Short
from helexa.mesh.membership.notary import Entry

BEST_MAX: Final = 32
"""Kept in order of score, so that a loss is replaced without looking at everybody."""
BEST_MIN: Final = 8

_Ranked: TypeAlias = tuple[int, Short]


class View:
    def __init__(self, salt: bytes, chosen_max: int, of_one_operator: int) -> None:
        self.chosen: tuple[Entry, ...] = ()
        self._salt = salt
        self._chosen_max = chosen_max
        self._of_one_operator = of_one_operator
        self._best: list[_Ranked] = []  # Ascending, so that the worst is cheap to find.
        self._entries: dict[Short, Entry] = {}
        self._is_everybody = True

    def add(self, entry: Entry) -> bool:
        """Somebody came, or published anew. Whether the choice changed."""
        if entry.short in self._entries:
            self._entries[entry.short] = entry
            return self._choose()
        ranked = (self._score(entry.short), entry.short)
        if self._best and ranked < self._best[0] and not self._fits_below():
            self._is_everybody = False
            return False
        bisect.insort(self._best, ranked)
        self._entries[entry.short] = entry
        if len(self._best) > BEST_MAX:
            del self._entries[self._best.pop(0)[1]]
            self._is_everybody = False
        return self._choose()

    def remove(self, short: Short, others: Iterable[Entry]) -> bool:
        """Somebody went; `others` are all who are left. Whether the choice changed."""
        if self._entries.pop(short, None) is None:
            return False
        self._best = [ranked for ranked in self._best if ranked[1] != short]
        if len(self._best) < BEST_MIN and not self._is_everybody:
            self._look_at_all(others)
        return self._choose()

    def _fits_below(self) -> bool:
        return self._is_everybody and len(self._best) < BEST_MAX

    def _look_at_all(self, others: Iterable[Entry]) -> None:
        by_short = {entry.short: entry for entry in others}
        best = heapq.nlargest(BEST_MAX, ((self._score(short), short) for short in by_short))
        self._best = sorted(best)
        self._entries = {short: by_short[short] for _, short in best}
        self._is_everybody = len(best) == len(by_short)

    def _choose(self) -> bool:
        before = self.chosen
        operators: Counter[str] = Counter()
        chosen, spare = [], []
        for _, short in reversed(self._best):
            entry = self._entries[short]
            operator = entry.signed.operator
            if operators[operator] < self._of_one_operator:
                operators[operator] += 1
                chosen.append(entry)
                if len(chosen) == self._chosen_max:
                    break
            else:
                spare.append(entry)
        self.chosen = (*chosen, *spare[: self._chosen_max - len(chosen)])
        return [entry.short for entry in before] != [entry.short for entry in self.chosen]

    def _score(self, short: Short) -> int:
        digest = hashlib.blake2b(short, digest_size=8, key=self._salt).digest()
        return int.from_bytes(digest, "big")
