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

from helexa.cortex.orchestrator.provisioning.capacity import Replica, Site
from helexa.cortex.orchestrator.provisioning.demand import RATE_OVER_S
from helexa.cortex.orchestrator.provisioning.given import Given
from helexa.cortex.orchestrator.provisioning.ground import Ground
from helexa.cortex.orchestrator.provisioning.plan import Copy, Kind
from helexa.cortex.settings import OrchestratorSettings
from helexa.protocol.ids import ModelId, NodeId
from helexa.protocol.work import ModelState


class Ease(enum.IntEnum):
    """What it takes to let a replica go."""

    REST = 0
    """Nobody uses it."""
    IDLE = 1
    """It is in use, but by nobody at this moment."""
    BUSY = 2
    """It has to end what it has, and get nothing new meanwhile."""


@dataclass(frozen=True, slots=True)
class Terms:
    """Whom somebody may displace."""

    hardest: Ease
    turn_s: float = 0.0
    """One that is always in use stays at least so long."""
    unused_s: float = 0.0
    """Only those go that nobody used for so long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Giving:
    """Replicas of one site that are enough."""

    site: Site
    victims: tuple[Replica, ...]
    ease: Ease
    """Of the hardest to let go."""
    wait_s: float
    cost: tuple[float, ...]
    """Lower is better."""


class Eviction:
    """Answers for one plan; what is the same for every model that wants room is found once."""

    def __init__(self, given: Given, ground: Ground) -> None:
        self._given = given
        self._ground = ground
        self._standings: dict[Copy, _Standing | None] = {}
        self._promises: dict[tuple[NodeId, int, int], tuple[float, ...]] = {}

    def giving(self, site: Site, model: ModelId, terms: Terms) -> Giving | None:
        """Who would give way for the model there; None where those who may are not enough."""
        lacking = self._ground.need_bytes(site, model) - site.soon_bytes
        if lacking <= 0:
            return None
        wanting = self._given.want(model).rate_per_s + 1 / RATE_OVER_S
        ranked = []
        for one in site.replicas.values():
            found = self._standing(one)
            if found is None or found.ease > terms.hardest or one.idle_s < terms.unused_s:
                continue
            if not self._may(one, found, model):
                continue
            wait_s = found.wait_s
            if found.ease is Ease.BUSY:
                wait_s = max(0.0, terms.turn_s - (self._given.now_s - one.since_s))
            ranked.append(_ranked(one, found, wait_s, wanting))
        ranked.sort(key=_by_rank)
        chosen = _enough(ranked, lacking)
        if not chosen:
            return None
        ranks = [each.rank for each in chosen]
        return Giving(
            site=site,
            victims=tuple(each.replica for each in chosen),
            ease=max(each.ease for each in chosen),
            wait_s=max(each.wait_s for each in chosen),
            cost=(
                max(rank[0] for rank in ranks),
                max(rank[1] for rank in ranks),
                sum(rank[2] for rank in ranks),
                max(rank[3] for rank in ranks),
            ),
        )

    def _may(self, one: Replica, found: _Standing, model: ModelId) -> bool:
        """Whether it may be displaced by this model."""
        priority = self._ground.entry(model).priority
        if one.model == model or found.priority != priority:
            return one.model != model and found.priority < priority
        if found.waited_s > self._given.want(model).oldest_s:
            # It would have to come back first.
            return False
        return not (found.is_kept and self._ground.is_least(one))

    def promise(self, site: Site, hardest: Ease) -> tuple[float, ...]:
        """Lower where a cheap victim is likelier: in this order sites are worth looking at."""
        # Whatever changes at a site changes its bytes.
        key = (site.node, int(hardest), site.soon_bytes)
        best = self._promises.get(key)
        if best is None:
            best = min(
                (
                    (found.priority, found.keep_warm, found.uses_per_s)
                    for one in site.replicas.values()
                    if (found := self._standing(one)) is not None and found.ease <= hardest
                ),
                default=(math.inf,),
            )
            self._promises[key] = best
        return best

    def _standing(self, one: Replica) -> _Standing | None:
        if one.leaving:
            return None
        copy = one.copy
        if copy not in self._standings:
            self._standings[copy] = _standing(self._given, self._ground, one)
        return self._standings[copy]


@dataclass(slots=True)
class _Standing:
    ease: Ease
    wait_s: float
    """Until it may be told to go: it came only just now."""
    uses_per_s: float
    """That it may expect: by arrivals here, or by its last use by anybody."""
    load_s: float
    priority: int
    keep_warm: bool
    is_kept: bool
    """Its model has a least number of replicas."""
    waited_s: float
    """How long a request waits for it alone: one came while it was giving way."""


def _standing(given: Given, ground: Ground, one: Replica) -> _Standing | None:
    """How it is to be let go; None where it may not go now for anybody."""
    if given.setback(one.node, one.model, Kind.UNLOAD) is not None:
        return None
    how = _ease(given, ground, one)
    if how is None:
        return None
    entry, want = ground.entry(one.model), given.want(one.model)
    serving = len(ground.serving(one.model))
    return _Standing(
        ease=how[0],
        wait_s=how[1],
        uses_per_s=max(
            want.rate_per_s / max(serving, 1), math.exp(-one.idle_s / RATE_OVER_S) / RATE_OVER_S
        ),
        load_s=one.load_s or LOAD_S,
        priority=entry.priority,
        keep_warm=entry.keep_warm,
        is_kept=entry.replicas_min > 0,
        waited_s=0.0 if serving else want.oldest_s,
    )


def _ease(given: Given, ground: Ground, one: Replica) -> tuple[Ease, float] | None:
    """What it takes to let it go, and how long until that may begin."""
    settings = given.settings
    age_s = given.now_s - one.since_s
    if one.state is ModelState.LOADING:
        # Stuck: what was asked of it will not come.
        return (Ease.IDLE, 0.0) if age_s >= settings.load_timeout_s else None
    if not ground.sites[one.node].takes_requests:
        return (Ease.BUSY if one.busy else Ease.REST), 0.0
    expected = given.want(one.model).waiting and one.copy not in ground.memory.yielding
    if one.busy or (expected and len(ground.serving(one.model)) < 2):
        return Ease.BUSY, 0.0
    stays_s = stay_s(settings, one.load_s)
    if age_s < stays_s:
        return Ease.IDLE, stays_s - age_s
    rest_s = max(stays_s, one.load_s * REST_LOADS)
    return (Ease.REST if one.idle_s >= rest_s else Ease.IDLE), 0.0


def stay_s(settings: OrchestratorSettings, load_s: float) -> float:
    """How long a model that came stays at least: less than the setting where loading is cheap."""
    return min(settings.stay_s, STAY_LOADS * load_s) if load_s else settings.stay_s


STAY_LOADS: Final = 6.0
REST_LOADS: Final = 1.0
"""A model that was used within so many times as long as it loads is in use."""


@dataclass(slots=True)
class _Ranked:
    rank: tuple[float, float, float, float]
    ease: Ease
    wait_s: float
    replica: Replica


def _by_rank(one: _Ranked) -> tuple[float, float, float, float]:
    return one.rank


def _ranked(one: Replica, found: _Standing, wait_s: float, wanting_per_s: float) -> _Ranked:
    """Lower goes first: the lowest, what need not be kept, and what costs the least waiting.

    That is the wait until it may go, and the reload that its own requests will wait for, as
    likely as they are the ones to come next.
    """
    uses = found.uses_per_s
    waits_s = wait_s + (BUSY_S if found.ease is Ease.BUSY else 0.0)
    cost_s = waits_s + found.load_s * uses / (uses + wanting_per_s)
    rank = (found.priority, found.keep_warm, cost_s, -one.idle_s)
    return _Ranked(rank, found.ease, wait_s, one)


LOAD_S: Final = 5.0
"""What a load takes where nobody knows."""
BUSY_S: Final = 2.0
"""What it takes to end the requests that it has: nobody knows."""


def _enough(ranked: Sequence[_Ranked], lacking: int) -> list[_Ranked]:
    """The first that are enough, and of these none too many."""
    sums = itertools.accumulate(each.replica.memory_bytes for each in ranked)
    count = next((at for at, total in enumerate(sums, 1) if total >= lacking), 0)
    chosen = list(ranked[:count])
    spare = sum(each.replica.memory_bytes for each in chosen) - lacking
    for each in reversed(ranked[:count]):
        if each.replica.memory_bytes <= spare:
            spare -= each.replica.memory_bytes
            chosen.remove(each)
    return chosen
