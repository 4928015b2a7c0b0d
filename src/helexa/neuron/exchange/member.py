"""What is known of one other neuron that pulls or holds the same file; written by `Swarm` alone."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final

from helexa.protocol.ids import NodeId

STALL_S: Final = 15.0
"""Without a byte of the pieces that it fetches from the origin: then it is no owner any more.
Three maps would have said so."""
FAILURES_MAX: Final = 3
"""In a row: then it is as if it had nothing, for a while."""
GIVEN_UP_S: Final = 60.0
BUSY_S: Final = 0.2


@dataclass(slots=True)
class Member:
    node: NodeId
    presumed_until_s: float
    """Before anything was heard from it, it counts as one that is about to begin."""
    is_here: bool = False
    """A link stands, and it answers."""
    has_file: bool = False
    """It knows of the file; the rest is what its last map said."""
    have: int = 0
    fetching: int = 0
    fetches: bool = False
    in_order: bool = False
    verified: bool = False
    counts: frozenset[str] = frozenset()
    """The marks of those it reckons with as owners."""
    origin_bytes: int = 0
    moved_s: float = -math.inf
    """When it was last seen to get on."""
    fetching_since: dict[int, float] = field(default_factory=dict)
    liar: str = ""
    """Why nothing is taken from it any more."""
    takes: int = 0
    """On their way from it to here."""
    piece_s: float = 0.0
    """How long pieces take from it; 0 while that is not known."""
    failures: int = 0
    rests_until_s: float = -math.inf
    asked_s: float = -math.inf
    """When it was last asked to hand something over."""

    def is_live(self) -> bool:
        return self.is_here and self.has_file and not self.liar

    def is_stalled(self, now_s: float) -> bool:
        return self.fetching != 0 and now_s - self.moved_s > STALL_S

    def is_given_up(self, now_s: float) -> bool:
        return self.failures >= FAILURES_MAX and now_s < self.rests_until_s

    def owns(self, now_s: float) -> bool:
        """Whether it takes its part from the origin, or is about to."""
        if self.liar:
            return False
        if not self.is_here or not self.has_file:
            return now_s < self.presumed_until_s
        return self.fetches and not self.is_stalled(now_s)

    def failed(self, now_s: float) -> None:
        self.failures += 1
        wait_s = GIVEN_UP_S if self.failures >= FAILURES_MAX else 0.5 * 2**self.failures
        self.rests_until_s = now_s + wait_s

    def gave(self, seconds: float) -> None:
        self.failures = 0
        self.piece_s = blended(self.piece_s, seconds)

    def was_busy(self, now_s: float) -> None:
        self.rests_until_s = max(self.rests_until_s, now_s + BUSY_S)


def blended(before: float, now: float) -> float:
    """A mean that forgets; 0 is no measure yet."""
    return now if not before else 0.7 * before + 0.3 * now
