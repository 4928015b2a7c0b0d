"""The one task that acts on plans: it looks, plans, gives commands, and learns from answers.

Nothing is decided here. A command that was given stays in `pending` until its neuron's own
words show what became of it, because the same plan must not be acted on twice; one that
failed is a setback, which keeps the planner from asking the same of the same neuron at once.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import anyio
from anyio.abc import TaskGroup

from helexa.cortex.orchestrator.catalogue import Catalogue
from helexa.cortex.orchestrator.fleet import FleetView, Presence
from helexa.cortex.orchestrator.neurons import Neurons
from helexa.cortex.orchestrator.provisioning.demand import Demand
from helexa.cortex.orchestrator.provisioning.given import Given
from helexa.cortex.orchestrator.provisioning.plan import (
    Action,
    Kind,
    Memory,
    Pending,
    Plan,
    Setback,
)
from helexa.cortex.orchestrator.provisioning.planner import plan
from helexa.cortex.orchestrator.provisioning.room import Room
from helexa.cortex.settings import ModelEntry, OrchestratorSettings
from helexa.protocol.errors import Busy, Draining, HelexaError, PeerLost, QueueFull
from helexa.protocol.ids import ModelId, NodeId
from helexa.protocol.messages import ModelConfig, ModelSource, PieceHolder, ProvisioningResponse
from helexa.protocol.work import ModelCapability, ModelState
from helexa.util.backoff import Backoff

LOOK_EVERY_S: Final = 0.5
"""Time alone changes plans: waits grow old, idle models leave."""
LEAST_PAUSE_S: Final = 0.01
"""Between two plans: many events come together, and one plan answers them all."""
SHOWS_WITHIN_S: Final = 2.0
"""From an answer to the announcement that shows it in the view."""
STORE_WITHIN_S: Final = 30.0
_BACKOFF: Final = Backoff(first_s=2.0, factor=2.0, most_s=120.0)
BUSY_S: Final = 0.2
"""A neuron that was busy after all, or is gone for a moment, is no setback worth a wait."""
LOST_S: Final = 1.0
_BUSY: Final = frozenset((Busy.code, Draining.code, QueueFull.code))
SETBACKS_MAX: Final = 10_000

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a provisioner needs of the rest of a cortex."""

    neurons: Neurons
    catalogue: Callable[[], Catalogue]
    demand: Demand
    room: Room
    settings: Callable[[], OrchestratorSettings]
    monotonic: Callable[[], float]
    random: Callable[[], float]
    peers: Callable[[NodeId, ModelId], Sequence[PieceHolder]] = lambda _node, _model: ()
    emit: Callable[[Mapping[str, Any]], None] = lambda _event: None


class Provisioner:
    """`run` for the life of the cortex; `wake` when something changed."""

    def __init__(self, around: Surroundings) -> None:
        self.plan = Plan()
        """The last one."""
        self.commands: Counter[tuple[str, str]] = Counter()
        """By kind and outcome: `ok`, `busy`, `lost`, `failed`."""
        self._around = around
        self._pending: dict[tuple[NodeId, ModelId], Pending] = {}
        self._setbacks: dict[tuple[NodeId, ModelId, Kind], Setback] = {}
        self._memory = Memory()
        self._wake = anyio.Event()
        self._began_s = around.monotonic()
        self._served: frozenset[ModelId] = frozenset()
        around.neurons.watch(self.wake)

    def wake(self) -> None:
        """Something changed: plan soon."""
        self._wake.set()

    @property
    def room(self) -> Room:
        return self._around.room

    @property
    def pending(self) -> tuple[Pending, ...]:
        return tuple(self._pending.values())

    async def run(self) -> None:
        """Until cancelled. Commands under way are left to their neurons, which finish them."""
        async with anyio.create_task_group() as tasks:
            while True:
                self._wake = anyio.Event()
                self._look(tasks)
                with anyio.move_on_after(LOOK_EVERY_S):
                    await self._wake.wait()
                await anyio.sleep(LEAST_PAUSE_S)

    def _look(self, tasks: TaskGroup) -> None:
        around, now_s = self._around, self._around.monotonic()
        view, catalogue, settings = around.neurons.view, around.catalogue(), around.settings()
        self._setbacks = {
            key: one for key, one in self._setbacks.items() if now_s < one.until_s + FORGIVEN_S
        }
        given = Given(
            view=view,
            catalogue=catalogue,
            wants=around.demand.wants(now_s),
            settings=settings,
            now_s=now_s,
            pending=self.pending,
            setbacks=self._setbacks,
            in_flight=around.neurons.in_flight,
            settled=now_s - self._began_s >= settings.settle_s,
        )
        made, self._memory = plan(given, self._memory)
        self.plan = made
        around.neurons.set_yielding(made.yielding)
        around.room.tell(made)
        around.room.wake(_served(view, around.room.waited_for, made))
        for action in made.actions:
            key = (action.node, action.model)
            if key not in self._pending:
                self._pending[key] = _pending(action, view, now_s)
                tasks.start_soon(self._perform, action, name=f"{action.kind.value} {action.model}")

    async def _perform(self, action: Action) -> None:
        key = (action.node, action.model)
        self._tell("provisioning_sent", action, action.reason)
        try:
            answer = await self._command(action)
        except HelexaError as error:
            # By its code: what a neuron refused comes as its words, not as a class of ours.
            if error.code in _BUSY:
                self._failed(action, error.message, BUSY_S, outcome="busy")
            elif error.code == PeerLost.code:
                self._failed(action, error.message, LOST_S, outcome="lost")
            else:
                self._failed(action, error.message)
        else:
            if answer.state is ModelState.FAILED:
                self._failed(action, answer.reason or "it failed")
            else:
                self._setbacks.pop((*key, action.kind), None)
                self.commands[action.kind.value, "ok"] += 1
                self._tell("provisioning_response", action, answer.reason, answer.state.value)
                await self._shown(action)
        finally:
            self._pending.pop(key, None)
            self.wake()

    async def _command(self, action: Action) -> ProvisioningResponse:
        commands, node, model = self._around.neurons.commands, action.node, action.model
        entry = self._around.catalogue().entry(model)
        match action.kind:
            case Kind.LOAD:
                timeout_s = self._around.settings().load_timeout_s
                return await commands.load(node, model, _config(entry), timeout_s=timeout_s)
            case Kind.UNLOAD:
                return await commands.unload(node, model, if_idle=True)
            case Kind.PULL:
                peers = self._around.peers(node, model)
                return await commands.pull(
                    node, model, source_of(entry), peers=peers, pin=entry.pin
                )

    async def _shown(self, action: Action) -> None:
        """Return when the view shows what the answer said, or it ought to have long since."""
        neurons = self._around.neurons
        with anyio.move_on_after(SHOWS_WITHIN_S):
            while not shows(neurons.view, action):
                await neurons.changed()

    def _failed(
        self,
        action: Action,
        reason: str,
        pause_s: float | None = None,
        *,
        outcome: str = "failed",
    ) -> None:
        self.commands[action.kind.value, outcome] += 1
        key = (action.node, action.model, action.kind)
        before = self._setbacks.get(key)
        failures = 1 + (before.failures if before is not None else 0)
        if pause_s is None:
            pause_s = _BACKOFF.delay_s(failures, self._around.random)
            _log.warning(
                "provisioning failed: %s",
                reason,
                extra={"kind": action.kind.value, "model": action.model, "node": action.node},
            )
        else:
            failures = before.failures if before is not None else 0
        if len(self._setbacks) < SETBACKS_MAX:
            until_s = self._around.monotonic() + pause_s
            self._setbacks[key] = Setback(failures=failures, until_s=until_s, reason=reason)
        self._tell("provisioning_response", action, reason, ModelState.FAILED.value)

    def _tell(self, event: str, action: Action, reason: str, state: str = "") -> None:
        said = {
            "event": event,
            "kind": action.kind.value,
            "node_id": action.node,
            "model": action.model,
            "reason": reason,
        }
        self._around.emit({**said, "state": state} if state else said)


FORGIVEN_S: Final = 600.0
"""How long past failures still lengthen the wait after the next one."""


def source_of(entry: ModelEntry) -> ModelSource:
    """What a neuron is told to pull for this entry."""
    return ModelSource(source=entry.source, files=entry.files, quantisation=entry.quantisation)


def shows(view: FleetView, action: Action) -> bool:
    """Whether the view agrees with an action that its neuron said it did.

    A neuron that left has nothing to show.
    """
    neuron = view.neurons.get(action.node)
    if neuron is None or neuron.presence is Presence.GONE:
        return True
    capability = neuron.capabilities.get(action.model)
    match action.kind:
        case Kind.LOAD:
            return capability is not None and capability.state in _RUNS
        case Kind.UNLOAD:
            return capability is None or capability.state not in _RUNS
        case Kind.PULL:
            return capability is not None


_RUNS: Final = (ModelState.LOADING, ModelState.LOADED, ModelState.DRAINING)


def _served(view: FleetView, models: frozenset[ModelId], made: Plan) -> list[ModelId]:
    """Those of the models that some present neuron serves now."""
    return [
        model
        for model in models
        if any(
            _is_served(view, node, model) and (node, model) not in made.yielding
            for node in view.holders.get(model, ())
        )
    ]


def _is_served(view: FleetView, node: NodeId, model: ModelId) -> bool:
    neuron = view.neurons[node]
    return (
        neuron.presence is Presence.PRESENT
        and not neuron.draining
        and neuron.capabilities[model].state is ModelState.LOADED
    )


def _pending(action: Action, view: FleetView, now_s: float) -> Pending:
    neuron = view.neurons.get(action.node)
    capability: ModelCapability | None = neuron.capabilities.get(action.model) if neuron else None
    needed = capability.memory_bytes if capability is not None else 0
    return Pending(action=action, given_s=now_s, memory_bytes=needed)


def _config(entry: ModelEntry) -> ModelConfig | None:
    """How the entry says that it is to be served; None where it says nothing."""
    config = ModelConfig(
        context_tokens=entry.context_tokens,
        slots=entry.slots,
        deterministic=entry.deterministic,
        runtime=entry.runtime,
        arguments=entry.arguments,
    )
    return None if config == ModelConfig() else config
