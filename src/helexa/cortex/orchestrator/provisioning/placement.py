"""Where one more replica of a model goes, and what it takes: pure, one answer for one model.

A neuron that has room now beats one where room is being made, that beats one where something
has to leave; and of those the one that hurts least. Only neurons that have the files count
here; where to pull them to is the other question.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from helexa.cortex.orchestrator.provisioning.capacity import Replica, Site
from helexa.cortex.orchestrator.provisioning.eviction import Ease, Eviction, Giving, Terms
from helexa.cortex.orchestrator.provisioning.given import Given
from helexa.cortex.orchestrator.provisioning.ground import Ground
from helexa.cortex.orchestrator.provisioning.plan import Kind
from helexa.protocol.ids import ModelId, NodeId
from helexa.protocol.work import ModelCapability, ModelState

COMPARED_MAX: Final = 8
"""Neurons where room could be made that are compared with one another."""
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
    wait_s: float = 0.0
    """Until they may be told to leave."""


class Placement:
    """Answers for one plan."""

    def __init__(self, given: Given, ground: Ground) -> None:
        self._given = given
        self._ground = ground
        self._eviction = Eviction(given, ground)

    def place(self, model: ModelId, terms: Terms | None) -> Place | None:
        """The best now, displacing nobody without `terms`. Where these want one that nobody uses,
        and there is one, another that is in use and used less may go instead.
        """
        ground = self._ground
        now, soon, full = [], [], []
        for site, capability in loadable(self._given, ground, model):
            need = ground.needs.memory_bytes(capability, model)
            if site.has_now(need):
                now.append((_rank(ground, site, capability), site.node, site))
            elif need <= site.soon_bytes:
                soon.append((_rank(ground, site, capability), site.node, site))
            elif site.replicas:
                full.append(site)
        if now:
            return Place(min(now)[2], Way.NOW)
        if soon:
            return Place(min(soon)[2], Way.SOON)
        if terms is None or not full:
            return None
        eased = replace(terms, hardest=max(terms.hardest, Ease.IDLE))
        ranked = sorted(
            ((self._eviction.promise(site, eased.hardest), site.node, site) for site in full),
            key=_promise,
        )
        found = self._givings(ranked, model, eased, COMPARED_MAX)
        if (
            terms.hardest is Ease.REST
            and not any(one.ease is Ease.REST for one in found)
            and not self._givings(ranked, model, terms, 1)
        ):
            return None
        return self._by_leaving(found, model)

    def _givings(
        self, ranked: list[_Promising], model: ModelId, terms: Terms, most: int
    ) -> list[Giving]:
        """Of the most promising sites, and of one where somebody yields for the model already."""
        begun = {
            node for (node, _), wanting in self._ground.memory.yielding.items() if wanting == model
        }
        found: list[Giving] = []
        for _, node, site in ranked:
            if len(found) < most or node in begun:
                giving = self._eviction.giving(site, model, terms)
                if giving is not None:
                    found.append(giving)
            elif not begun:
                break
        return found

    def _by_leaving(self, found: list[Giving], model: ModelId) -> Place | None:
        if not found:
            return None
        yielding = self._ground.memory.yielding

        def rank(giving: Giving) -> tuple[object, ...]:
            # One that yields for it already goes on yielding: another choice at every plan
            # would stop every neuron in turn.
            begun = any(yielding.get(one.copy) == model for one in giving.victims)
            load_s = self._ground.load_s(giving.site, model)
            return (not begun, giving.cost, load_s, giving.site.node)

        best = min(found, key=rank)
        return Place(best.site, Way.BY_LEAVING, best.victims, best.ease, best.wait_s)


_Promising: TypeAlias = tuple[tuple[float, ...], NodeId, Site]


def _promise(ranked: _Promising) -> tuple[tuple[float, ...], NodeId]:
    return ranked[:2]


def _rank(ground: Ground, site: Site, capability: ModelCapability) -> tuple[float, ...]:
    """Likely to work, ready soon, little to do, and not more room than it needs."""
    asked = ground.entry(capability.model).runtime
    return (
        capability.state is _FAILED,
        bool(asked) and capability.runtime != asked,
        round((1 + site.loads) * capability.load_s, 1),
        site.in_use,
        len(site.replicas),
        site.free_bytes,
    )


def loadable(
    given: Given, ground: Ground, model: ModelId
) -> Iterator[tuple[Site, ModelCapability]]:
    """Where a load may be asked for as far as anything but room goes."""
    setbacks = given.setbacks
    for site, capability in ground.holders(model):
        if (
            site.is_open
            and is_loadable(capability)
            and model not in site.orders
            and model not in site.replicas
            and ground.allowed(site, model)
            and not (setbacks and given.setback(site.node, model, Kind.LOAD))
        ):
            yield site, capability


def is_loadable(capability: ModelCapability) -> bool:
    """Whether its files are there. One that failed without a runtime has none that can be read."""
    state = capability.state
    return state is _UNLOADED or (state is _FAILED and bool(capability.runtime))


_UNLOADED: Final = ModelState.UNLOADED
_FAILED: Final = ModelState.FAILED


def pull_place(
    given: Given, ground: Ground, model: ModelId, *, if_room: bool = False
) -> Site | None:
    """Where its files are best pulled to; `if_room`: only where it could be loaded at once."""
    best = None
    size = ground.needs.files_bytes(model)
    for site in pullable(given, ground, model):
        need = ground.need_bytes(site, model)
        load = site.neuron.load
        has_now = site.has_now(need)
        if not has_now and (if_room or need > ground.could_have_bytes(site, model)):
            continue
        if load is not None and size > load.disk_free_bytes:
            continue
        pulls = sum(kind is Kind.PULL for kind in site.orders.values())
        if pulls >= PULLS_PER_SITE_MAX:
            continue
        rank = (not has_now, pulls, site.in_use, -site.soon_bytes, site.node)
        if best is None or rank < best[0]:
            best = (rank, site)
    return best[1] if best is not None else None


def pullable(given: Given, ground: Ground, model: ModelId) -> Iterator[Site]:
    """Where it may be pulled to as far as anything but room goes."""
    if not ground.entry(model).source:
        return
    pulled = ground.memory.pulled_s
    for node, site in ground.sites.items():
        if not _lacks_files(site.neuron.capabilities.get(model)):
            continue
        if (
            site.is_open
            and model not in site.orders
            and ground.allowed(site, model)
            and given.setback(node, model, Kind.PULL) is None
            and given.now_s - pulled.get((node, model), -PULL_AGAIN_S) >= PULL_AGAIN_S
        ):
            yield site


def _lacks_files(capability: ModelCapability | None) -> bool:
    """Whether it has none of its files, or a pull failed. A file of an architecture that no
    runtime there serves does not become another one by being pulled again.
    """
    if capability is None:
        return True
    return capability.state is _FAILED and not capability.runtime and not capability.architecture
