"""The neurons registered here: one owner of the fleet view and of the ways to reach each.

Everything runs on one event loop, and nobody else writes the view. Decisions are
pure and elsewhere (`fleet`, `scheduler`); this file keeps what they decide upon.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, TypeAlias

import anyio
import msgspec

from helexa.cortex.orchestrator.breakers import Breakers, Rules
from helexa.cortex.orchestrator.catalogue import EMPTY, Catalogue
from helexa.cortex.orchestrator.choices import reachable
from helexa.cortex.orchestrator.commands import Commands
from helexa.cortex.orchestrator.explain import Explanation, explained
from helexa.cortex.orchestrator.fleet import (
    NEURONS_MAX,
    CapabilitiesAnnounced,
    FleetEvent,
    FleetView,
    HealthReported,
    NeuronLeft,
    NeuronRegistered,
    NeuronView,
    Presence,
    TimePassed,
    apply,
)
from helexa.cortex.orchestrator.observe import Log
from helexa.cortex.orchestrator.recall import Recall
from helexa.cortex.orchestrator.reception import Reception, Timing, Way
from helexa.cortex.orchestrator.scheduler import (
    Facts,
    Policy,
    incapable,
    offers,
    price_of,
    route,
)
from helexa.cortex.orchestrator.settled import Settled
from helexa.cortex.settings import SurvivalSettings
from helexa.mesh.sessions.session import Session
from helexa.protocol.errors import (
    ModelUnknown,
    NoCapacity,
    PeerLost,
)
from helexa.protocol.ids import ModelId, NodeId
from helexa.protocol.messages import (
    PieceHolder,
    Register,
)
from helexa.protocol.routing import RouteHints, RoutingDecision, Target
from helexa.protocol.work import ModelCapability, ModelState, Price, WorkloadClass

REGISTER_WITHIN_S: Final = 10.0
FORGET_AFTER_S: Final = 3600.0
"""How long a refusal can still say "that neuron left", rather than "unknown model"."""
CONNECTIONS_PER_NEURON_MAX: Final = 4_096
WAITING_PER_NEURON_MAX: Final = 1_024
PATH_CHECK_S: Final = 2.0

_UNSEEN: Final = ModelCapability(model=ModelId(""), state=ModelState.UNLOADED)
"""A model as nobody has seen it yet: it may turn out to do anything."""

_log = logging.getLogger(__name__)


Coming: TypeAlias = Callable[[RoutingDecision, frozenset[tuple[NodeId, ModelId]]], ModelId | None]


def nobody_comes(
    _decision: RoutingDecision, _yielding: frozenset[tuple[NodeId, ModelId]]
) -> ModelId | None:
    """For a cortex that places nothing: who is not there is not waited for."""
    return None


class Neurons:
    """Fleet view, routing, provisioning. `attend` is run once per neuron link."""

    def __init__(
        self,
        *,
        policy: Policy,
        timing: Timing,
        name: str,
        monotonic: Callable[[], float],
        random: Callable[[], float],
        events: Callable[[Mapping[str, Any]], None] = lambda _event: None,
        catalogue: Callable[[], Catalogue] = lambda: EMPTY,
        log: Log | None = None,
        survival: SurvivalSettings | None = None,
    ) -> None:
        """`events` is told of neurons that come and go, as JSON-shaped objects; `catalogue`
        gives the one that is in force; `log` is told what those who watch this cortex see.
        """
        self.view = FleetView()
        self.in_flight: dict[tuple[NodeId, ModelId], int] = {}
        self.recall = Recall()
        self.breakers = Breakers(Rules.of(survival or SurvivalSettings()))
        self.policy = policy
        self._catalogue = catalogue
        self._timing = timing
        self._name = name
        self._monotonic = monotonic
        self._random = random
        self._events = events
        self._log = log
        self.commands = Commands(self._session, self._called, now_s=monotonic, log=log)
        self._receptions: dict[NodeId, Reception] = {}
        self._watchers: list[Callable[[], None]] = []
        self._looks: list[Callable[[], None]] = []
        self._news = anyio.Event()
        self._yielding: frozenset[tuple[NodeId, ModelId]] = frozenset()
        self._settled = Settled()
        self._coming: Coming = nobody_comes

    # --- for links

    def reception(self) -> Reception:
        return Reception(self, self._timing, self._name)

    def post(self, event: FleetEvent) -> None:
        if isinstance(event, HealthReported):
            self._hear(event)
            return
        before = self.view
        self.view = apply(before, event)
        if self._log is not None:
            self._log.fleet(before, self.view, event)
        if self.view is before:
            return
        if isinstance(event, NeuronRegistered):
            self._forget_unloaded(before, event.descriptor.node)
        elif isinstance(event, CapabilitiesAnnounced):
            self._forget_unloaded(before, event.node)
        elif len(self.view.neurons) < len(before.neurons):
            self.recall.drop(before.neurons.keys() - self.view.neurons.keys())
        self._tell_watchers()

    def _tell_watchers(self) -> None:
        news, self._news = self._news, anyio.Event()
        news.set()
        for changed in self._watchers:
            changed()

    async def changed(self) -> None:
        """Return when a neuron came, left, or said that it can do something else."""
        await self._news.wait()

    def _hear(self, event: HealthReported) -> None:
        node, load = event.node, event.load
        own = {one.model: self.in_flight.get((node, one.model), 0) for one in load.replicas}
        before = self.view
        self.view = apply(before, replace(event, own=own))
        if self.view is not before:
            if self._log is not None:
                self._log.fleet(before, self.view, event)
            for one in load.replicas:
                self.recall.reported(node, one)

    def _forget_unloaded(self, before: FleetView, node: NodeId) -> None:
        """A model that is not loaded any more has lost the prompts that it had read."""
        if (known := before.neurons.get(node)) is None:
            return
        now = self.view.neurons[node].capabilities
        for model, one in known.capabilities.items():
            if one.state is ModelState.LOADED and (
                model not in now or now[model].state is not ModelState.LOADED
            ):
                self.recall.forget(node, model)

    def watch(self, changed: Callable[[], None]) -> None:
        """Be told when neurons come, go, or can do something else; not of each health report."""
        self._watchers.append(changed)

    def catalogue_changed(self) -> None:
        """For whoever changed it: what neurons may do is another thing now."""
        self._tell_watchers()

    def now_s(self) -> float:
        return self._monotonic()

    def enter(self, reception: Reception, register: Register) -> None:
        """A registration replaces what an earlier link of the same neuron said."""
        node = register.descriptor.node
        if node not in self.view.neurons and len(self.view.neurons) >= NEURONS_MAX:
            raise NoCapacity(f"This cortex already knows {NEURONS_MAX} neurons.", 60)
        self._receptions[node] = reception
        self.breakers.forget(node)
        self.post(
            NeuronRegistered(
                descriptor=register.descriptor,
                capabilities=register.capabilities,
                ticket=register.ticket,
                now_s=self.now_s(),
            )
        )
        self._events(
            {
                "event": "neuron_registered",
                "node_id": node,
                "name": register.descriptor.name,
                "path": reception.way.kind if reception.way else "",
            }
        )

    def is_current(self, reception: Reception) -> bool:
        return reception.node is not None and self._receptions.get(reception.node) is reception

    def leave(self, reception: Reception, reason: str) -> None:
        if reception.node is not None and self.is_current(reception):
            del self._receptions[reception.node]
            self.post(NeuronLeft(node=reception.node, reason=reason, now_s=self.now_s()))
            self._events({"event": "neuron_left", "node_id": reception.node, "reason": reason})

    async def keep_time(self) -> None:
        """Mark the silent and forget the long gone, until cancelled."""
        while True:
            before_s = self.now_s()
            await anyio.sleep(self._timing.health_every_s / 2)
            took_s = self.now_s() - before_s
            self.post(
                TimePassed(
                    now_s=self.now_s(),
                    lost_after_s=self._timing.lost_after_s,
                    forget_after_s=FORGET_AFTER_S,
                )
            )
            # Who stood still itself has the others' reports before it still, unread.
            if took_s < self._timing.lost_after_s / 2:
                self.look()

    def look(self) -> None:
        """At who is silent, for those who asked for it."""
        for each in self._looks:
            each()

    def look_again(self, look: Callable[[], None]) -> None:
        """Have it called each time that the neurons' silence is looked at."""
        self._looks.append(look)

    def silent(self) -> Iterator[NodeId]:
        """Those whose link stands, and whose reports do not come."""
        for node, neuron in self.view.neurons.items():
            if neuron.presence is Presence.SILENT:
                yield node

    # --- for the gateway

    @property
    def catalogue(self) -> Catalogue:
        return self._catalogue()

    def facts(self) -> Facts:
        return Facts(
            view=self.view,
            now_s=self.now_s(),
            catalogue=self._catalogue(),
            in_flight=self.in_flight,
            recall=self.recall,
            yielding=self._yielding,
            circuits=self.breakers.known,
        )

    def bring(self, coming: Coming) -> None:
        """`coming` says which model of a decision without targets will be served by and by."""
        self._coming = coming

    def set_yielding(self, copies: frozenset[tuple[NodeId, ModelId]]) -> None:
        """These get no new requests, from the next decision on."""
        self._yielding = copies

    def awaited(self, decision: RoutingDecision) -> ModelId | None:
        """The model to wait for where a decision has no target; None where waiting is in vain."""
        return self._coming(decision, self._yielding)

    def decide(
        self,
        workload: WorkloadClass,
        model: ModelId,
        hints: RouteHints,
        *,
        thorough: bool = False,
    ) -> RoutingDecision:
        return route(
            self.facts(),
            workload,
            model,
            hints,
            policy=self.policy,
            random=self._random,
            thorough=thorough,
        )

    def route(self, workload: WorkloadClass, model: ModelId, hints: RouteHints) -> RoutingDecision:
        """At least one target, or a model that is `awaited`.

        Raises ModelUnknown, what `incapable` makes, or NoCapacity with each neuron's reason.
        """
        settled = self._settled
        is_plain = hints.wish is None and not (hints.exclude or hints.digest)
        if (
            is_plain
            and settled.holds(self.view, self._catalogue(), self._yielding, self.breakers)
            and (kept := settled.decisions.get((workload, model))) is not None
        ):
            return kept
        decision = self.decide(workload, model, hints)
        if is_plain:
            settled.keep(decision)
        if decision.targets or self.awaited(decision) is not None:
            return decision
        if not self._receptions and not decision.excluded:
            raise NoCapacity("No neuron is connected to this cortex.", 2)
        if not self.knows(model):
            raise ModelUnknown(str(model))
        if not self.can_do(workload, model):
            raise incapable(workload, model)
        if not decision.excluded:
            raise NoCapacity(f"No neuron has the model {str(model)!r} now.", 2)
        reasons = "; ".join(
            f"neuron {self._called(one.node)} is {one.reason}" for one in decision.excluded[:5]
        )
        raise NoCapacity(f"No neuron can serve {str(model)!r} now: {reasons}.", 2)

    def explained(self, workload: WorkloadClass, model: ModelId, hints: RouteHints) -> Explanation:
        """The same decision with everybody looked at, and what it went by. Raises ModelUnknown."""
        decision = self.decide(workload, model, hints, thorough=True)
        if not (decision.targets or decision.excluded or self.knows(model)):
            raise ModelUnknown(str(model))
        return explained(decision, self.facts(), hints, called=self.called)

    def knows(self, model: ModelId) -> bool:
        """Whether the catalogue or a neuron has such a model, in whatever state."""
        catalogue = self._catalogue()
        return (
            model in catalogue.entries or model in catalogue.aliases or model in self.view.holders
        )

    def can_do(self, workload: WorkloadClass, model: ModelId) -> bool:
        """Whether some neuron lists what the name leads to for this kind of work, in whatever
        state; or nobody lists it yet, and the catalogue does not say otherwise.
        """
        catalogue = self._catalogue()
        for one in reachable(catalogue, model):
            entry = catalogue.entries.get(one)
            holders = self.view.holders.get(one, ())
            if any(
                offers(self.view.neurons[node].capabilities[one], workload, entry)
                for node in holders
            ):
                return True
            if entry is not None and not holders and offers(_UNSEEN, workload, entry):
                return True
        return False

    def wants_prefixes(self, model: ModelId) -> bool:
        """Whether the heads of a prompt would make a difference to where it goes."""
        if not self.policy.by_prefix:
            return False
        loaded = self.view.loaded
        if len(loaded.get(model, ())) > 1:
            return True
        catalogue = self._catalogue()
        return bool(catalogue.entries) and any(
            len(loaded.get(one, ())) > 1 for one in reachable(catalogue, model)
        )

    def price(self, capability: ModelCapability) -> Price:
        """What a neuron asks, or the catalogue where it asks nothing."""
        return price_of(capability, self._catalogue().entries.get(capability.model))

    def slots(self, model: ModelId) -> int | None:
        """How many requests the neurons that take any now work on at once; None where one of
        them does not say.
        """
        view, found = self.view, 0
        for node in view.loaded.get(model, ()):
            neuron = view.neurons[node]
            if (
                neuron.presence is not Presence.PRESENT
                or neuron.draining
                or (node, model) in self._yielding
            ):
                continue
            slots = neuron.capabilities[model].slots
            if not slots:
                return None
            found += slots
        return found

    def way(self, target: Target) -> Way:
        """Raises PeerLost when the neuron left between the decision and now."""
        reception = self._receptions.get(target.node)
        if reception is None or reception.way is None:
            raise PeerLost(f"The neuron {self._called(target.node)} left.")
        return reception.way

    def started(self, target: Target, model: ModelId, hints: RouteHints) -> None:
        """A request for `model`, as the target knows it, is on its way there."""
        key = (target.node, model)
        self.in_flight[key] = self.in_flight.get(key, 0) + 1
        if hints.prefixes:
            self.recall.sent(target.node, model, hints.prefixes)

    def finished(self, target: Target, model: ModelId) -> None:
        key = (target.node, model)
        left = self.in_flight.get(key, 0) - 1
        if left > 0:
            self.in_flight[key] = left
        else:
            self.in_flight.pop(key, None)

    def models(self) -> Sequence[ModelCapability]:
        """One capability a model, from a neuron that is present, for listings."""
        found = []
        for model in sorted(self.view.holders):
            present = self.present_holders(model)
            if present:
                found.append(_in_common([self.view.neurons[node] for node in present], model))
        return found

    def called(self, target: Target) -> str:
        return self._called(target.node)

    def why_lost(self, target: Target) -> str:
        """What is known about a target that could not be reached, to go on from its name."""
        neuron = self.view.neurons.get(target.node)
        return f"is {neuron.presence.value}: {neuron.reason}" if neuron and neuron.reason else ""

    # --- for the control API

    def present_holders(self, model: ModelId) -> list[NodeId]:
        return [
            node
            for node in self.view.holders.get(model, ())
            if self.view.neurons[node].presence is Presence.PRESENT
        ]

    def path_kind(self, node: NodeId) -> str:
        """How requests reach it: `unix` or `mesh`; empty for one that is not connected."""
        reception = self._receptions.get(node)
        return reception.way.kind if reception and reception.way else ""

    async def share(self, node: NodeId, model: ModelId, peers: Sequence[PieceHolder]) -> None:
        """As `Commands.share`."""
        await self.commands.share(node, model, peers)

    async def drain(self, node: NodeId, *, enabled: bool) -> None:
        """As `Commands.drain`."""
        await self.commands.drain(node, enabled=enabled)

    def _session(self, node: NodeId) -> Session | None:
        reception = self._receptions.get(node)
        return reception.session if reception is not None else None

    def _called(self, node: NodeId) -> str:
        neuron = self.view.neurons.get(node)
        return (neuron.descriptor.name if neuron else "") or str(node)[:10]


def _in_common(holders: Sequence[NeuronView], model: ModelId) -> ModelCapability:
    """The first one's, without a name of weights that others do not bear."""
    first, *others = (neuron.capabilities[model] for neuron in holders)
    changes: dict[str, Any] = {
        name: ""
        for name in ("digest", "quantisation")
        if any(getattr(one, name) != getattr(first, name) for one in others)
    }
    return msgspec.structs.replace(first, **changes) if changes else first
