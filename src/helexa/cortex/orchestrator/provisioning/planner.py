"""What to do so that what is wanted gets served: a pure function of what is known.

    plan(given, memory) -> Plan, Memory

The plan is made anew at every change and again twice a second; an action is small, and its
effect shows in the next view. In order of importance:

1. a model that requests wait for, and that nobody serves, gets a replica: the oldest wait
   of the highest priority first;
2. what a drained neuron serves, and what `replicas_min` asks for, gets one elsewhere;
3. a model whose requests queue gets one more;
4. a model that was asked for lately and lost its replica gets one, where there is room;
5. what nobody needs leaves: idle models, superfluous replicas, those on drained neurons.

Room is made by unloading what is idle, least recently used first (`eviction`). Requests for
a cold model are collected until `patience_s` before a model in use gives way, so that
requests that alternate between models do not swap them at every letter; from then on the
model that gives way gets no new requests, ends those it has, and leaves. So nobody starves
and nobody is cut off.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from helexa.cortex.orchestrator.provisioning import outlooks, scaling
from helexa.cortex.orchestrator.provisioning.eviction import Giving, victims
from helexa.cortex.orchestrator.provisioning.given import Given
from helexa.cortex.orchestrator.provisioning.ground import Ground, Replica, Site
from helexa.cortex.orchestrator.provisioning.plan import (
    Action,
    Copy,
    Failure,
    Kind,
    Memory,
    Plan,
    Want,
)
from helexa.protocol.ids import ModelId, NodeId
from helexa.protocol.work import ModelCapability, ModelState

ACTIONS_MAX: Final = 64
"""Of one plan; the next one comes in a moment."""
LOADS_PER_SITE_MAX: Final = 2
"""At once: more only make each other slow."""
PULLS_PER_SITE_MAX: Final = 4
AMORTISED: Final = 4.0
"""A model in use gives way at most so often that loading takes a fifth of the time."""
RETRY_FIRST_S: Final = 5.0
RETRY_MOST_S: Final = 300.0
_NOTHING: Final = Want()


def plan(given: Given, memory: Memory) -> tuple[Plan, Memory]:
    """What to do now. Never raises; never plans the same twice while it is pending."""
    return _Planning(given, memory).made()


class _Planning:
    """One plan in the making."""

    def __init__(self, given: Given, memory: Memory) -> None:
        self.given = given
        self.ground = Ground(given.view, given.catalogue, given.pending, given.in_flight)
        self.memory = _remembered(memory, self.ground, given)
        self.actions: list[Action] = []
        self.yielding: dict[Copy, ModelId] = {}
        self.blocked: dict[ModelId, outlooks.Blocked] = {}
        self.loads: dict[NodeId, int] = {}
        self.pulls: dict[NodeId, int] = {}
        for one in given.pending:
            counted = self.pulls if one.action.kind is Kind.PULL else self.loads
            counted[one.action.node] = counted.get(one.action.node, 0) + 1

    def made(self) -> tuple[Plan, Memory]:
        for model in self._cold():
            self._serve(model)
        if self.given.settled:
            self._replace_drained()
            self._keep_least()
        self._scale_up()
        if self.given.settled:
            self._warm_up()
            self._clear()
        leaving = frozenset(
            one.action.node_model for one in self.given.pending if one.action.kind is Kind.UNLOAD
        ) | {one.node_model for one in self.actions if one.kind is Kind.UNLOAD}
        told, hopeless = outlooks.of(self.given, self.ground, self.memory, self.blocked)
        made = Plan(
            actions=tuple(self.actions[:ACTIONS_MAX]),
            outlooks=told,
            hopeless=hopeless,
            yielding=frozenset(self.yielding) | leaving,
        )
        return made, replace(self.memory, yielding=MappingProxyType(self.yielding))

    # --- 1: requests that wait

    def _cold(self) -> list[ModelId]:
        waiting = []
        for model, want in self.given.wants.items():
            if want.waiting and not self._is_served(model) and not self.ground.coming(model):
                waiting.append((-self.ground.entry(model).priority, -want.oldest_s, model))
        return [model for _, _, model in sorted(waiting)]

    def _is_served(self, model: ModelId) -> bool:
        return any(one.copy not in self._yields for one in self.ground.serving(model))

    @property
    def _yields(self) -> Mapping[Copy, ModelId]:
        return self.yielding

    def _serve(self, model: ModelId) -> None:
        want = self.given.wants[model]
        self._place(model, oldest_s=want.oldest_s, reason=f"{want.waiting} requests wait for it")

    def _place(self, model: ModelId, *, oldest_s: float | None, reason: str) -> bool:
        """One more replica somewhere, or a step on the way; whether that was decided.

        `oldest_s` is the wait of a request; None is for placing without one, which takes
        room only from what is not in use.
        """
        able = [site for site in self._able(model) if self._has_room_for_load(site)]
        fitting = [site for site in able if self.ground.need_bytes(site, model) <= site.free_bytes]
        if fitting:
            self._load(self._best(fitting, model), model, reason)
            return True
        if able and self._make_room(able, model, oldest_s):
            return True
        if not self._holding(model):
            return self._pull(model, reason)
        return False

    def _make_room(self, able: list[Site], model: ModelId, oldest_s: float | None) -> bool:
        """Unload what is in the way, or have it give way; whether something was decided."""
        self._note_blocked(model, oldest_s)
        found = []
        for site in able:
            giving = victims(
                self.ground,
                site,
                model,
                self.given,
                self.memory,
                patient=oldest_s is None or oldest_s < self._patience_s(model),
                demanded=oldest_s is not None,
                taken=self.yielding,
            )
            if giving is not None:
                found.append(giving)
        if not found:
            return False
        best = min(found, key=_cost)
        # Stay with what was begun: another choice at every plan would stop every neuron.
        for giving in found:
            if any(self.memory.yielding.get(one.copy) == model for one in giving.victims):
                best = giving
        for one in best.victims:
            self.yielding[one.copy] = model
            if not one.busy and one.model not in self.ground.sites[one.node].promised:
                self._unload(one, f"makes room for {model}")
        return True

    def _patience_s(self, model: ModelId) -> float:
        """How long requests are collected before a model in use gives way to theirs."""
        settings = self.given.settings
        load_s = max(
            (one.load_s for _, one in self.ground.holders(model)),
            default=0.0,
        )
        longest = self.ground.entry(model).max_wait_s or settings.max_wait_s
        return min(max(settings.swap_after_s, AMORTISED * load_s), longest / 4)

    def _note_blocked(self, model: ModelId, oldest_s: float | None) -> None:
        if oldest_s is not None:
            left_s = max(0.0, self._patience_s(model) - oldest_s)
            self.blocked[model] = outlooks.Blocked(left_s=left_s)

    # --- 2 to 4: replicas that ought to be

    def _replace_drained(self) -> None:
        for site in self.ground.sites.values():
            if site.takes_requests:
                continue
            for model, one in site.replicas.items():
                wanted = self.given.wants.get(model, _NOTHING)
                needed = bool(wanted.waiting or wanted.in_flight or one.busy)
                needed = needed or self._is_hot(model, wanted)
                if needed and not self.ground.serving(model) and not self.ground.coming(model):
                    self._place(model, oldest_s=None, reason=f"{site.called} is being drained")

    def _keep_least(self) -> None:
        for model, entry in self.given.catalogue.entries.items():
            if not entry.replicas_min and not entry.keep_warm:
                continue
            there = self.ground.serving(model) + self.ground.coming(model)
            if len(there) < entry.replicas_min:
                self._place(model, oldest_s=None, reason=f"replicas_min is {entry.replicas_min}")

    def _scale_up(self) -> None:
        for model in scaling.crowded(self.given, self.ground, self.memory):
            if self._place(model, oldest_s=None, reason="its requests queue"):
                scaled = {**self.memory.scaled_s, model: self.given.now_s}
                self.memory = replace(self.memory, scaled_s=MappingProxyType(scaled))

    def _warm_up(self) -> None:
        for model, want in self.given.wants.items():
            if self._is_hot(model, want) and not self.ground.replicas(model):
                fitting = [
                    site
                    for site in self._able(model)
                    if self.ground.need_bytes(site, model) <= site.free_bytes
                    and self._has_room_for_load(site)
                ]
                if fitting:
                    self._load(self._best(fitting, model), model, "it was asked for lately")
                elif not self._holding(model):
                    self._pull(model, "it was asked for lately")

    # --- 5: what leaves

    def _clear(self) -> None:
        for one in scaling.leaving(self.given, self.ground, self.memory, self.yielding):
            site = self.ground.sites[one.replica.node]
            if one.replica.busy:
                self.yielding[one.replica.copy] = one.replica.model
            elif one.replica.model not in site.promised:
                self._unload(one.replica, one.reason)

    # ---

    def _is_hot(self, model: ModelId, want: Want) -> bool:
        return scaling.is_hot(want, scaling.idle_limit_s(model, self.given, self.ground))

    def _able(self, model: ModelId) -> list[Site]:
        """Where a load of the model could be asked for, if there were room."""
        return [
            site
            for site, capability in self.ground.holders(model)
            if site.is_open
            and _is_loadable(capability)
            and model not in site.promised
            and model not in site.replicas
            and self.ground.allowed(site, model)
            and not self._is_set_back(site.node, model, Kind.LOAD)
            and self.ground.need_bytes(site, model) <= site.room_bytes
        ]

    def _holding(self, model: ModelId) -> bool:
        """Whether its files are, or arrive, where it may run and could ever fit."""
        return any(
            site.is_open
            and (_is_loadable(capability) or capability.state in _ARRIVES)
            and self.ground.allowed(site, model)
            and self.ground.need_bytes(site, model) <= site.room_bytes
            for site, capability in self.ground.holders(model)
        ) or any(
            one.action.model == model and one.action.kind is Kind.PULL
            for one in (*self.given.pending,)
        )

    def _pull(self, model: ModelId, reason: str) -> bool:
        entry = self.ground.entry(model)
        if not entry.source:
            return False
        size = self.ground.files_bytes(model)
        able = [
            site
            for site in self.ground.sites.values()
            if site.is_open
            and model not in site.promised
            and model not in site.replicas
            and self.ground.allowed(site, model)
            and not self._is_set_back(site.node, model, Kind.PULL)
            and self.ground.need_bytes(site, model) <= site.room_bytes
            and self.pulls.get(site.node, 0) < PULLS_PER_SITE_MAX
            and (site.neuron.load is None or size <= site.neuron.load.disk_free_bytes or not size)
        ]
        if not able:
            return False
        need = self.ground.need_bytes

        def rank(site: Site) -> tuple[float, ...]:
            fits = need(site, model) <= site.free_bytes
            return (not fits, self.pulls.get(site.node, 0), -site.free_bytes)

        best = min(able, key=rank)
        best.promised.add(model)
        self.pulls[best.node] = self.pulls.get(best.node, 0) + 1
        self._try_again(best.node, model)
        self.actions.append(Action(kind=Kind.PULL, node=best.node, model=model, reason=reason))
        return True

    def _best(self, sites: list[Site], model: ModelId) -> Site:
        """The one that is likely to be ready first, then the one with most room."""

        def rank(site: Site) -> tuple[float, ...]:
            capability = site.neuron.capabilities[model]
            loads = self.loads.get(site.node, 0)
            return (
                capability.state is ModelState.FAILED,
                round((1 + loads) * capability.load_s, 1),
                sum(one.busy for one in site.replicas.values()),
                -site.free_bytes,
            )

        return min(sites, key=rank)

    def _load(self, site: Site, model: ModelId, reason: str) -> None:
        self._try_again(site.node, model)
        self.ground.take(site, model)
        self.loads[site.node] = self.loads.get(site.node, 0) + 1
        self.actions.append(Action(kind=Kind.LOAD, node=site.node, model=model, reason=reason))

    def _unload(self, replica: Replica, reason: str) -> None:
        if self._is_set_back(replica.node, replica.model, Kind.UNLOAD):
            return
        self.ground.leave(replica)
        self.actions.append(
            Action(kind=Kind.UNLOAD, node=replica.node, model=replica.model, reason=reason)
        )

    def _has_room_for_load(self, site: Site) -> bool:
        return self.loads.get(site.node, 0) < LOADS_PER_SITE_MAX

    def _is_set_back(self, node: NodeId, model: ModelId, kind: Kind) -> bool:
        now_s = self.given.now_s
        setback = self.given.setbacks.get((node, model, kind))
        if setback is not None and now_s < setback.until_s:
            return True
        failure = self.memory.failures.get((node, model))
        return kind is not Kind.UNLOAD and failure is not None and now_s < failure.until_s

    def _try_again(self, node: NodeId, model: ModelId) -> None:
        """What failed there is being tried again: the next time it waits longer."""
        failure = self.memory.failures.get((node, model))
        if failure is not None:
            pause_s = min(RETRY_FIRST_S * 2.0 ** min(failure.count, 16), RETRY_MOST_S)
            later = Failure(count=failure.count + 1, until_s=self.given.now_s + pause_s)
            failures = {**self.memory.failures, (node, model): later}
            self.memory = replace(self.memory, failures=MappingProxyType(failures))


_ARRIVES: Final = frozenset((ModelState.DOWNLOADING, ModelState.UNLOADING, ModelState.DRAINING))


def _is_loadable(capability: ModelCapability) -> bool:
    """Whether its files are there. One that failed without a runtime has none that can be read."""
    if capability.state is ModelState.FAILED:
        return bool(capability.runtime)
    return capability.state is ModelState.UNLOADED


def _cost(giving: Giving) -> tuple[float, ...]:
    """Whom it hurts least: nobody who is busy, the lowest, the longest unused, the fewest."""
    return (
        sum(one.busy for one in giving.victims),
        giving.priority,
        giving.kept,
        -giving.idle_s,
        len(giving.victims),
    )


def _remembered(memory: Memory, ground: Ground, given: Given) -> Memory:
    """What still holds of it."""
    now_s = given.now_s
    since: dict[Copy, float] = {}
    for site in ground.sites.values():
        for replica in site.replicas.values():
            since[replica.copy] = memory.since_s.get(replica.copy, now_s)
    failures: dict[Copy, Failure] = {}
    for node, site in ground.sites.items():
        for model in _failed(site):
            before = memory.failures.get((node, model))
            failures[node, model] = before or Failure(count=0, until_s=now_s)
    for copy, failure in memory.failures.items():
        neuron = given.view.neurons.get(copy[0])
        capability = neuron.capabilities.get(copy[1]) if neuron else None
        # While it is being tried again it is not called failed.
        if capability is not None and capability.state not in (
            ModelState.LOADED,
            ModelState.UNLOADED,
        ):
            failures.setdefault(copy, failure)
    return replace(
        memory,
        since_s=MappingProxyType(since),
        failures=MappingProxyType(failures),
        superfluous_s=MappingProxyType(scaling.superfluous(given, ground, memory)),
    )


def _failed(site: Site) -> list[ModelId]:
    return [
        model
        for model, capability in site.neuron.capabilities.items()
        if capability.state is ModelState.FAILED
    ]
