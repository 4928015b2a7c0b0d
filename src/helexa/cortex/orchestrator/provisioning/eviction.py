"""Who gives way so that a model has room on a neuron: the smallest set that is enough, of those
that are needed least, and never one that the catalogue protects. Pure.
"""

from __future__ import annotations

import enum
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from helexa.cortex.orchestrator.provisioning.demand import RATE_OVER_S
from helexa.cortex.orchestrator.provisioning.given import Given
from helexa.cortex.orchestrator.provisioning.ground import Ground, Replica, Site
from helexa.cortex.orchestrator.provisioning.plan import Kind
from helexa.protocol.ids import ModelId
from helexa.protocol.work import ModelState


class Ease(enum.IntEnum):
    """What it takes to let a replica go."""

    REST = 0
    """Nobody uses it."""
    IDLE = 1
    """Nobody uses it at this moment."""
    BUSY = 2
    """It has to end what it has, and get nothing new meanwhile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Giving:
    """Replicas of one site that are enough."""

    site: Site
    victims: tuple[Replica, ...]
    ease: Ease
    """Of the hardest to let go."""
    cost: tuple[float, ...]
    """Lower is better."""


def ease(given: Given, ground: Ground, one: Replica) -> Ease | None:
    """What it takes now; None where it may not go now for anybody."""
    if one.leaving or given.setback(one.node, one.model, Kind.UNLOAD) is not None:
        return None
    age_s = given.now_s - one.since_s
    if one.state is ModelState.LOADING:
        # Stuck: what was asked of it will not come.
        return Ease.IDLE if age_s >= given.settings.load_timeout_s else None
    if one.busy:
        return Ease.BUSY
    if not ground.sites[one.node].takes_requests:
        return Ease.REST
    if age_s < given.settings.stay_s:
        return None
    if given.want(one.model).waiting and one.copy not in ground.memory.yielding:
        # Its requests are on their way to it, unless another replica takes them.
        return Ease.IDLE if len(ground.serving(one.model)) > 1 else Ease.BUSY
    return Ease.REST if one.idle_s >= rest_s(given) else Ease.IDLE


def rest_s(given: Given) -> float:
    """Idle for so long, a replica is not in use."""
    return max(given.settings.stay_s, REST_OF_SWAP * given.settings.swap_after_s)


REST_OF_SWAP: Final = 0.5


def worth(given: Given, ground: Ground, one: Replica) -> float:
    """Uses a second that it may expect: by arrivals here, or by its last use by anybody."""
    rate = given.want(one.model).rate_per_s / max(len(ground.serving(one.model)), 1)
    return max(rate, math.exp(-one.idle_s / RATE_OVER_S) / RATE_OVER_S)


def giving(
    given: Given, ground: Ground, site: Site, model: ModelId, hardest: Ease
) -> Giving | None:
    """Who would give way for the model there; None where those who may are not enough."""
    lacking = ground.need_bytes(site, model) - site.soon_bytes
    if lacking <= 0:
        return None
    ranked = []
    for one in site.replicas.values():
        found = _ranked(given, ground, one, model)
        if found is not None and found[0] <= hardest:
            ranked.append((found, one))
    chosen = _enough(sorted(ranked, key=lambda pair: pair[0]), lacking)
    if not chosen:
        return None
    ranks = [rank for rank, _ in chosen]
    return Giving(
        site=site,
        victims=tuple(one for _, one in chosen),
        ease=Ease(int(max(rank[0] for rank in ranks))),
        cost=(
            max(rank[0] for rank in ranks),
            max(rank[1] for rank in ranks),
            max(rank[2] for rank in ranks),
            sum(rank[3] for rank in ranks),
            -min(one.idle_s for _, one in chosen),
            len(chosen),
        ),
    )


_Rank = tuple[float, float, float, float, float]


def _ranked(given: Given, ground: Ground, one: Replica, model: ModelId) -> _Rank | None:
    """Lower goes first: the idle, the lowest, what need not be kept, what is used least."""
    if one.model == model:
        return None
    entry, wanting = ground.entry(one.model), ground.entry(model)
    if entry.priority > wanting.priority:
        return None
    if entry.priority == wanting.priority and ground.is_least(one):
        return None
    how = ease(given, ground, one)
    if how is None:
        return None
    return (how, entry.priority, entry.keep_warm, worth(given, ground, one), -one.idle_s)


def _enough(ranked: Sequence[tuple[_Rank, Replica]], lacking: int) -> list[tuple[_Rank, Replica]]:
    """The first that are enough, and of these none too many."""
    sums = itertools.accumulate(one.memory_bytes for _, one in ranked)
    count = next((at for at, total in enumerate(sums, 1) if total >= lacking), 0)
    chosen = list(ranked[:count])
    spare = sum(one.memory_bytes for _, one in chosen) - lacking
    for pair in reversed(ranked[:count]):
        if pair[1].memory_bytes <= spare:
            spare -= pair[1].memory_bytes
            chosen.remove(pair)
    return chosen
