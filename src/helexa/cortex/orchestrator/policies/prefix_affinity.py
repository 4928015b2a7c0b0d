"""To the neuron that has read the most of the prompt already, unless that one has its fair share.

A prompt of which a quarter or more is known goes where most of it is. A neuron takes it
while the request would not bring it above BOUND times its share of all that is under way
(consistent hashing with bounded loads), so a prompt that everybody sends makes itself at
home on more and more neurons. Where several have it, the one that it belongs to by its
content goes first: were it the emptiest, a prompt that once had to go elsewhere would be
kept in several caches, in the place of others. All other prompts go by load, and among
the equally loaded by content, too, so that every cortex finds the next of the kind.
What speaks for each of these is in docs/decisions/0012.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from helexa.cortex.orchestrator.ring import key_of, weight
from helexa.cortex.orchestrator.scheduler import Candidate, Policy
from helexa.protocol.prefix import SHORTEST_BYTES
from helexa.protocol.routing import RouteHints

BOUND: Final = 1.25
"""Of the mean load. Less keeps hardly anything together, 2 would let one neuron take double;
at a quarter above the mean, the literature's usual choice, a queue is a quarter longer at most."""
FREE_SHARE: Final = 0.75
"""Up to this part of its slots a neuron is not loaded, whatever the mean: with three requests under
way in the whole fleet the mean says nothing. One in four stays for who comes next."""
HOMES: Final = 2
"""Where others send requests as well, the emptier of two homes takes a new prompt."""
KNOWN_LEAST: Final = 2
"""Doublings that a match may lie behind the prompt's longest head: a quarter of the prompt. Less
saves less than a place in a shorter queue, and all prompts of one framework begin alike."""


@dataclass(frozen=True, slots=True)
class PrefixAffinity:
    name: str = "prefix_affinity"
    by_prefix: bool = True
    candidates_max: int = 8

    def order(
        self, candidates: Sequence[Candidate], hints: RouteHints, random: Callable[[], float]
    ) -> Sequence[tuple[Candidate, str]]:
        if len(candidates) == 1:
            return [(candidates[0], "the only one")]
        enough = max(len(hints.prefixes) - KNOWN_LEAST, 1)
        at_home = any(one.matched >= enough for one in candidates)
        a_slot = _requests_a_slot(candidates) if at_home else 0.0
        key = key_of(hints)
        whose = [random() if key is None else -weight(key, one.node) for one in candidates]
        # Of the third and later homes the load is not looked at first.
        last_home = sorted(whose)[HOMES - 1] if _is_shared(candidates) else math.inf
        ranked = []
        for at, one in enumerate(candidates):
            known = one.matched if one.matched >= enough else 0
            over = known > 0 and one.busy + 1 > most_of(one, a_slot)
            if known and not over:
                rank = (-known, False, 0.0)
            else:
                rank = (0, whose[at] > last_home, one.pressure)
            ranked.append((*rank, whose[at], at, known, over))
        ranked.sort()
        return [
            (candidates[at], _words(candidates[at], known, over)) for *_, at, known, over in ranked
        ]


def _is_shared(candidates: Sequence[Candidate]) -> bool:
    """Whether others send requests to them, too, of which this cortex learns with the next report.

    Then the one that is the emptiest by the last report is so for all of them, until the next.
    """
    return any(one.neuron.elsewhere.get(one.capability.model) for one in candidates)


def most_of(candidate: Candidate, a_slot: float) -> int:
    """Requests that a neuron may have, where so many come on each slot of all together."""
    slots = candidate.capability.slots or 1
    return max(math.ceil(BOUND * a_slot * slots), math.ceil(FREE_SHARE * slots))


def _requests_a_slot(candidates: Sequence[Candidate]) -> float:
    """With the one to be placed."""
    busy = sum(one.busy for one in candidates) + 1
    return busy / sum(one.capability.slots or 1 for one in candidates)


def _words(candidate: Candidate, known: int, over: bool) -> str:
    load = f"{candidate.pressure:.2f} requests a slot"
    if not known:
        return load
    head = f"has the first {SHORTEST_BYTES << (known - 1)} bytes"
    return f"{head} but more than its share, {load}" if over else f"{head}, {load}"


policy: Policy = PrefixAffinity()
