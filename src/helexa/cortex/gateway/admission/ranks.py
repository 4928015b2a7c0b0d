"""Which kind of request comes before which, and what the later ones get all the same."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Final

from helexa.protocol.work import WorkloadClass


class Rank(enum.IntEnum):
    """Lower goes first."""

    INTERACTIVE = 0
    """Somebody watches."""
    BULK = 1
    """Nobody watches; it gets `bulk_share` of the tokens however many watch."""
    LENT = 2
    """Of another operator, where own clients come first."""
    ANONYMOUS = 3
    """Without a key: what nobody else wants."""

    @property
    def word(self) -> str:
        return self.name.lower()


HEADER: Final = "x-helexa-priority"
WORDS: Final = {b"interactive": Rank.INTERACTIVE, b"bulk": Rank.BULK}
_CHAT_BULK: Final = WorkloadClass.CHAT_BULK
_INTERACTIVE: Final = Rank.INTERACTIVE
_TIERS: Final = {"flex": Rank.BULK, "batch": Rank.BULK}
"""What OpenAI's `service_tier` says of it; other tiers leave it as it is."""


def rank_of(workload: WorkloadClass, said: Rank | None, tier: str | None) -> Rank:
    """What the request says of itself, in a header before its body; else by its kind."""
    if said is not None:
        return said
    if tier is not None and tier in _TIERS:
        return _TIERS[tier]
    return Rank.BULK if workload is _CHAT_BULK else _INTERACTIVE


class Shares:
    """Which rank is served next. Pure; told of what each was given."""

    __slots__ = ("_owed", "_shares")

    def __init__(self, shares: Sequence[float]) -> None:
        """By rank: the part of the tokens that it gets however many of earlier ranks wait."""
        self._shares = tuple(shares)
        self._owed = [0.0] * len(self._shares)

    def choose(self, waiting: Sequence[int]) -> int | None:
        """The rank to serve, by how many wait in each; None where nobody does."""
        first = None
        for rank, count in enumerate(waiting):
            if not count:
                self._owed[rank] = 0.0
            elif first is None:
                first = rank
            elif self._owed[rank] > 0:
                return rank
        return first

    def gave(self, rank: int, tokens: float, waiting: Sequence[int]) -> None:
        """`rank` was given tokens, while those who `waiting` counts wait still."""
        for other, share in enumerate(self._shares):
            if other != rank and share and waiting[other]:
                self._owed[other] += tokens * share
        if any(waiting[:rank]):
            self._owed[rank] -= tokens * (1 - self._shares[rank])
