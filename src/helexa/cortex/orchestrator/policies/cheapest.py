"""The lowest price first; among equal prices the emptier one.

The price is what this prompt and an answer of usual length cost together, so a neuron
that is cheap to read and dear to write gets the long prompts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from helexa.cortex.orchestrator.scheduler import Candidate, Policy
from helexa.protocol.routing import RouteHints

BYTES_PER_TOKEN: Final = 4
"""Of English and of code, by the tokenizers in use; one that splits finer costs the same ratio."""
ANSWER_TOKENS: Final = 256


@dataclass(frozen=True, slots=True)
class Cheapest:
    name: str = "cheapest"
    by_prefix: bool = False
    candidates_max: int = 12

    def order(
        self, candidates: Sequence[Candidate], hints: RouteHints, random: Callable[[], float]
    ) -> Sequence[tuple[Candidate, str]]:
        ranked = sorted(
            [(cost(one, hints), one.pressure, random(), at) for at, one in enumerate(candidates)]
        )
        return [
            (candidates[at], f"about {nano} nano-credits, {pressure:.2f} requests a slot")
            for nano, pressure, _, at in ranked
        ]


def cost(candidate: Candidate, hints: RouteHints) -> int:
    """Nano-credits for this prompt and an answer of usual length."""
    price = candidate.price
    prompt = hints.prompt_bytes // BYTES_PER_TOKEN or 1
    return price.prompt_uncached * prompt + price.completion * ANSWER_TOKENS


policy: Policy = Cheapest()
