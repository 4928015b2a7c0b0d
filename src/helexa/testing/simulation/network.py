"""What a network does to messages: loses, delays, repeats and reorders them, and falls apart.

Each message fares by itself, so a later one may overtake an earlier one. A mesh
of TCP or QUIC links loses less; what membership can stand is measured here.
"""

from __future__ import annotations

import math
import random
from collections.abc import Hashable
from dataclasses import dataclass, field


@dataclass(slots=True, kw_only=True)
class Network:
    """`delay_median_s` is one way; delays are log-normal, which has the long tail of real ones."""

    loss: float = 0.0
    delay_median_s: float = 0.04
    delay_sigma: float = 0.6
    """0.6: one message in a hundred takes four times the median."""
    duplicates: float = 0.0
    sides: dict[Hashable, int] = field(default_factory=dict)
    """While there is a partition: who is on which side; everybody else is on side 0."""

    def fates_s(self, randomness: random.Random, source: Hashable, target: Hashable) -> list[float]:
        """The delays after which copies of one message arrive; none when it is lost."""
        if self.sides and self.sides.get(source, 0) != self.sides.get(target, 0):
            return []
        if self.loss and randomness.random() < self.loss:
            return []
        fates = [self.delay_s(randomness)]
        if self.duplicates and randomness.random() < self.duplicates:
            fates.append(self.delay_s(randomness))
        return fates

    def delay_s(self, randomness: random.Random) -> float:
        return self.delay_median_s * math.exp(randomness.gauss(0.0, self.delay_sigma))


def lan(*, loss: float = 0.0) -> Network:
    """Round trips of a millisecond, where the default is a WAN's 80."""
    return Network(loss=loss, delay_median_s=0.0005, delay_sigma=0.5)
