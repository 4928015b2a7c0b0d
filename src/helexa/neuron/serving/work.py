"""The way of one inference request through a neuron, from its body to its last byte.

Refuse what can be refused before anything is computed; wait for a place, for the
model, for the first token, and tell a streaming client now and then that it is
still awaited; then pass on what the runtime says. However it ends - a client
that leaves, a cancel, a child that dies - the child's connection is closed on
the way out, and that is what stops a generation.
"""

from __future__ import annotations

import logging
import time
from contextlib import AsyncExitStack
from typing import Final

import anyio

from helexa.neuron.serving import lengths
from helexa.neuron.serving.answer import Answer
from helexa.neuron.serving.asking import asked
from helexa.neuron.serving.counting import Fault
from helexa.neuron.serving.fitting import Fit, fitted
from helexa.neuron.serving.head import GENERATIONS, NEEDS, PROMPTS, Head, bounds, read
from helexa.neuron.serving.passing import Passing
from helexa.neuron.serving.pictures.judging import Pictures
from helexa.neuron.serving.prompts import Prompts
from helexa.neuron.serving.replies import JSON, Headers
from helexa.neuron.serving.resuming import Course
from helexa.neuron.supervisor import pace
from helexa.neuron.supervisor.engine import Engine
from helexa.neuron.supervisor.replica import Replica
from helexa.neuron.supervisor.roster import Roster
from helexa.protocol.errors import (
    BodyMalformed,
    CapabilityMissing,
    NotContinuable,
    RequestRejected,
    RuntimeExited,
    UpstreamTimeout,
)
from helexa.protocol.openai import body as bodies
from helexa.protocol.openai import text
from helexa.protocol.trace import in_logs
from helexa.protocol.via import VIA_HEADER
from helexa.protocol.work import Usage
from helexa.runtime.contract import (
    Capabilities,
    ChildRequest,
    Endpoint,
    ReplicaSpec,
)
from helexa.runtime.shaping import shaped
from helexa.util.background import background
from helexa.util.upstream import (
    UpstreamBroken,
    UpstreamError,
    UpstreamTimedOut,
    UpstreamUnreachable,
)

FIRST_BYTE_TIMEOUT_S: Final = 3600.0
"""A long prompt on a slow processor; the client's patience ends it sooner."""
SILENCE_TIMEOUT_S: Final = 600.0
DEAD_WITHIN_S: Final = 1.0
"""From a refused connection to the exit of the child that should have taken it."""
DYING_S: Final = 0.25

log = logging.getLogger(__name__)


class _NeverAsked(RuntimeExited):
    """The child was gone before the request reached it."""

    def __init__(self) -> None:
        super().__init__(reason="The model's runtime is gone.")


class Work:
    """One request from its body on."""

    def __init__(
        self,
        roster: Roster,
        endpoint: Endpoint,
        answer: Answer,
        body: bytes,
        *,
        keepalive_s: float,
        prompts: Prompts,
        pictures: Pictures,
        model: str = "",
        displacing: bool = False,
        via: bytes = b"",
        trace: Headers = (),
        course: Course | None = None,
    ) -> None:
        """`model` is the one to serve it by, where that is not the body's.

        `displacing` lets idle models leave for it. `via` goes to servers elsewhere. `course`
        is for one that goes on with a broken stream.
        """
        self._via = via
        self._trace = trace
        self._course = course
        self._has_spoken = False
        self.replica: Replica | None = None
        self.used: Usage | None = None
        self.fault: Fault | None = None
        """Of what the runtime counted."""
        self._prompts = prompts
        self._pictures = pictures
        self._model = model
        self._roster = roster
        self._keepalive_s = keepalive_s
        self._displacing = displacing
        self._endpoint = endpoint
        self._answer = answer
        self._body = body
        self._fit = Fit(body)
        self._head: Head
        self._asked_at = 0.0

    async def run(self) -> None:
        text.check(self._body)
        head = self._head = read(self._body)
        self._model = self._model or head.model
        if not self._model:
            raise BodyMalformed("Object missing required field `model`, or it is empty.", "model")
        if self._displacing and (way := head.way):
            # A cortex has acted upon it. Here nobody is chosen, and to ignore it would be worse.
            raise RequestRejected(f"`{way}` is for a gateway: a neuron serves itself.", way)
        replica = self.replica = await self._roster.replica(self._model)
        if self._course is not None:
            self._course.check(self._roster, replica, is_streaming=self._is_streaming)
        # Before it runs: what is wrong with a request is said without loading anything.
        if await self._make_fit(replica):
            # Time has passed, and who was found may be gone.
            replica = self.replica = await self._roster.replica(self._model)
            self._check_ability(replica)
        spec = replica.spec
        request = shaped(replica.adapter, self._endpoint, self._fit.body, spec)
        async with replica.gate.present(), AsyncExitStack() as stack:
            is_large = replica.large.is_large(self._weight)
            if replica.engine is not None and replica.gate.has_room and not is_large:
                await stack.enter_async_context(replica.gate.slot())
                # It may have died while this task let others run.
                engine = await self._engine(replica)
                self._asked_at = time.monotonic()
            else:
                engine = await self._waited(replica, stack)
            try:
                await self._answered(engine, spec, request)
            except _NeverAsked:
                # It died before it heard of this request, so the next one may as well do it.
                engine = await self._successor(replica, engine)
                await self._answered(engine, spec, request)

    async def _answered(self, engine: Engine, spec: ReplicaSpec, request: ChildRequest) -> None:
        if self._course is None:
            await self._asked(self._shaped(engine, spec, request), engine)
            return
        refused: NotContinuable | None = None
        for attempt in self._course.attempts(engine, self._fit.body):
            try:
                await self._asked(await asked(engine, attempt), engine)
            except NotContinuable as error:
                if self._has_spoken:
                    raise
                refused = error
            else:
                return
        if refused is not None:
            raise refused

    async def _engine(self, replica: Replica) -> Engine:
        return await self._roster.engine(replica, displacing=self._displacing)

    def _shaped(self, engine: Engine, spec: ReplicaSpec, request: ChildRequest) -> ChildRequest:
        """Shaped again where the running child taught what the files did not say."""
        if engine.spec is spec:
            return request
        return shaped(engine.adapter, self._endpoint, self._fit.body, engine.spec)

    async def _successor(self, replica: Replica, dead: Engine) -> Engine:
        """The child that comes after one that died, once it runs."""
        if not dead.process.pid:
            # Of a server elsewhere nothing tells when it is back, and another neuron may serve.
            raise _NeverAsked
        with anyio.move_on_after(DEAD_WITHIN_S) as patience:
            await dead.exited()
        if patience.cancelled_caught:
            raise _NeverAsked
        while replica.engine is dead:
            # Its owner hears of the exit in this very moment, too.
            await anyio.lowlevel.checkpoint()
        async with background() as tasks:
            if self._is_streaming:
                tasks.start_soon(self._keep_alive, name="keepalive")
            return await self._engine(replica)

    async def _make_fit(self, replica: Replica) -> bool:
        """Whether that may have taken time."""
        offered = self._check_ability(replica)
        await lengths.check(self._endpoint, self._body, replica.spec)
        self._fit = await fitted(
            self._endpoint, self._body, replica.adapter, replica.spec, offered, self._pictures
        )
        return self._fit.took_time

    def _check_ability(self, replica: Replica) -> Capabilities:
        needed, called = NEEDS[self._endpoint]
        offered = replica.adapter.serves(replica.spec.files)
        if offered is None or needed not in offered.classes:
            raise CapabilityMissing(
                model=self._model, capability=called, runtime=replica.adapter.name
            )
        return offered

    async def _waited(self, replica: Replica, stack: AsyncExitStack) -> Engine:
        """A place and a running child; a streaming client hears that it is still awaited."""
        async with background() as tasks:
            if self._is_streaming:
                tasks.start_soon(self._keep_alive, name="keepalive")
            await stack.enter_async_context(replica.large.turn(self._weight))
            await stack.enter_async_context(replica.gate.slot())
            return await self._engine(replica)

    @property
    def _weight(self) -> int:
        """Bytes of text for a child of ours: pictures are no text, and other servers see to it."""
        is_elsewhere = self.replica is not None and self.replica.spec.files.server
        return 0 if is_elsewhere or self._fit.took_time else len(self._body)

    async def _keep_alive(self) -> None:
        while True:
            await anyio.sleep(self._keepalive_s)
            await self._answer.keep_alive()

    @property
    def _is_streaming(self) -> bool:
        return bool(self._head.stream) and self._endpoint in GENERATIONS

    async def _asked(self, request: ChildRequest, engine: Engine) -> None:
        """Ask and answer. Raises _NeverAsked when the child does not listen any more."""
        asked_at = time.monotonic()
        passing = Passing(
            self._endpoint,
            self._answer,
            self._body,
            streaming=self._is_streaming,
            wants_usage=self._answer.wants_usage or self._head.wants_usage,
            finish=self._fit.finish,
            keepalive_s=self._keepalive_s,
        )
        try:
            with await engine.pool.send(
                request.method,
                request.path,
                (JSON, *engine.plan.headers, *self._trace, *self._passage(engine)),
                request.body,
                first_byte_timeout_s=FIRST_BYTE_TIMEOUT_S,
                silence_timeout_s=SILENCE_TIMEOUT_S,
                # llama.cpp closes its connection a moment after a stream, although it promised
                # to keep it. A request that met that moment did not run, and costs none if it did.
                resend_safe=True,
            ) as response:
                try:
                    await passing.pass_on(
                        engine,
                        request,
                        response,
                        bounds(self._head, self._endpoint, self._body, engine.spec),
                    )
                finally:
                    self.fault = passing.fault
                    self._has_spoken |= passing.pieces > 0
                    self._measure(engine, passing)
        except UpstreamUnreachable as error:
            raise _NeverAsked from error
        except UpstreamBroken as error:
            # A dying process still takes connections for a moment. Later than that it may
            # have died of this very request, which must not be given to the next one, too.
            if not passing.is_heard and time.monotonic() - asked_at < DYING_S:
                raise _NeverAsked from error
            raise self._broken_off(error) from error
        except UpstreamTimedOut as error:
            raise UpstreamTimeout(reason="The model's runtime fell silent.") from error
        except UpstreamError as error:
            raise self._broken_off(error) from error

    def _passage(self, engine: Engine) -> Headers:
        """What a server that is not ours has to know of the way so far."""
        return ((VIA_HEADER, self._via),) if self._via and not engine.process.pid else ()

    def _broken_off(self, error: UpstreamError) -> RuntimeExited:
        trace = in_logs(self._trace[0][1]) if self._trace else {}
        extra = {"request": self._answer.request_id, "why": str(error), **trace}
        log.warning("runtime broke off", extra=extra)
        return RuntimeExited(
            reason="The model's runtime broke off while it worked on this request."
        )

    def _measure(self, engine: Engine, passing: Passing) -> None:
        used = self.used = passing.used
        if self._course is not None:
            used = self.used = self._course.own(used)
        if self.replica is None or used is None:
            return
        tokens, seconds = used.completion + used.reasoning, passing.last_at - passing.first_at
        # Of one that waited it would say how full this neuron was, which is told by itself.
        is_known = self._asked_at and passing.first_at
        self._roster.measured(
            self.replica.spec.files.model,
            tokens_per_s=pace.of_answer(tokens, passing.pieces, seconds),
            first_token_s=passing.first_at - self._asked_at if is_known else 0.0,
        )
        if (member := PROMPTS.get(self._endpoint)) is not None:
            heads = bodies.prompt_heads(self._body, member)
            self._prompts.served(self.replica, engine, heads, used.total)
