"""How many replicas: more where requests queue, as many as the catalogue asks for, fewer where
they are not needed, none where nobody asks. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from helexa.cortex.orchestrator.fleet import Mark
from helexa.cortex.orchestrator.provisioning.capacity import Replica
from helexa.cortex.orchestrator.provisioning.given import Given
from helexa.cortex.orchestrator.provisioning.ground import Ground
from helexa.cortex.orchestrator.provisioning.plan import Memory
from helexa.protocol.ids import ModelId
from helexa.protocol.work import ModelState

HOT_PER_S: Final = 1 / 30
"""Arrivals from which on a model that was lost with its neuron is loaded before somebody asks."""
HOT_FOR_S: Final = 60.0
SHORT_FOR_S: Final = 3.0
"""A neuron that comes back within this time brings what `replicas_min` lacked."""
COOL_DOWN_S: Final = 10.0
"""Least time between two replicas that are added for the same queue."""
COOL_DOWN_LOADS: Final = 3.0
"""The same in loads of the model: the new replica must have shown what it takes off."""
SPARE: Final = 0.5
"""Of the slots that would be left: so much work at most, and one replica is superfluous."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """A replica that ought to be although no request waits for it."""

    model: ModelId
    reason: str
    may_displace: bool = False
    """What is not in use."""
    scales: bool = False


def notes(given: Given, ground: Ground, memory: Memory) -> Memory:
    """What has to have been so for a while before something is done about it."""
    lost = {
        model: at_s
        for model, at_s in memory.lost_s.items()
        if given.now_s - at_s < HOT_FOR_S and not ground.of(model)
    }
    for (node, model), seen in memory.seen.items():
        if seen.state is ModelState.LOADED and node not in ground.sites:
            lost.setdefault(model, given.now_s)
    return replace(
        memory,
        superfluous_s=MappingProxyType(_superfluous(given, ground, memory)),
        short_s=MappingProxyType(_short(given, ground, memory)),
        lost_s=MappingProxyType(lost),
    )


def _superfluous(given: Given, ground: Ground, memory: Memory) -> dict[ModelId, float]:
    found = {}
    for model, replicas in ground.replicas.items():
        if len(replicas) < 2:
            continue
        serving = _staying(ground, model)
        if len(serving) <= max(ground.entry(model).replicas_min, 1):
            continue
        busy = sum(one.busy for one in serving)
        slots = sum(one.slots for one in serving) - max(one.slots for one in serving)
        if busy <= SPARE * slots and not given.want(model).waiting:
            found[model] = memory.superfluous_s.get(model, given.now_s)
    return found


def _staying(ground: Ground, model: ModelId) -> list[Replica]:
    """Those that serve, and those that are to leave because they are too many."""
    yielding = ground.memory.yielding
    return ground.serving(model) + [
        one
        for one in ground.of(model)
        if one.state is ModelState.LOADED and yielding.get(one.copy) == model
    ]


def _short(given: Given, ground: Ground, memory: Memory) -> dict[ModelId, float]:
    return {
        model: memory.short_s.get(model, given.now_s)
        for model, entry in given.catalogue.entries.items()
        if entry.replicas_min and ground.count(model) < entry.replicas_min
    }


def wishes(given: Given, ground: Ground, memory: Memory) -> Iterator[Wish]:
    """The most important first. Read one after the other, each after the last was granted."""
    yield from _drained(given, ground)
    yield from _least(given, ground, memory)
    yield from _lost(given, ground, memory)
    yield from _crowded(given, ground, memory)


def _drained(given: Given, ground: Ground) -> Iterator[Wish]:
    for site in ground.sites.values():
        if site.takes_requests:
            continue
        for one in tuple(site.replicas.values()):
            model = one.model
            wanted = one.busy or given.want(model).rate_per_s >= HOT_PER_S
            if wanted and not ground.count(model) and not ground.arriving.get(model):
                yield Wish(model=model, reason=f"{site.called} is being drained", may_displace=True)


def _least(given: Given, ground: Ground, memory: Memory) -> Iterator[Wish]:
    ranked = sorted(memory.short_s, key=lambda model: -ground.entry(model).priority)
    for model in ranked:
        if given.now_s - memory.short_s[model] < SHORT_FOR_S:
            continue
        least = ground.entry(model).replicas_min
        for _ in range(least - ground.count(model) - len(ground.arriving.get(model, ()))):
            yield Wish(model=model, reason=f"replicas_min is {least}", may_displace=True)


def _lost(given: Given, ground: Ground, memory: Memory) -> Iterator[Wish]:
    for model in memory.lost_s:
        want = given.want(model)
        if want.rate_per_s >= HOT_PER_S and not ground.of(model) and not want.waiting:
            yield Wish(model=model, reason="it was in use when its neuron went")


def _crowded(given: Given, ground: Ground, memory: Memory) -> Iterator[Wish]:
    """Models whose requests wait longer for a slot than they should, the longest first."""
    found = []
    for model, replicas in ground.replicas.items():
        want = given.want(model)
        if not (want.queued or any(one.queued for one in replicas)):
            continue
        serving = ground.serving(model)
        if not serving or ground.coming(model) or ground.arriving.get(model):
            continue
        at_neurons_s = sum(one.queue_s for one in serving) / len(serving)
        queue_s = max(at_neurons_s, want.queue_s)
        most = ground.entry(model).replicas_max
        if queue_s <= given.settings.scale_up_queue_s:
            continue
        if most is not None and len(serving) >= most:
            continue
        rest_s = max(COOL_DOWN_S, COOL_DOWN_LOADS * ground.load_s(None, model))
        if given.now_s - memory.scaled_s.get(model, -rest_s) >= rest_s:
            found.append((-queue_s, model))
    for queue_s, model in sorted(found):
        reason = f"its requests queue for {-queue_s:.1f} s"
        yield Wish(model=model, reason=reason, may_displace=True, scales=True)


def leaving(given: Given, ground: Ground, memory: Memory) -> Iterator[tuple[Replica, str]]:
    """Replicas that nobody needs, and why. A busy one is to get no more requests first."""
    for model in tuple(ground.replicas):
        yield from _too_many(given, ground, memory, model)
        for one in tuple(ground.of(model)):
            if one.state is not ModelState.LOADED or one.busy:
                continue
            site = ground.sites[one.node]
            if site.neuron.mark is Mark.DRAINED:
                if ground.serving(model) or not ground.coming(model):
                    yield one, f"{site.called} is being drained"
            elif site.takes_requests and _is_idle(given, ground, one):
                yield one, f"nobody asked for it for {one.idle_s:.0f} s"


def _too_many(
    given: Given, ground: Ground, memory: Memory, model: ModelId
) -> Iterator[tuple[Replica, str]]:
    since_s = memory.superfluous_s.get(model)
    if since_s is None or given.now_s - since_s < given.settings.scale_down_after_s:
        return
    may = _staying(ground, model)
    if len(may) < 2:
        return
    # The same one each time: the one that was told to yield, else the emptiest.
    yielding = ground.memory.yielding
    yield (
        min(may, key=lambda one: (one.copy not in yielding, one.busy, -one.idle_s, one.node)),
        "there is a replica too many",
    )


def _is_idle(given: Given, ground: Ground, one: Replica) -> bool:
    limit_s = given.idle_timeout_s(one.model)
    if not limit_s or one.idle_s < limit_s:
        return False
    if ground.entry(one.model).keep_warm or ground.is_least(one):
        return False
    want = given.want(one.model)
    if len(ground.serving(one.model)) > 1:
        return True
    return not want.waiting and not want.in_flight and want.idle_s >= 0
