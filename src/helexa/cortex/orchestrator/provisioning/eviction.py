"""Who gives way so that a model has room on a neuron: pure, and never one that is needed more.

The smallest sufficient set, the idle before the busy, the least recently used first.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from helexa.cortex.orchestrator.provisioning.given import Given
from helexa.cortex.orchestrator.provisioning.ground import Ground, Replica, Site
from helexa.cortex.orchestrator.provisioning.plan import Copy, Memory, Want
from helexa.protocol.ids import ModelId
from helexa.protocol.work import ModelState

_NOTHING: Final = Want()


@dataclass(frozen=True, slots=True, kw_only=True)
class Giving:
    """Replicas of one site that are enough."""

    site: Site
    victims: tuple[Replica, ...]
    priority: int
    """The highest of theirs."""
    kept: bool
    """Whether one of them is meant to be kept warm."""
    idle_s: float
    """Since the last use of the one used last."""


def victims(
    ground: Ground,
    site: Site,
    model: ModelId,
    given: Given,
    memory: Memory,
    *,
    patient: bool,
    demanded: bool,
    taken: Collection[Copy],
) -> Giving | None:
    """Who would give way for the model there; None where those who may are not enough.

    `patient`: requests are still being collected, and only what was not used for
    `swap_after_s` may go. `demanded` is whether a request waits. `taken` give way already.
    """
    lacking = ground.need_bytes(site, model) - site.free_bytes
    # What leaves already will be free in a moment; asking more to leave would be too much.
    lacking -= sum(one.memory_bytes for one in site.replicas.values() if one.leaving)
    if lacking <= 0:
        return None
    may = [
        one
        for one in site.replicas.values()
        if not one.leaving
        and one.copy not in taken
        and _may_go(ground, one, model, given, memory, patient=patient, demanded=demanded)
    ]
    chosen = _enough(sorted(may, key=lambda one: _worth(ground, one, given)), lacking)
    if not chosen:
        return None
    return Giving(
        site=site,
        victims=tuple(chosen),
        priority=max(ground.entry(one.model).priority for one in chosen),
        kept=any(ground.entry(one.model).keep_warm for one in chosen),
        idle_s=min(unused_s(one) for one in chosen),
    )


def unused_s(replica: Replica) -> float:
    """Since its last use by anybody, as its neuron says."""
    return 0.0 if replica.busy else replica.idle_s


def _may_go(
    ground: Ground,
    one: Replica,
    model: ModelId,
    given: Given,
    memory: Memory,
    *,
    patient: bool,
    demanded: bool,
) -> bool:
    entry, wanting = ground.entry(one.model), ground.entry(model)
    if one.state is not ModelState.LOADED or entry.priority > wanting.priority:
        return False
    settings = given.settings
    there = len(ground.serving(one.model)) + len(ground.coming(one.model))
    is_least = there <= entry.replicas_min and entry.priority >= wanting.priority
    if is_least and site_serves(ground, one):
        return False
    if given.now_s - memory.since_s.get(one.copy, given.now_s) < settings.stay_s:
        return False
    if not demanded:
        # Nobody waits: only what nobody uses.
        return not one.busy and unused_s(one) >= settings.scale_down_after_s
    if patient:
        return not one.busy and unused_s(one) >= settings.swap_after_s
    return True


def site_serves(ground: Ground, one: Replica) -> bool:
    """Whether it counts towards the replicas that its model has."""
    return ground.sites[one.node].takes_requests


def _worth(ground: Ground, one: Replica, given: Given) -> tuple[float, ...]:
    """Lower goes first."""
    entry = ground.entry(one.model)
    rate = given.wants.get(one.model, _NOTHING).rate_per_s
    return (one.busy > 0, entry.priority, entry.keep_warm, -unused_s(one), rate)


def _enough(ranked: Sequence[Replica], lacking: int) -> list[Replica]:
    """The first that are enough, and of these none too many."""
    sums = itertools.accumulate(one.memory_bytes for one in ranked)
    count = next((at for at, total in enumerate(sums, 1) if total >= lacking), 0)
    chosen = list(ranked[:count])
    for one in sorted(chosen, key=lambda each: each.memory_bytes):
        if sum(each.memory_bytes for each in chosen) - one.memory_bytes >= lacking:
            chosen.remove(one)
    return chosen
