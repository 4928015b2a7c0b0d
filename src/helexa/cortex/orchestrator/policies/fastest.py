"""The soonest to be done with an answer of usual length, by what was measured on each neuron.

    wait for a slot + time to the first token + the other tokens at its speed

A neuron that was never measured counts as the fastest of those that were, so that it is
asked and measured. One with a free slot waits for nothing; in a queue each request
takes as long as this one would, and what the neuron says of its own queue counts where
that is more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from helexa.cortex.orchestrator.scheduler import Candidate, Policy
from helexa.protocol.routing import RouteHints

ANSWER_TOKENS: Final = 256


@dataclass(frozen=True, slots=True)
class Fastest:
    name: str = "fastest"
    by_prefix: bool = False
    candidates_max: int = 12

    def order(
        self,
        candidates: Sequence[Candidate],
        hints: RouteHints,  # noqa: ARG002 - a prompt is as long for everyone
        random: Callable[[], float],
    ) -> Sequence[tuple[Candidate, str]]:
        if len(candidates) == 1:
            return [(candidates[0], "the only one")]
        firsts = [one.capability.first_token_s for one in candidates]
        speeds = [one.capability.tokens_per_s for one in candidates]
        first_s = min((one for one in firsts if one > 0), default=0.0)
        speed = max(speeds)
        expected = [expected_s(one, first_s, speed) for one in candidates]
        ranked = sorted(
            [
                # The pressure settles what nobody measured, and spreads over equals.
                (sum(expected[at]), one.pressure, random(), at)
                for at, one in enumerate(candidates)
            ]
        )
        return [(candidates[at], _words(candidates[at], *expected[at])) for *_, at in ranked]


def expected_s(candidate: Candidate, first_s: float, speed: float) -> tuple[float, float]:
    """The wait and the work; the arguments stand in for what was never measured there."""
    capability = candidate.capability
    tokens_per_s = capability.tokens_per_s or speed
    work_s = capability.first_token_s or first_s
    if tokens_per_s > 0:
        work_s += ANSWER_TOKENS / tokens_per_s
    slots = capability.slots or 1
    ahead = candidate.busy - slots + 1
    if ahead <= 0:
        return 0.0, work_s
    replica = candidate.neuron.replicas.get(capability.model)
    said_s = replica.queue_s if replica is not None else 0.0
    return max(ahead / slots * work_s, said_s), work_s


def _words(candidate: Candidate, wait_s: float, work_s: float) -> str:
    capability = candidate.capability
    measured = capability.tokens_per_s > 0 or capability.first_token_s > 0
    guess = "" if measured else " by guess, for it was never measured"
    wait = f"{wait_s:.2f} s of waiting and " if wait_s else ""
    return f"{wait}{work_s:.2f} s of work{guess}"


policy: Policy = Fastest()
