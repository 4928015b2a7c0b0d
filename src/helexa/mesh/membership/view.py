"""Whom a node picks as its neighbours: the few that score highest under its own secret salt.

Rendezvous hashing keeps the choice steady while others come and go. The salt is
private and new at every start: nobody can make up ids that end up beside a
victim, because nobody can tell which ids would. And nobody is picked before it
has spoken to this node itself, so a flood of ids with nothing behind them
cannot push the living out.
"""

from __future__ import annotations

import bisect
import hashlib
import heapq
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final

from helexa.mesh.membership.heads import Short
from helexa.mesh.membership.notary import Entry
from helexa.protocol.ids import NodeId

BEST_MAX: Final = 32
"""Kept in order of score, so that a loss is replaced without looking at everybody."""
BEST_MIN: Final = 8
TRIALS_MAX: Final = 4


class Ranking:
    """The best of those that were added, by score, ascending."""

    __slots__ = ("_entries", "_ranks", "is_everybody")

    def __init__(self) -> None:
        self.is_everybody = True
        """Nobody that was added is missing, so a loss leaves nobody to look for."""
        self._ranks: list[tuple[int, Short]] = []
        self._entries: dict[Short, Entry] = {}

    def __len__(self) -> int:
        return len(self._ranks)

    def __contains__(self, short: Short) -> bool:
        return short in self._entries

    @property
    def is_low(self) -> bool:
        """Few are left, and there are others."""
        return len(self._ranks) < BEST_MIN and not self.is_everybody

    def best_first(self) -> Iterator[tuple[int, Entry]]:
        """With their scores."""
        return ((score, self._entries[short]) for score, short in reversed(self._ranks))

    def add(self, score: int, entry: Entry) -> None:
        """Enter `entry`, or its newer record; it may not be good enough to be kept."""
        if entry.short in self._entries:
            self._entries[entry.short] = entry
            return
        ranked = (score, entry.short)
        # Below the worst there may be better ones that were dropped before.
        if not self.is_everybody and self._ranks and ranked < self._ranks[0]:
            return
        bisect.insort(self._ranks, ranked)
        self._entries[entry.short] = entry
        if len(self._ranks) > BEST_MAX:
            del self._entries[self._ranks.pop(0)[1]]
            self.is_everybody = False

    def remove(self, short: Short) -> Entry | None:
        """Take it out; returns what was kept of it."""
        entry = self._entries.pop(short, None)
        if entry is not None:
            self._ranks = [ranked for ranked in self._ranks if ranked[1] != short]
        return entry


class View:
    """Keeps the ranking and says who is picked of it."""

    def __init__(self, salt: bytes, chosen_max: int, of_one_operator: int) -> None:
        self.chosen: tuple[Entry, ...] = ()
        self.trials: tuple[NodeId, ...] = ()
        """Who would be picked if it answered: to be probed."""
        self._salt = salt
        self._chosen_max = chosen_max
        self._of_one_operator = of_one_operator
        self._met = Ranking()
        self._unmet = Ranking()

    def add(self, entry: Entry) -> bool:
        """Somebody came, or published anew. Whether the choice changed."""
        ranking = self._met if entry.short in self._met else self._unmet
        ranking.add(self._score(entry.short), entry)
        return self._choose() if entry.short in ranking else False

    def meet(self, short: Short) -> bool:
        """It spoke to this node. Whether the choice changed."""
        entry = self._unmet.remove(short)
        if entry is None:
            return False
        self._met.add(self._score(short), entry)
        return self._choose()

    def remove(self, short: Short, others: Iterable[Entry]) -> bool:
        """Somebody went; `others` are all who are left. Whether the choice changed."""
        if self._met.remove(short) is None and self._unmet.remove(short) is None:
            return False
        if self._met.is_low or self._unmet.is_low:
            self._look_at_all(others)
        return self._choose()

    def _look_at_all(self, others: Iterable[Entry]) -> None:
        unmet = {entry.short: entry for entry in others if entry.short not in self._met}
        best = heapq.nlargest(BEST_MAX, ((self._score(short), short) for short in unmet))
        self._unmet = Ranking()
        for score, short in best:
            self._unmet.add(score, unmet[short])
        self._unmet.is_everybody = len(best) == len(unmet)
        # Whoever was dropped from the met is among the unmet again.
        self._met.is_everybody = True

    def _choose(self) -> bool:
        before = [entry.short for entry in self.chosen]
        operators: Counter[str] = Counter()
        chosen: list[Entry] = []
        spare: list[Entry] = []
        worst = 0
        for score, entry in self._met.best_first():
            operator = entry.signed.operator
            if operators[operator] < self._of_one_operator:
                operators[operator] += 1
                chosen.append(entry)
                if len(chosen) == self._chosen_max:
                    worst = score
                    break
            else:
                spare.append(entry)
        self.chosen = (*chosen, *spare[: self._chosen_max - len(chosen)])
        self.trials = self._on_trial(worst, operators)
        return before != [entry.short for entry in self.chosen]

    def _on_trial(self, worst: int, operators: Counter[str]) -> tuple[NodeId, ...]:
        """Those that outrank the last of the chosen, and would not be passed over again."""
        trials: list[NodeId] = []
        for score, entry in self._unmet.best_first():
            if score < worst or len(trials) == TRIALS_MAX:
                break
            full = operators[entry.signed.operator] >= self._of_one_operator
            if not full or len(self._met) < self._chosen_max:
                trials.append(entry.node)
        return tuple(trials)

    def _score(self, short: Short) -> int:
        digest = hashlib.blake2b(short, digest_size=8, key=self._salt).digest()
        return int.from_bytes(digest, "big")
