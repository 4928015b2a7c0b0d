"""The fleet as a plan stands on it: what serves, what is coming, what the catalogue lets be where.

Changed by the plan in the making: what is decided takes its memory here at once, so that the
next decision of the same plan cannot take it again.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator

from helexa.cortex.orchestrator.constraints import is_bound, why_not_there
from helexa.cortex.orchestrator.provisioning.capacity import Replica, Site, Survey, coming
from helexa.cortex.orchestrator.provisioning.given import Given
from helexa.cortex.orchestrator.provisioning.needs import Needs
from helexa.cortex.orchestrator.provisioning.plan import Kind, Memory
from helexa.cortex.settings import ModelEntry
from helexa.protocol.ids import ModelId, NodeId
from helexa.protocol.work import ModelCapability, ModelState

_LOADED = ModelState.LOADED
_LOADING = ModelState.LOADING


class Ground:
    """`sites` are the neurons that are present."""

    def __init__(self, given: Given, memory: Memory) -> None:
        self.given = given
        self.memory = memory
        self.needs = Needs(given)
        self.survey = Survey(given, memory, self.needs)
        self.sites = self.survey.sites
        self.arriving = self.survey.arriving
        """Where models are being pulled to."""
        self.replicas: dict[ModelId, list[Replica]] = {}
        """Those that do not leave, by model."""
        self._serving: dict[ModelId, list[Replica]] = {}
        self._rules: dict[ModelId, dict[NodeId, bool] | None] = {}
        self._same: dict[Hashable, dict[NodeId, bool]] = {}
        for site in self.sites.values():
            for one in site.replicas.values():
                if not one.leaving:
                    self.replicas.setdefault(one.model, []).append(one)

    # --- what is asked of it

    def entry(self, model: ModelId) -> ModelEntry:
        return self.given.catalogue.entry(model)

    def of(self, model: ModelId) -> list[Replica]:
        """Its replicas, without those that leave."""
        return self.replicas.get(model, [])

    def serving(self, model: ModelId) -> list[Replica]:
        """Those that requests are sent to."""
        found = self._serving.get(model)
        if found is None:
            yielding = self.memory.yielding
            found = self._serving[model] = [
                one
                for one in self.of(model)
                if one.state is _LOADED and one.copy not in yielding and self._counts(one)
            ]
        return found

    def coming(self, model: ModelId) -> list[Replica]:
        """Those that will serve. A load that takes too long is not waited for."""
        limit_s = self.given.settings.load_timeout_s
        return [
            one
            for one in self.of(model)
            if one.state is _LOADING
            and self.given.now_s - one.since_s < limit_s
            and self._counts(one)
        ]

    def count(self, model: ModelId) -> int:
        """Replicas that serve or will, towards `replicas_min` and `replicas_max`."""
        return sum(self._counts(one) for one in self.of(model))

    def _counts(self, one: Replica) -> bool:
        site = self.sites[one.node]
        return site.takes_requests and self.allowed(site, one.model)

    def holders(self, model: ModelId) -> Iterator[tuple[Site, ModelCapability]]:
        """Present neurons that list the model, in whatever state."""
        sites = self.sites
        for node in self.given.view.holders.get(model, ()):
            site = sites.get(node)
            if site is not None:
                yield site, site.neuron.capabilities[model]

    def allowed(self, site: Site, model: ModelId) -> bool:
        """Whether the catalogue lets it run there. Entries of one rule share the answers."""
        if model not in self._rules:
            entry = self.given.catalogue.entries.get(model)
            bound = entry is not None and is_bound(entry)
            self._rules[model] = (
                self._same.setdefault(_rule(entry), {}) if entry and bound else None
            )
        known = self._rules[model]
        if known is None:
            return True
        answer = known.get(site.node)
        if answer is None:
            rule = why_not_there(self.entry(model), site.neuron.descriptor)
            answer = known[site.node] = not rule
        return answer

    def need_bytes(self, site: Site, model: ModelId) -> int:
        """What the model takes there; 0 where nobody knows."""
        return self.needs.memory_bytes(site.neuron.capabilities.get(model), model)

    def load_s(self, site: Site | None, model: ModelId) -> float:
        """How long it loads there; 0 where nobody knows."""
        capability = site.neuron.capabilities.get(model) if site is not None else None
        return self.needs.load_s(capability, model)

    def could_have_bytes(self, site: Site, model: ModelId) -> int:
        """What the model could have there if all that may ever leave for it left."""
        count = site.free_bytes
        for one in site.replicas.values():
            if one.leaving or self.may_ever_leave(one, model):
                count += one.memory_bytes
        return count

    def may_ever_leave(self, one: Replica, model: ModelId) -> bool:
        """Whether it gives way to the model, or leaves by itself one day."""
        entry, wanting = self.entry(one.model), self.entry(model)
        if one.model == model:
            return True
        if entry.priority < wanting.priority:
            return True
        if self.is_least(one):
            return False
        if entry.priority == wanting.priority:
            return True
        return not entry.keep_warm and self.given.idle_timeout_s(one.model) > 0

    def is_least(self, one: Replica) -> bool:
        """Whether its model would have fewer than `replicas_min` without it."""
        least = self.entry(one.model).replicas_min
        return least > 0 and self._counts(one) and self.count(one.model) <= least

    # --- what the plan does to it

    def take(self, site: Site, model: ModelId) -> None:
        """A load was decided."""
        need = self.need_bytes(site, model)
        site.free_bytes -= need
        site.soon_bytes -= need
        site.loads += 1
        site.orders[model] = Kind.LOAD
        replica = site.replicas[model] = coming(site, model, need, self.given.now_s)
        self.replicas.setdefault(model, []).append(replica)

    def reserve(self, site: Site, model: ModelId) -> None:
        """The room that is being made there is for this model."""
        site.soon_bytes -= self.need_bytes(site, model)

    def leave(self, one: Replica) -> None:
        """It was told to leave, or will be as soon as it may."""
        one.leaving = True
        self.replicas[one.model].remove(one)
        self._serving.pop(one.model, None)
        self.sites[one.node].soon_bytes += one.memory_bytes

    def expect(self, site: Site, model: ModelId) -> None:
        """A pull was decided."""
        site.orders[model] = Kind.PULL
        self.arriving.setdefault(model, []).append(site)


def _rule(entry: ModelEntry | None) -> Hashable:
    if entry is None:
        return None
    labels = tuple(sorted(entry.labels.items()))
    return (labels, entry.regions, entry.operators, entry.nodes, entry.runtime)
