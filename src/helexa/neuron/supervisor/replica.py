"""One replica and the task that owns it.

The owner takes events from a bounded inbox, asks `step` what they mean and does
that. Everybody else posts, or waits for the state to be one that they can use.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final, TypeAlias, assert_never

import anyio
from anyio.abc import TaskGroup

from helexa.neuron.supervisor.engine import Engine, NotStarted
from helexa.neuron.supervisor.gate import Gate
from helexa.neuron.supervisor.large import LargeTurns
from helexa.neuron.supervisor.step import (
    BackoffElapsed,
    BecameReady,
    Event,
    Exited,
    Launch,
    Phase,
    Policy,
    Report,
    State,
    Stop,
    Wait,
    WantStarted,
    WantStopped,
    step,
)
from helexa.protocol.errors import NoCapacity, RuntimeExited
from helexa.runtime.contract import Exit, ExitReason, ReplicaSpec, RuntimeAdapter
from helexa.util.backoff import Backoff

INBOX_MAX: Final = 64
_BACKOFF: Final = Backoff(first_s=0.1, factor=3.0, most_s=15.0)

log = logging.getLogger(__name__)

LaunchEngine: TypeAlias = Callable[[ReplicaSpec], AbstractAsyncContextManager[Engine]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What a replica needs of the world around it."""

    launch: LaunchEngine
    clock: Callable[[], float]
    random: Callable[[], float]
    changed: Callable[[], None]
    """Called after each change of state, by the owner; must not wait."""
    idle: Callable[[], None]
    """Called when the last request has left; must not wait."""


@dataclass(frozen=True, slots=True)
class _Posted:
    event: Event
    taken: anyio.Event


class Replica:
    def __init__(
        self,
        adapter: RuntimeAdapter,
        spec: ReplicaSpec,
        means: Means,
        *,
        queue_max: int,
        policy: Policy | None = None,
    ) -> None:
        self.adapter = adapter
        self.asked = spec
        """As it was asked for; `spec` is that and what was learnt since."""
        self.spec = spec
        self.gate = Gate(spec.slots, queue_max, clock=means.clock, left=means.idle)
        self.large = LargeTurns(spec.context_tokens)
        self.state = State()
        self.engine: Engine | None = None
        """Set while ready."""
        self._means = means
        self._policy = policy or Policy()
        self._post, self._inbox = anyio.create_memory_object_stream[_Posted](INBOX_MAX)
        self._changed = anyio.Event()
        self._child = anyio.CancelScope()
        self._askers = 0
        self._untaken = 0

    @property
    def is_asked(self) -> bool:
        """Whether somebody waits for it to start, or left before it was even tried."""
        return self._askers > 0 or self._untaken > 0

    @property
    def idle_s(self) -> float:
        """Since it last served somebody or became ready; 0 where it serves or does not run."""
        return self.gate.idle_s if self.engine is not None else 0.0

    @property
    def is_idle(self) -> bool:
        """It serves, and nobody uses it or waits for it."""
        return self.engine is not None and not self.gate.present_count and not self.is_asked

    async def own(self) -> None:
        """The owner's task; runs until cancelled, and then no child is left."""
        with self._post, self._inbox:
            async with anyio.create_task_group() as tasks:
                async for posted in self._inbox:
                    self._untaken -= 1
                    self._act(posted.event, tasks)
                    posted.taken.set()
                    if not self.state.holds_memory and not self.is_asked:
                        # Whoever asked may be gone, and with it who would have said so.
                        self._means.changed()

    async def ready(self) -> Engine:
        """Start it where it is not started, and return when it serves.

        Raises RuntimeExited with the reason when it would not start, NoCapacity
        when somebody stopped it meanwhile.
        """
        if self.engine is not None:
            return self.engine
        return await self._start(WantStarted(at=self._means.clock()))

    async def load(self) -> Engine:
        """`ready`, for a person who insists."""
        return await self._start(WantStarted(at=self._means.clock(), insist=True))

    async def stop(self) -> None:
        """Return when it is stopped."""
        await self._tell(WantStopped())
        while self.state.phase is Phase.STOPPING:
            await self._changed.wait()

    def retire(self) -> None:
        """Its owner ends once what was posted is done. Only for a stopped or given-up one."""
        self._post.close()

    async def _start(self, event: WantStarted) -> Engine:
        self._askers += 1
        try:
            await self._tell(event)
            return await self._serving()
        finally:
            self._askers -= 1

    async def _serving(self) -> Engine:
        while True:
            if self.engine is not None:
                return self.engine
            match self.state.phase:
                case Phase.FAILED:
                    raise RuntimeExited(
                        reason=f"{self.spec.files.model!r} could not be run: {self.state.reason} "
                        f"({self.state.reason_code})."
                    )
                case Phase.STOPPED:
                    raise NoCapacity(reason=f"{self.spec.files.model!r} was stopped.")
                case _:
                    await self._changed.wait()

    async def _tell(self, event: Event) -> None:
        posted = _Posted(event, anyio.Event())
        await self._post.send(posted)
        self._untaken += 1
        await posted.taken.wait()

    def _act(self, event: Event, tasks: TaskGroup) -> None:
        self.state, effects = step(self.state, event, self._policy)
        for effect in effects:
            match effect:
                case Launch():
                    # Made here, so that a stop which comes before the task runs is not lost.
                    self._child = anyio.CancelScope()
                    name = f"child of {self.spec.files.model}"
                    tasks.start_soon(self._attend, self._child, name=name)
                case Stop():
                    self._child.cancel()
                case Wait(failures=failures, launches=launches):
                    tasks.start_soon(self._back_off, failures, launches, name="backoff")
                case Report():
                    self._report()
                case _:
                    assert_never(effect)

    def _report(self) -> None:
        level = logging.WARNING if self.state.reason else logging.INFO
        extra = {"model": self.spec.files.model, "reason": self.state.reason}
        log.log(level, "replica %s", self.state.phase.value, extra=extra)
        changed, self._changed = self._changed, anyio.Event()
        changed.set()
        self._means.changed()

    async def _back_off(self, failures: int, launches: int) -> None:
        await anyio.sleep(_BACKOFF.delay_s(failures, self._means.random))
        await self._tell(BackoffElapsed(launches=launches))

    async def _attend(self, scope: anyio.CancelScope) -> None:
        """One child from its start to its end, whichever way it ends."""
        ended = Exit(reason=ExitReason.STOPPED, detail="stopped")
        with scope:
            try:
                async with self._means.launch(self.spec) as engine:
                    ended = await self._live(engine)
            except NotStarted as error:
                ended = error.exit
            except OSError as error:
                # Its message may hold paths; the log is for the operator.
                log.warning("child not started", extra={"error": str(error)})
                ended = Exit(reason=ExitReason.UNKNOWN, detail="the child could not be started")
        await self._tell(Exited(at=self._means.clock(), exit=ended))

    async def _live(self, engine: Engine) -> Exit:
        ended = Exit(reason=ExitReason.STOPPED, detail="stopped")

        async def until(end: Callable[[], Awaitable[Exit]]) -> None:
            nonlocal ended
            ended = await end()
            # Nobody may be sent to a dead child while the block around it winds down.
            self.engine = None
            tasks.cancel_scope.cancel()

        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(until, engine.exited, name="until exit")
                tasks.start_soon(until, engine.overgrown, name="until it is overgrown")
                stuck = await engine.ready()
                if stuck is not None:
                    ended = stuck
                    tasks.cancel_scope.cancel()
                else:
                    self.spec = engine.spec
                    self.engine = engine
                    self.gate.opened()
                    await self._tell(BecameReady())
                    tasks.start_soon(until, engine.hung, name="until it hangs")
        finally:
            # Also when it is stopped: whoever asks for the next one must not get this one.
            self.engine = None
        return ended
