"""What to do so that what is wanted gets served: a pure function of what is known.

    plan(given, memory) -> Plan, Memory

The plan is made anew at every change and again twice a second; an action is small, and its
effect shows in the next view. In order of importance:

1. a model that requests wait for, and that nobody serves, gets a replica: the highest
   priority first, then the oldest wait;
2. what a drained neuron served, what `replicas_min` asks for, and what was lost with its
   neuron while it was in use, gets one elsewhere;
3. a model whose requests queue gets one more;
4. what nobody needs leaves: idle models, superfluous replicas, those on drained neurons.

Room is made by unloading what is not in use, the least used first (`eviction`). Requests for a
cold model are collected for a while before a model in use gives way to it (`_terms`), so
that requests that alternate between models do not swap them at every letter. One that has to
give way gets no new requests, ends those it has, and leaves: nobody starves, nobody is cut off.
"""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import Final

from helexa.cortex.orchestrator.provisioning import outlooks, scaling
from helexa.cortex.orchestrator.provisioning.capacity import Replica, Site
from helexa.cortex.orchestrator.provisioning.eviction import Ease, Terms, stay_s
from helexa.cortex.orchestrator.provisioning.given import Given
from helexa.cortex.orchestrator.provisioning.ground import Ground
from helexa.cortex.orchestrator.provisioning.placement import (
    PULL_AGAIN_S,
    Place,
    Placement,
    Way,
    pull_place,
)
from helexa.cortex.orchestrator.provisioning.plan import Action, Copy, Kind, Memory, Plan
from helexa.protocol.ids import ModelId
from helexa.protocol.work import ModelState

ACTIONS_MAX: Final = 16
"""Of one plan; the next one comes in a moment."""
PATIENCE_LOADS: Final = 2.0
"""Requests for a cold model are collected at least this many times as long as it loads..."""
PATIENCE_SHARE: Final = 0.25
"""...but for no more than this share of the longest that they wait."""
TURN_LOADS: Final = 1.0
"""A model that is in use stays at least this many times as long as the other one loads..."""
URGENT_SHARE: Final = 0.5
"""...unless a request would have waited this share of the longest, its load included."""


def plan(given: Given, memory: Memory) -> tuple[Plan, Memory]:
    """What to do now. Never raises; never plans again what is pending."""
    return _Planning(given, memory).made()


class _Planning:
    """One plan in the making."""

    def __init__(self, given: Given, memory: Memory) -> None:
        self.given = given
        memory = replace(memory, yielding=_still_yielding(given, memory))
        self.ground = Ground(given, memory)
        self.placement = Placement(given, self.ground)
        self.actions: list[Action] = []
        self.yielding: dict[Copy, ModelId] = {}
        self.blocked: dict[ModelId, outlooks.Blocked] = {}
        self.notes = scaling.notes(given, self.ground, memory)
        self.pulled_s = {
            copy: at_s
            for copy, at_s in memory.pulled_s.items()
            if given.now_s - at_s < PULL_AGAIN_S
        }

    def made(self) -> tuple[Plan, Memory]:
        for model in self._cold():
            self._serve(model)
        if self.given.settled:
            for wish in scaling.wishes(self.given, self.ground, self.notes):
                if len(self.actions) < ACTIONS_MAX:
                    self._grant(wish)
            self._clear()
        leaving = {
            one.action.node_model for one in self.given.pending if one.action.kind is Kind.UNLOAD
        }
        leaving.update(one.node_model for one in self.actions if one.kind is Kind.UNLOAD)
        told, hopeless = outlooks.of(self.given, self.ground, self.blocked)
        made = Plan(
            actions=tuple(self.actions),
            outlooks=MappingProxyType(told),
            hopeless=MappingProxyType(hopeless),
            yielding=frozenset(self.yielding) | leaving,
        )
        return made, self._memory()

    def _memory(self) -> Memory:
        survey = self.ground.survey
        return replace(
            self.notes,
            listed=MappingProxyType(survey.listed),
            seen=MappingProxyType(survey.seen),
            freed=MappingProxyType(survey.freed),
            uncounted=MappingProxyType(survey.uncounted),
            yielding=MappingProxyType(self.yielding),
            pulled_s=MappingProxyType(self.pulled_s),
        )

    # --- requests that wait

    def _cold(self) -> list[ModelId]:
        waiting = []
        for model, want in self.given.wants.items():
            if not want.waiting or self.ground.serving(model) or self.ground.coming(model):
                continue
            # One that gave way may turn out to serve again when the others have decided.
            gave_way = any(one.state is ModelState.LOADED for one in self.ground.of(model))
            priority = self.ground.entry(model).priority
            waiting.append((-priority, gave_way, -want.oldest_s, model))
        return [model for *_, model in sorted(waiting)]

    def _serve(self, model: ModelId) -> None:
        ground, want = self.ground, self.given.want(model)
        if any(
            one.state is ModelState.LOADED
            and one.copy not in self.yielding
            and ground.sites[one.node].takes_requests
            for one in ground.of(model)
        ):
            return
        if len(self.actions) >= ACTIONS_MAX:
            return
        found = self.placement.place(model, self._terms(model))
        reason = "a request waits" if want.waiting == 1 else f"{want.waiting} requests wait"
        if found is None or found.ease is Ease.BUSY:
            self._pull(model, f"{reason} for it", if_room=self._has_files(model))
        if found is None:
            self.blocked[model] = outlooks.Blocked(left_s=self._left_s(model))
        elif found.way is Way.NOW:
            self._load(found.site, model, f"{reason} for it")
        else:
            self._make_room(found, model)

    def _make_room(self, found: Place, model: ModelId) -> None:
        """Take the room that is being made there, or have it made."""
        site, victims = found.site, found.victims
        self.blocked[model] = outlooks.Blocked(left_s=found.wait_s, site=site, victims=victims)
        ready = found.ease is not Ease.BUSY
        for one in victims:
            if found.wait_s > 0:
                self.ground.leave(one)
                continue
            self.yielding[one.copy] = model
            if not ready:
                self.ground.leave(one)
            elif not self._unload(one, f"makes room for {model}"):
                return
        self.ground.reserve(site, model)

    def _terms(self, model: ModelId) -> Terms | None:
        """Whom requests for the model may displace by now."""
        if not self.given.settled:
            return None
        patient = self.given.want(model).oldest_s < self._patience_s(model)
        return Terms(Ease.REST if patient else Ease.BUSY, turn_s=self._turn_s(model))

    def _patience_s(self, model: ModelId) -> float:
        """How long requests are collected before a model in use gives way to theirs."""
        load_s = self.ground.load_s(None, model)
        longest_s = self.given.max_wait_s(model) * PATIENCE_SHARE
        return min(max(self.given.settings.swap_after_s, PATIENCE_LOADS * load_s), longest_s)

    def _turn_s(self, model: ModelId) -> float:
        """How long a model in use stays at least, however long others wait."""
        given = self.given
        load_s = self.ground.load_s(None, model)
        longest_s = given.max_wait_s(model) * URGENT_SHARE
        if given.want(model).oldest_s + load_s >= longest_s:
            return stay_s(given.settings, load_s)
        return max(stay_s(given.settings, load_s), TURN_LOADS * load_s)

    def _left_s(self, model: ModelId) -> float:
        return max(0.0, self._patience_s(model) - self.given.want(model).oldest_s)

    # --- replicas that ought to be

    def _grant(self, wish: scaling.Wish) -> None:
        """One more replica that no request waits for: only what nobody uses gives way."""
        unused = Terms(Ease.REST, unused_s=self.given.settings.scale_down_after_s)
        found = self.placement.place(wish.model, unused if wish.may_displace else None)
        if found is None:
            self._pull(wish.model, wish.reason, if_room=self._has_files(wish.model))
        elif found.way is Way.NOW:
            self._load(found.site, wish.model, wish.reason)
            if wish.scales:
                scaled = {**self.notes.scaled_s, wish.model: self.given.now_s}
                self.notes = replace(self.notes, scaled_s=MappingProxyType(scaled))
        else:
            self._make_room(found, wish.model)

    def _clear(self) -> None:
        for one, reason in scaling.leaving(self.given, self.ground, self.notes):
            if one.busy:
                self.yielding[one.copy] = one.model
            else:
                self._unload(one, reason)

    # ---

    def _has_files(self, model: ModelId) -> bool:
        """Whether a neuron that could ever run it has them."""
        return outlooks.has_home(self.given, self.ground, model)

    def _pull(self, model: ModelId, reason: str, *, if_room: bool) -> None:
        if not self.given.settled or self.ground.arriving.get(model):
            return
        site = pull_place(self.given, self.ground, model, if_room=if_room)
        if site is not None and self._act(Kind.PULL, site, model, reason):
            self.ground.expect(site, model)
            self.pulled_s[site.node, model] = self.given.now_s

    def _load(self, site: Site, model: ModelId, reason: str) -> None:
        if self._act(Kind.LOAD, site, model, reason):
            self.ground.take(site, model)

    def _unload(self, one: Replica, reason: str) -> bool:
        site = self.ground.sites[one.node]
        if one.model in site.orders or not self._act(Kind.UNLOAD, site, one.model, reason):
            return False
        site.orders[one.model] = Kind.UNLOAD
        self.ground.leave(one)
        return True

    def _act(self, kind: Kind, site: Site, model: ModelId, reason: str) -> bool:
        if len(self.actions) >= ACTIONS_MAX:
            return False
        self.actions.append(Action(kind=kind, node=site.node, model=model, reason=reason))
        return True


def _still_yielding(given: Given, memory: Memory) -> MappingProxyType[Copy, ModelId]:
    """Those of the last plan whose reason still stands: somebody waits for the other model."""
    return MappingProxyType(
        {
            copy: model
            for copy, model in memory.yielding.items()
            if given.want(model).waiting or model == copy[1]
        }
    )
