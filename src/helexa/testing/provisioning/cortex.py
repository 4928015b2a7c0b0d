"""A cortex in virtual time: the real fold, the real demand and the real planner, acted upon.

It also keeps watch: a plan that breaks a promise (a command twice, one that is busy told to
leave, too many at once) is written down in `broken`, and tests want that empty.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from helexa.cortex.orchestrator.catalogue import EMPTY, Catalogue
from helexa.cortex.orchestrator.fleet import (
    CapabilitiesAnnounced,
    FleetEvent,
    FleetView,
    HealthReported,
    Mark,
    NeuronLeft,
    NeuronMarked,
    NeuronRegistered,
    Presence,
    TimePassed,
    apply,
)
from helexa.cortex.orchestrator.provisioning.demand import Demand
from helexa.cortex.orchestrator.provisioning.given import Given
from helexa.cortex.orchestrator.provisioning.plan import (
    Action,
    Copy,
    Kind,
    Memory,
    Pending,
    Plan,
    Setback,
)
from helexa.cortex.orchestrator.provisioning.planner import ACTIONS_MAX, plan
from helexa.cortex.settings import OrchestratorSettings
from helexa.protocol.ids import ModelId, NodeId
from helexa.protocol.work import Load, ModelCapability, ModelState
from helexa.testing.provisioning.clock import Clock
from helexa.testing.provisioning.neurons import ON_THE_WAY_S, Neuron, Request

LOOK_EVERY_S: Final = 0.5
LEAST_PAUSE_S: Final = 0.01
SHOWS_WITHIN_S: Final = 2.0
SETBACK_FIRST_S: Final = 2.0
SETBACK_MOST_S: Final = 60.0
PASSING_S: Final = 0.2
COMMAND_WITHIN_S: Final = 60.0
LOST_AFTER_S: Final = 4.0
FORGET_AFTER_S: Final = 600.0


class Cortex:
    """`attend` neurons, `ask` requests, let the clock run; then look at `requests`."""

    def __init__(
        self,
        clock: Clock,
        *,
        settings: OrchestratorSettings | None = None,
        catalogue: Catalogue = EMPTY,
    ) -> None:
        self.view = FleetView()
        self.requests: list[Request] = []
        self.broken: list[str] = []
        self.given: list[tuple[float, Action]] = []
        self.plan = Plan()
        self.settings = settings or OrchestratorSettings()
        self.catalogue = catalogue
        self.neurons: dict[NodeId, Neuron] = {}
        self.clock = clock
        self._demand = Demand()
        self._memory = Memory()
        self._began_s = clock.now_s
        self._waiting: dict[ModelId, list[Request]] = {}
        self._in_flight: dict[Copy, int] = {}
        self._pending: dict[Copy, Pending] = {}
        self._setbacks: dict[tuple[NodeId, ModelId, Kind], Setback] = {}
        self._planning = False
        self._look_for_ever()

    # --- neurons

    def attend(self, neuron: Neuron) -> None:
        """It registers, and reports from then on."""
        self.neurons[neuron.node] = neuron
        self._apply(
            NeuronRegistered(
                descriptor=neuron.descriptor,
                capabilities=neuron.capabilities(),
                now_s=self.clock.now_s,
            )
        )
        neuron.report_for_ever()

    def lose(self, node: NodeId, reason: str = "the link ended") -> None:
        self._apply(NeuronLeft(node=node, reason=reason, now_s=self.clock.now_s))
        self._pending = {
            copy: one for copy, one in self._pending.items() if one.action.node != node
        }

    def mark(self, node: NodeId, mark: Mark | None) -> None:
        self._apply(NeuronMarked(node=node, mark=mark))

    def announced(self, node: NodeId, capabilities: tuple[ModelCapability, ...]) -> None:
        self._apply(
            CapabilitiesAnnounced(node=node, capabilities=capabilities, now_s=self.clock.now_s)
        )

    def reported(self, node: NodeId, load: Load) -> None:
        own = {model: count for (at, model), count in self._in_flight.items() if at == node}
        self._apply(HealthReported(node=node, load=load, now_s=self.clock.now_s, own=own))

    def _apply(self, event: FleetEvent) -> None:
        self.view = apply(self.view, event)
        self._wake()

    # --- requests

    def ask(self, request: Request) -> None:
        """A client's request arrives now."""
        self.requests.append(request)
        if not self._send(request):
            self._wait(request)

    def _wait(self, request: Request) -> None:
        self._waiting.setdefault(request.model, []).append(request)
        self._demand.waits(request.model, request.came_s)
        left_s = request.came_s + self._max_wait_s(request.model) - self.clock.now_s

        def give_up() -> None:
            if request in self._waiting.get(request.model, ()):
                self._refuse(request, "it waited as long as it may")

        self.clock.after(max(0.0, left_s), give_up)
        self._wake()

    def _max_wait_s(self, model: ModelId) -> float:
        return self.catalogue.entry(model).max_wait_s or self.settings.max_wait_s

    def _leave(self, request: Request) -> None:
        self._waiting[request.model].remove(request)
        self._demand.served(request.model, request.came_s, self.clock.now_s)

    def _refuse(self, request: Request, reason: str) -> None:
        self._leave(request)
        request.refused = reason
        request.ended_s = self.clock.now_s

    def _send(self, request: Request) -> bool:
        able = self._serving(request.model)
        if not able:
            return False
        node = min(able, key=lambda one: (self._in_flight.get((one, request.model), 0), one))
        self._in_flight[node, request.model] = self._in_flight.get((node, request.model), 0) + 1
        self._demand.started(request.model, self.clock.now_s)
        self.clock.after(ON_THE_WAY_S, lambda: self.neurons[node].serve(request))
        return True

    def _serving(self, model: ModelId) -> list[NodeId]:
        found = []
        for node in self.view.loaded.get(model, ()):
            neuron = self.view.neurons[node]
            present = neuron.presence is Presence.PRESENT and not neuron.draining
            if present and (node, model) not in self.plan.yielding:
                found.append(node)
        return found

    def started(self, node: NodeId, request: Request) -> None:
        """A slot began with it."""

    def ended(self, node: NodeId, request: Request) -> None:
        self._over(node, request)

    def came_back(self, node: NodeId, request: Request) -> None:
        self._over(node, request)
        if not self._send(request):
            self._wait(request)

    def _over(self, node: NodeId, request: Request) -> None:
        self._in_flight[node, request.model] -= 1
        self._demand.ended(request.model, self.clock.now_s)
        self._wake()

    # --- planning and acting

    def _look_for_ever(self) -> None:
        now_s = self.clock.now_s
        self._apply(
            TimePassed(now_s=now_s, lost_after_s=LOST_AFTER_S, forget_after_s=FORGET_AFTER_S)
        )
        self.clock.after(LOOK_EVERY_S, self._look_for_ever)

    def _wake(self) -> None:
        if not self._planning:
            self._planning = True
            self.clock.after(LEAST_PAUSE_S, self._look)

    def _look(self) -> None:
        self._planning = False
        now_s = self.clock.now_s
        given = Given(
            view=self.view,
            catalogue=self.catalogue,
            wants=self._demand.wants(now_s),
            settings=self.settings,
            now_s=now_s,
            pending=tuple(self._pending.values()),
            setbacks=self._setbacks,
            in_flight={copy: count for copy, count in self._in_flight.items() if count},
            settled=now_s - self._began_s >= self.settings.settle_s,
        )
        self.plan, self._memory = plan(given, self._memory)
        self._check(self.plan)
        for model, reason in self.plan.hopeless.items():
            for request in tuple(self._waiting.get(model, ())):
                self._refuse(request, reason)
        for requests in tuple(self._waiting.values()):
            for request in tuple(requests):
                if self._send(request):
                    self._leave(request)
        for action in self.plan.actions:
            self._give(action)

    def _give(self, action: Action) -> None:
        self.given.append((self.clock.now_s, action))
        copy = action.node_model
        pending = self._pending[copy] = Pending(
            action=action, given_s=self.clock.now_s, memory_bytes=self._bytes(action)
        )
        neuron = self.neurons[action.node]

        def is_pending() -> bool:
            return self._pending.get(copy) is pending

        def answered(refusal: str, passing: bool) -> None:
            if not is_pending():
                return
            if refusal:
                self._set_back(action, refusal, passing=passing)
            else:
                self._setbacks.pop((*copy, action.kind), None)
                self._until_shown(pending, self.clock.now_s + SHOWS_WITHIN_S)
            self._wake()

        def too_late() -> None:
            if is_pending():
                self._set_back(action, "no answer in time", passing=False)
                self._wake()

        command = {Kind.LOAD: neuron.load, Kind.UNLOAD: neuron.unload, Kind.PULL: neuron.pull}
        self.clock.after(ON_THE_WAY_S, lambda: command[action.kind](action.model, answered))
        self.clock.after(COMMAND_WITHIN_S, too_late)

    def _bytes(self, action: Action) -> int:
        capability = self.view.neurons[action.node].capabilities.get(action.model)
        return capability.memory_bytes if capability else 0

    def _until_shown(self, pending: Pending, latest_s: float) -> None:
        copy = pending.action.node_model
        if self._pending.get(copy) is not pending:
            return
        if self.clock.now_s >= latest_s or _shows(self.view, pending.action):
            del self._pending[copy]
            self._wake()
        else:
            self.clock.after(LEAST_PAUSE_S, lambda: self._until_shown(pending, latest_s))

    def _set_back(self, action: Action, reason: str, *, passing: bool) -> None:
        self._pending.pop(action.node_model, None)
        key = (*action.node_model, action.kind)
        before = self._setbacks.get(key)
        failures = before.failures if before else 0
        pause_s = PASSING_S
        if not passing:
            failures += 1
            pause_s = min(SETBACK_FIRST_S * 2 ** (failures - 1), SETBACK_MOST_S)
        self._setbacks[key] = Setback(
            failures=failures, until_s=self.clock.now_s + pause_s, reason=reason
        )

    # --- promises

    def _check(self, made: Plan) -> None:
        say = self._say
        if len(made.actions) > ACTIONS_MAX:
            say(f"{len(made.actions)} actions at once")
        seen: set[Copy] = set()
        for action in made.actions:
            copy = action.node_model
            if copy in self._pending or copy in seen:
                say(f"{action} although a command is under way")
            seen.add(copy)
            neuron = self.view.neurons.get(action.node)
            if neuron is None or neuron.presence is not Presence.PRESENT:
                say(f"{action} to one that is not there")
                continue
            if action.kind is not Kind.UNLOAD and (neuron.mark or neuron.draining):
                say(f"{action} on one that takes nothing new")
            setback = self._setbacks.get((*copy, action.kind))
            if setback is not None and self.clock.now_s < setback.until_s:
                say(f"{action} although it was set back")
            if action.kind is Kind.UNLOAD:
                told = neuron.replicas.get(action.model)
                if self._in_flight.get(copy) or (told and (told.running or told.waiting)):
                    say(f"{action} although it is busy")
        for model, waiting in self._waiting.items():
            known = model in made.outlooks or model in made.hopeless
            if waiting and not known and not self._serving(model):
                say(f"nothing is said to those who wait for {model}")

    def _say(self, what: str) -> None:
        self.broken.append(f"{self.clock.now_s:.3f}: {what}")


def _shows(view: FleetView, action: Action) -> bool:
    neuron = view.neurons.get(action.node)
    if neuron is None or neuron.presence is Presence.GONE:
        return True
    capability = neuron.capabilities.get(action.model)
    runs = capability is not None and capability.state in _RUNS
    match action.kind:
        case Kind.LOAD:
            return runs
        case Kind.UNLOAD:
            return not runs
        case Kind.PULL:
            return capability is not None


_RUNS: Final = (ModelState.LOADING, ModelState.LOADED, ModelState.DRAINING)


def waits(requests: Iterable[Request]) -> list[float]:
    """Of those that were served, in order of length."""
    return sorted(one.wait_s for one in requests if one.wait_s is not None)


def percentile(ordered: Sequence[float], share: float) -> float:
    """The least value that this share is at or below."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def swaps(given: Iterable[tuple[float, Action]]) -> Mapping[Kind, int]:
    counted = dict.fromkeys(Kind, 0)
    for _, action in given:
        counted[action.kind] += 1
    return counted
