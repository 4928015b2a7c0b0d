"""How many replicas: more where requests queue, fewer where they do not, none where nobody asks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from helexa.cortex.orchestrator.provisioning.given import Given
from helexa.cortex.orchestrator.provisioning.ground import Ground, Replica
from helexa.cortex.orchestrator.provisioning.plan import Copy, Memory, Want
from helexa.protocol.ids import ModelId
from helexa.protocol.work import ModelState

HOT_PER_S: Final = 1 / 30
"""Arrivals from which on a model that lost its replica gets one before somebody asks."""
COOL_DOWN_S: Final = 10.0
"""Least time between two replicas that are added for the same queue."""
COOL_DOWN_LOADS: Final = 3.0
"""The same in loads of the model: the new replica must have shown what it takes off."""
SPARE: Final = 0.5
"""Of the slots that would be left: so much work at most, and one replica is superfluous."""
_NOTHING: Final = Want()


@dataclass(frozen=True, slots=True)
class Leaving:
    replica: Replica
    reason: str


def is_hot(want: Want, limit_s: float) -> bool:
    """Whether it will be asked for soon: often lately, and not idle for its time (0: no limit)."""
    return want.rate_per_s >= HOT_PER_S and (not limit_s or want.idle_s < limit_s / 2)


def idle_limit_s(model: ModelId, given: Given, ground: Ground) -> float:
    """After which time without a request it is unloaded; 0: never."""
    own = ground.entry(model).idle_timeout_s
    return given.settings.idle_timeout_s if own is None else own


def crowded(given: Given, ground: Ground, memory: Memory) -> list[ModelId]:
    """Models whose requests wait longer for a slot than they should, the longest first."""
    found = []
    for model in ground.models():
        serving = ground.serving(model)
        if not serving or ground.coming(model):
            continue
        queue_s = sum(one.queue_s for one in serving) / len(serving)
        waiting = sum(one.waiting for one in serving)
        most = ground.entry(model).replicas_max
        if not waiting or queue_s <= given.settings.scale_up_queue_s:
            continue
        if most is not None and len(ground.replicas(model)) >= most:
            continue
        load_s = max((one.load_s for _, one in ground.holders(model)), default=0.0)
        rest_s = max(COOL_DOWN_S, COOL_DOWN_LOADS * load_s)
        if given.now_s - memory.scaled_s.get(model, -rest_s) >= rest_s:
            found.append((-queue_s, model))
    return [model for _, model in sorted(found)]


def superfluous(given: Given, ground: Ground, memory: Memory) -> Mapping[ModelId, float]:
    """Models with a replica too many, and since when."""
    found = {}
    for model in ground.models():
        serving = ground.serving(model)
        least = max(ground.entry(model).replicas_min, 1)
        if len(serving) <= least:
            continue
        busy = sum(one.busy for one in serving)
        slots = sum(one.slots for one in serving) - max(one.slots for one in serving)
        if busy <= SPARE * slots and not given.wants.get(model, _NOTHING).waiting:
            found[model] = memory.superfluous_s.get(model, given.now_s)
    return found


def leaving(
    given: Given, ground: Ground, memory: Memory, yielding: Mapping[Copy, ModelId]
) -> Iterator[Leaving]:
    """Replicas that nobody needs. A busy one of them is to get no more requests first."""
    after_s = given.settings.scale_down_after_s
    for model in tuple(ground.models()):
        serving = [one for one in ground.serving(model) if one.copy not in yielding]
        too_many_since = memory.superfluous_s.get(model)
        if too_many_since is not None and given.now_s - too_many_since >= after_s:
            # The same one each time: the one that was told to yield, else the emptiest.
            least = min(
                serving,
                key=lambda one: (one.copy not in memory.yielding, one.busy, -one.idle_s),
                default=None,
            )
            if least is not None and len(serving) > 1:
                yield Leaving(least, "there is a replica too many")
                serving.remove(least)
        for one in ground.replicas(model):
            site = ground.sites[one.node]
            if one.state is not ModelState.LOADED or one.busy:
                continue
            if not site.takes_requests and not given.wants.get(model, _NOTHING).waiting:
                yield Leaving(one, f"{site.called} is being drained")
            elif one in serving and _is_idle(one, model, len(serving), given, ground):
                yield Leaving(one, f"nobody asked for it for {one.idle_s:.0f} s")
                serving.remove(one)


def _is_idle(one: Replica, model: ModelId, count: int, given: Given, ground: Ground) -> bool:
    entry = ground.entry(model)
    limit_s = idle_limit_s(model, given, ground)
    if not limit_s or entry.keep_warm or count <= entry.replicas_min:
        return False
    want = given.wants.get(model, _NOTHING)
    return one.idle_s >= limit_s and not want.waiting and not want.in_flight
