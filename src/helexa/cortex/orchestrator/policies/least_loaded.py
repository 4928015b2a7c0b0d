"""The emptier of two picked at random goes first, the rest follow by load.

Two random choices are nearly as even as looking at all, and unlike "the least
loaded of all" they do not send every request of one second to the neuron whose
last report looked best.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from helexa.cortex.orchestrator.scheduler import Candidate, Policy
from helexa.protocol.routing import RouteHints


@dataclass(frozen=True, slots=True)
class LeastLoaded:
    name: str = "least_loaded"
    by_prefix: bool = False
    candidates_max: int = 8

    def order(
        self,
        candidates: Sequence[Candidate],
        hints: RouteHints,  # noqa: ARG002 - load alone decides here
        random: Callable[[], float],
    ) -> Sequence[tuple[Candidate, str]]:
        if len(candidates) == 1:
            return [(candidates[0], "the only one")]
        by_load = sorted([(one.pressure, random(), at) for at, one in enumerate(candidates)])
        ranked = [
            (candidates[at], f"{pressure:.2f} requests a slot") for pressure, _, at in by_load
        ]
        # Positions in the ranking, so the smaller of two random ones is the emptier.
        first = min(int(random() * len(ranked)), int(random() * len(ranked)))
        ranked.insert(0, ranked.pop(first))
        return ranked


policy: Policy = LeastLoaded()
