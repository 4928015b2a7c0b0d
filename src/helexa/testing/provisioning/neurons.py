"""A neuron that loads, serves and unloads in virtual time, and refuses what a real one would.

It has the habits of the real one that a planner can stumble over: its memory is granted in
full before a load begins, it says how it stands in two messages that come apart, it ends
what it began although nobody waits for the answer, and it fails now and then.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeAlias

from helexa.protocol.ids import ModelId, NodeId, OperatorId
from helexa.protocol.work import (
    Fingerprint,
    Load,
    ModelCapability,
    ModelProgress,
    ModelState,
    NeuronDescriptor,
    Phase,
    Progress,
    ReplicaLoad,
    WorkloadClass,
)
from helexa.testing.provisioning.clock import Clock

ON_THE_WAY_S: Final = 0.005
SETTLE_S: Final = 0.02
UNLOAD_S: Final = 0.05
QUEUE_KEPT: Final = 8
"""Waits for a slot that the reported mean is made of."""

Answered: TypeAlias = Callable[[str, bool], None]
"""Why a command was not done, empty where it was; and whether that is only for the moment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """One model, the same for every neuron that has it."""

    model: ModelId
    need_bytes: int
    load_s: float
    slots: int = 4
    disk_bytes: int = 0
    pull_s: float = 10.0


@dataclass(slots=True, kw_only=True)
class Request:
    """One of a client's. `started_s` is when a slot began with it."""

    model: ModelId
    came_s: float
    service_s: float
    sent_s: float = 0.0
    started_s: float | None = None
    ended_s: float | None = None
    refused: str = ""

    @property
    def wait_s(self) -> float | None:
        return None if self.started_s is None else self.started_s - self.came_s


class Listener(Protocol):
    """A cortex, as its neurons know it."""

    def announced(self, node: NodeId, capabilities: tuple[ModelCapability, ...]) -> None: ...

    def reported(self, node: NodeId, load: Load) -> None: ...

    def started(self, node: NodeId, request: Request) -> None: ...

    def ended(self, node: NodeId, request: Request) -> None: ...

    def came_back(self, node: NodeId, request: Request) -> None:
        """It was not served: the model was not loaded, or the neuron died."""
        ...


@dataclass(slots=True, kw_only=True)
class _Replica:
    weights: Weights
    state: ModelState = ModelState.UNLOADED
    since_s: float = 0.0
    reason: str = ""
    running: int = 0
    queue: deque[Request] = field(default_factory=deque)
    served: list[Request] = field(default_factory=list)
    used_s: float = 0.0
    queued_s: deque[float] = field(default_factory=lambda: deque(maxlen=QUEUE_KEPT))

    @property
    def granted(self) -> bool:
        return self.state in _GRANTED


_GRANTED: Final = frozenset((ModelState.LOADING, ModelState.LOADED, ModelState.UNLOADING))


@dataclass(slots=True, kw_only=True)
class Faults:
    """What goes wrong, by chance."""

    load_fails: float = 0.0
    """Share of loads that end as failed."""
    answer_lost: float = 0.0
    """Share of commands whose answer never comes."""
    load_varies: float = 0.0
    """Up to this share longer or shorter than usual."""


class Neuron:
    """`say_hello` first. Every method takes effect at the clock's now."""

    def __init__(
        self,
        node: NodeId,
        *,
        clock: Clock,
        memory_bytes: int,
        models: tuple[Weights, ...],
        listener: Listener,
        health_every_s: float = 1.0,
        faults: Faults | None = None,
        random: random.Random,
        others: Mapping[ModelId, Weights] | None = None,
        name: str = "",
    ) -> None:
        """`others` are models that it could pull."""
        self.node = node
        self.memory_bytes = memory_bytes
        self.loads = 0
        """Begun."""
        self.refused_loads = 0
        """For which there was no room: a planner that counts right asks for none."""
        self.refused_unloads = 0
        """Of a model in use."""
        self.dead = False
        self.name = name
        self._clock = clock
        self._listener = listener
        self._random = random
        self._faults = faults or Faults()
        self._health_every_s = health_every_s
        self._others = dict(others or {})
        self._replicas = {one.model: _Replica(weights=one) for one in models}
        self._pulls: dict[ModelId, float] = {}
        self._sequence = 0
        self._life = 0
        self._telling = False

    # --- what it says

    @property
    def descriptor(self) -> NeuronDescriptor:
        return NeuronDescriptor(
            node=self.node,
            operator=OperatorId(self.node),
            version="0",
            hardware=Fingerprint(machine="x", system="y", memory_bytes=self.memory_bytes),
            name=self.name,
        )

    @property
    def free_bytes(self) -> int:
        granted = sum(one.weights.need_bytes for one in self._replicas.values() if one.granted)
        return self.memory_bytes - granted

    @property
    def loaded(self) -> frozenset[ModelId]:
        return frozenset(
            model for model, one in self._replicas.items() if one.state is ModelState.LOADED
        )

    def is_busy(self, model: ModelId) -> bool:
        one = self._replicas.get(model)
        return one is not None and bool(one.running or one.queue)

    def capabilities(self) -> tuple[ModelCapability, ...]:
        known = [
            ModelCapability(
                model=model,
                state=one.state,
                reason=one.reason,
                runtime="simulated",
                slots=one.weights.slots,
                classes=(WorkloadClass.CHAT_INTERACTIVE,),
                memory_bytes=one.weights.need_bytes,
                load_s=one.weights.load_s,
                disk_bytes=one.weights.disk_bytes,
            )
            for model, one in self._replicas.items()
        ]
        coming = [
            ModelCapability(model=model, state=ModelState.DOWNLOADING) for model in self._pulls
        ]
        return tuple(known + coming)

    def load_report(self) -> Load:
        self._sequence += 1
        now_s = self._clock.now_s
        return Load(
            sequence=self._sequence,
            memory_free_bytes=self.free_bytes,
            memory_used_bytes=self.memory_bytes - self.free_bytes,
            disk_free_bytes=1 << 40,
            replicas=tuple(
                self._replica_load(model, one)
                for model, one in self._replicas.items()
                if one.state is not ModelState.UNLOADED
            ),
            progress=tuple(self._progress(now_s)),
        )

    def _replica_load(self, model: ModelId, one: _Replica) -> ReplicaLoad:
        busy = one.running or one.queue
        waits = one.queued_s
        return ReplicaLoad(
            model=model,
            running=one.running,
            waiting=len(one.queue),
            slots=one.weights.slots,
            idle_s=0.0 if busy else self._clock.now_s - max(one.used_s, one.since_s),
            queue_s=sum(waits) / len(waits) if waits else 0.0,
            memory_bytes=one.weights.need_bytes,
        )

    def _progress(self, now_s: float) -> list[ModelProgress]:
        loading = [
            (model, Phase.LOADING, one.since_s + one.weights.load_s)
            for model, one in self._replicas.items()
            if one.state is ModelState.LOADING
        ]
        pulling = [(model, Phase.DOWNLOADING, done_s) for model, done_s in self._pulls.items()]
        return [
            ModelProgress(
                model=model, progress=Progress(phase=phase, eta_s=max(0.0, done_s - now_s))
            )
            for model, phase, done_s in (*loading, *pulling)
        ]

    def report_for_ever(self) -> None:
        """Health, as often as it was asked for, until it dies."""
        life = self._life

        def report() -> None:
            if life == self._life and not self.dead:
                load = self.load_report()
                self._clock.after(ON_THE_WAY_S, lambda: self._listener.reported(self.node, load))
                self._clock.after(self._health_every_s, report)

        report()

    def _changed(self) -> None:
        if self._telling or self.dead:
            return
        self._telling = True
        life = self._life

        def tell() -> None:
            self._telling = False
            if life == self._life:
                capabilities = self.capabilities()
                self._clock.after(
                    ON_THE_WAY_S, lambda: self._listener.announced(self.node, capabilities)
                )

        self._clock.after(SETTLE_S, tell)

    # --- what it is told

    def load(self, model: ModelId, answered: Answered) -> None:
        one = self._replicas.get(model)
        if one is None:
            self._answer(answered, "it has no such model")
        elif one.state in (ModelState.LOADED, ModelState.LOADING):
            self._answer(answered, "")
        elif one.state is ModelState.UNLOADING:
            self._answer(answered, "it is being unloaded", passing=True)
        elif one.weights.need_bytes > self.free_bytes:
            self.refused_loads += 1
            self._answer(answered, "it does not fit")
        else:
            self._begin(one, answered)

    def _begin(self, one: _Replica, answered: Answered) -> None:
        self.loads += 1
        life = self._life
        self._becomes(one, ModelState.LOADING)
        share = 1 + self._faults.load_varies * self._random.uniform(-1, 1)
        fails = self._random.random() < self._faults.load_fails

        def done() -> None:
            if life != self._life or one.state is not ModelState.LOADING:
                return
            if fails:
                self._becomes(one, ModelState.FAILED, "the runtime ended while it loaded")
                self._answer(answered, one.reason)
            else:
                self._becomes(one, ModelState.LOADED)
                self._answer(answered, "")

        self._clock.after(one.weights.load_s * share, done)

    def unload(self, model: ModelId, answered: Answered) -> None:
        """If it is idle."""
        one = self._replicas.get(model)
        if one is None or not one.granted:
            self._answer(answered, "")
        elif one.running or one.queue:
            self.refused_unloads += 1
            self._answer(answered, "it is in use", passing=True)
        else:
            life = self._life
            self._becomes(one, ModelState.UNLOADING)

            def done() -> None:
                if life == self._life:
                    self._becomes(one, ModelState.UNLOADED)
                    self._answer(answered, "")

            self._clock.after(UNLOAD_S, done)

    def pull(self, model: ModelId, answered: Answered) -> None:
        weights = self._others.get(model)
        if model in self._replicas or model in self._pulls:
            self._answer(answered, "")
        elif weights is None:
            self._answer(answered, "its source has no such model")
        else:
            life = self._life
            self._pulls[model] = self._clock.now_s + weights.pull_s
            self._changed()
            self._answer(answered, "")

            def done() -> None:
                if life == self._life:
                    del self._pulls[model]
                    self._replicas[model] = _Replica(weights=weights)
                    self._changed()

            self._clock.after(weights.pull_s, done)

    def _answer(self, answered: Answered, refusal: str, *, passing: bool = False) -> None:
        life = self._life
        if self._random.random() < self._faults.answer_lost:
            return

        def arrive() -> None:
            if life == self._life:
                answered(refusal, passing)

        self._clock.after(ON_THE_WAY_S, arrive)

    def _becomes(self, one: _Replica, state: ModelState, reason: str = "") -> None:
        one.state, one.reason, one.since_s = state, reason, self._clock.now_s
        if state is not ModelState.LOADED:
            one.queued_s.clear()
        self._changed()

    # --- requests

    def serve(self, request: Request) -> None:
        one = self._replicas.get(request.model)
        if self.dead or one is None or one.state is not ModelState.LOADED:
            self._clock.after(ON_THE_WAY_S, lambda: self._listener.came_back(self.node, request))
            return
        request.sent_s = self._clock.now_s
        one.queue.append(request)
        one.served.append(request)
        self._fill(one)

    def _fill(self, one: _Replica) -> None:
        while one.queue and one.running < one.weights.slots:
            request = one.queue.popleft()
            one.running += 1
            now_s = self._clock.now_s
            request.started_s = now_s
            one.queued_s.append(now_s - request.sent_s)
            self._listener.started(self.node, request)
            self._run(one, request)

    def _run(self, one: _Replica, request: Request) -> None:
        life = self._life

        def done() -> None:
            if life != self._life:
                return
            one.running -= 1
            one.used_s = self._clock.now_s
            one.served.remove(request)
            request.ended_s = self._clock.now_s
            self._listener.ended(self.node, request)
            self._fill(one)

        self._clock.after(request.service_s, done)

    # --- life and death

    def die(self) -> None:
        """At once; what it served comes back to the cortex."""
        self.dead = True
        self._life += 1
        for one in self._replicas.values():
            lost, one.served = one.served, []
            one.queue.clear()
            one.queued_s.clear()
            one.running = 0
            one.state = ModelState.UNLOADED
            for request in lost:
                request.started_s = None
                self._listener.came_back(self.node, request)
        self._pulls.clear()

    def rise(self) -> None:
        """With the same files and nothing loaded."""
        self.dead = False
        self._telling = False
        self._sequence = 0
