"""Where one more replica of a model goes, and what it takes: pure, one answer for one model.

A neuron that has room now beats one where room is being made, that beats one where something
has to leave; and of those the one that hurts least. Only neurons that have the files count
here; where to pull them to is the other question.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from helexa.cortex.orchestrator.provisioning.eviction import Ease, Giving, giving
from helexa.cortex.orchestrator.provisioning.given import Given
from helexa.cortex.orchestrator.provisioning.ground import Ground, Replica, Site
from helexa.cortex.orchestrator.provisioning.plan import Kind
from helexa.protocol.ids import ModelId
from helexa.protocol.work import ModelCapability, ModelState

PULLS_PER_SITE_MAX: Final = 4
PULL_AGAIN_S: Final = 30.0
"""After a pull that nothing came of, and that was not called a failure either."""


class Way(enum.Enum):
    """How a place becomes one."""

    NOW = "now"
    SOON = "soon"
    """Room is being made, or the neuron loads as much at once as it should."""
    BY_LEAVING = "by leaving"


@dataclass(frozen=True, slots=True)
class Place:
    site: Site
    way: Way
    victims: tuple[Replica, ...] = ()
    ease: Ease = Ease.REST


def place(given: Given, ground: Ground, model: ModelId, hardest: Ease | None) -> Place | None:
    """The best now. `hardest` is whom it may displace; None is nobody."""
    able = [(site, capability) for site, capability in loadable(given, ground, model)]
    now, soon = [], []
    for site, capability in able:
        need = ground.need_bytes(site, model)
        if site.has_now(need):
            now.append((_rank(ground, site, capability), site.node, site))
        elif need <= site.soon_bytes:
            soon.append((_rank(ground, site, capability), site.node, site))
    if now:
        return Place(min(now)[2], Way.NOW)
    if soon:
        return Place(min(soon)[2], Way.SOON)
    if hardest is None:
        return None
    found = _by_leaving(given, ground, model, [site for site, _ in able], hardest)
    if found is None:
        return None
    return Place(found.site, Way.BY_LEAVING, found.victims, found.ease)


def _by_leaving(
    given: Given, ground: Ground, model: ModelId, sites: list[Site], hardest: Ease
) -> Giving | None:
    best = None
    for site in sites:
        if not site.replicas:
            continue
        found = giving(given, ground, site, model, hardest)
        if found is None:
            continue
        # One that yields for it already goes on yielding: another choice at every plan would
        # stop every neuron in turn.
        begun = any(ground.memory.yielding.get(one.copy) == model for one in found.victims)
        rank = (found.ease, not begun, found.cost, ground.load_s(site, model), site.node)
        if best is None or rank < best[0]:
            best = (rank, found)
    return best[1] if best is not None else None


def _rank(ground: Ground, site: Site, capability: ModelCapability) -> tuple[float, ...]:
    """Likely to work, ready soon, little to do, and not more room than it needs."""
    return (
        capability.state is ModelState.FAILED,
        capability.runtime != (ground.entry(capability.model).runtime or capability.runtime),
        round((1 + site.loads) * capability.load_s, 1),
        sum(one.busy > 0 for one in site.replicas.values()),
        len(site.replicas),
        site.free_bytes,
    )


def loadable(
    given: Given, ground: Ground, model: ModelId
) -> Iterator[tuple[Site, ModelCapability]]:
    """Where a load may be asked for as far as anything but room goes."""
    for site, capability in ground.holders(model):
        if (
            is_loadable(capability)
            and site.is_open
            and model not in site.orders
            and model not in site.replicas
            and ground.allowed(site, model)
            and given.setback(site.node, model, Kind.LOAD) is None
        ):
            yield site, capability


def is_loadable(capability: ModelCapability) -> bool:
    """Whether its files are there. One that failed without a runtime has none that can be read."""
    if capability.state is ModelState.FAILED:
        return bool(capability.runtime)
    return capability.state is ModelState.UNLOADED


def pull_place(
    given: Given, ground: Ground, model: ModelId, *, if_room: bool = False
) -> Site | None:
    """Where its files are best pulled to; `if_room`: only where it could be loaded at once."""
    best = None
    size = ground.files_bytes(model)
    for site in pullable(given, ground, model):
        need = ground.need_bytes(site, model)
        load = site.neuron.load
        has_now = site.has_now(need)
        if (if_room and not has_now) or need > ground.could_have_bytes(site, model):
            continue
        if load is not None and size > load.disk_free_bytes:
            continue
        pulls = sum(kind is Kind.PULL for kind in site.orders.values())
        if pulls >= PULLS_PER_SITE_MAX:
            continue
        in_use = sum(one.busy > 0 for one in site.replicas.values())
        rank = (not has_now, pulls, in_use, -site.soon_bytes, site.node)
        if best is None or rank < best[0]:
            best = (rank, site)
    return best[1] if best is not None else None


def pullable(given: Given, ground: Ground, model: ModelId) -> Iterator[Site]:
    """Where it may be pulled to as far as anything but room goes."""
    if not ground.entry(model).source:
        return
    pulled = ground.memory.pulled_s
    for node, site in ground.sites.items():
        capability = site.neuron.capabilities.get(model)
        if capability is not None and (
            capability.state is not ModelState.FAILED or capability.runtime
        ):
            continue
        if (
            site.is_open
            and model not in site.orders
            and ground.allowed(site, model)
            and given.setback(node, model, Kind.PULL) is None
            and given.now_s - pulled.get((node, model), -PULL_AGAIN_S) >= PULL_AGAIN_S
        ):
            yield site
