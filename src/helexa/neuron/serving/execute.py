"""All inference requests of a neuron: begun, accounted when they end, cancelled by their id."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Final, TypeAlias

import anyio

from helexa.neuron.serving.answer import Answer
from helexa.neuron.serving.metrics import NeuronMetrics
from helexa.neuron.serving.pictures.judging import PictureRules, Pictures
from helexa.neuron.serving.prompts import Prompts
from helexa.neuron.serving.resuming import DELIVERED_BYTES_MAX, Course, Resume, course
from helexa.neuron.serving.tokens import Tokenizing, TokenWork
from helexa.neuron.serving.work import Work
from helexa.neuron.supervisor.roster import Roster
from helexa.protocol.errors import (
    BodyTooLarge,
    Draining,
    HelexaError,
    InternalFault,
    NoCapacity,
    RequestRejected,
    RuntimeExited,
    RuntimeMalformed,
    RuntimeRefused,
    UpstreamTimeout,
)
from helexa.protocol.routing import MODEL_HEADER
from helexa.protocol.trace import PARENT_HEADER, STATE_HEADER, in_logs, passed_on
from helexa.protocol.via import VIA_HEADER, new_mark, onward
from helexa.runtime.contract import Endpoint
from helexa.util.http_server import (
    BodyTooBig,
    BodyTooSlow,
    ClientGone,
    Receive,
    Scope,
    Send,
    UntilDisconnect,
    header,
    read_body,
)

BODY_TIMEOUT_S: Final = 60.0

_RUNTIME_FAULTS: Final = frozenset(
    one.code for one in (RuntimeExited, RuntimeMalformed, RuntimeRefused, UpstreamTimeout)
)

Kind: TypeAlias = Endpoint | TokenWork | Resume

log = logging.getLogger(__name__)


class Executor:
    """All requests in flight, so that one can be cancelled by its id."""

    def __init__(
        self,
        roster: Roster,
        metrics: NeuronMetrics,
        *,
        body_bytes_max: int,
        keepalive_s: float,
        pictures: Pictures | None = None,
        mark: bytes = b"",
    ) -> None:
        """`mark` is this neuron's in what it asks of servers, see `protocol.via`."""
        self._roster = roster
        self._mark = mark or new_mark()
        self._metrics = metrics
        self._keepalive_s = keepalive_s
        self._body_bytes_max = body_bytes_max
        self._pictures = pictures or Pictures(PictureRules())
        self.prompts = Prompts()
        """What was served, as far as the engines may hold it."""
        self._in_flight: dict[str, set[anyio.CancelScope]] = {}

    def cancel(self, request_id: str) -> bool:
        """Stop generating for it; returns whether it was known."""
        scopes = self._in_flight.get(request_id, ())
        for scope in scopes:
            scope.cancel()
        return bool(scopes)

    def check_way(self, via: bytes) -> None:
        """Raises LoopDetected for what came from this neuron itself."""
        onward(via, self._mark)

    async def serve(
        self,
        kind: Kind,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        from_cortex: bool = False,
    ) -> None:
        """One request. Raises nothing but cancellation."""
        answer = Answer(scope, send)
        started = time.monotonic()
        outcome = "ok"
        work: Work | Tokenizing | None = None
        try:
            more = DELIVERED_BYTES_MAX if kind is Resume.CONTINUE else 0
            body = await self._body(scope, receive, self._body_bytes_max + more)
            work = self._work(kind, scope, answer, body, from_cortex=from_cortex)
            with UntilDisconnect(scope) as client:
                await self._cancellable(answer.request_id, work)
            if client.gone:
                outcome = "client_gone"
        except ClientGone:
            outcome = "client_gone"
        except HelexaError as error:
            outcome = error.code
            await answer.fail(error)
        except Exception:
            outcome = InternalFault.code
            about = {"request": answer.request_id, **in_logs(header(scope, PARENT_HEADER))}
            log.exception("request failed", extra=about)
            await answer.fail(InternalFault())
        except asyncio.CancelledError:
            outcome = Draining.code
            await answer.fail(Draining("This node is shutting down."))
            raise
        finally:
            model = work.replica.spec.files.model if work and work.replica else ""
            self._metrics.ended(
                model=model,
                endpoint=kind.name.lower(),
                outcome=outcome,
                seconds=time.monotonic() - started,
                usage=work.used if work else None,
                fault=fault_of(outcome, work),
            )

    def _work(
        self, kind: Kind, scope: Scope, answer: Answer, body: bytes, *, from_cortex: bool
    ) -> Work | Tokenizing:
        model = _named(scope) if from_cortex else ""
        # A cortex knows more neurons than this, and decides itself who leaves where.
        displacing = not from_cortex
        if isinstance(kind, TokenWork):
            return Tokenizing(
                self._roster,
                kind,
                answer,
                body,
                pictures=self._pictures,
                model=model,
                displacing=displacing,
            )
        going: Course | None = None
        if isinstance(kind, Resume):
            going = course(body)
            kind, body = going.endpoint, bytes(going.wanted.request)
            model = model or going.wanted.model
        return Work(
            self._roster,
            kind,
            answer,
            body,
            keepalive_s=self._keepalive_s,
            prompts=self.prompts,
            pictures=self._pictures,
            model=model,
            displacing=displacing,
            via=onward(header(scope, VIA_HEADER), self._mark),
            trace=passed_on(header(scope, PARENT_HEADER), header(scope, STATE_HEADER)),
            course=going,
        )

    async def _body(self, scope: Scope, receive: Receive, bytes_max: int) -> bytes:
        try:
            return await read_body(scope, receive, bytes_max=bytes_max, timeout_s=BODY_TIMEOUT_S)
        except BodyTooBig as error:
            raise BodyTooLarge(bytes_max=error.bytes_max) from error
        except BodyTooSlow as error:
            raise RequestRejected(reason="The body did not arrive in time.") from error

    async def _cancellable(self, request_id: str, work: Work | Tokenizing) -> None:
        with anyio.CancelScope() as cancel:
            scopes = self._in_flight.setdefault(request_id, set())
            scopes.add(cancel)
            try:
                await work.run()
            finally:
                scopes.discard(cancel)
                if not scopes:
                    del self._in_flight[request_id]
        if cancel.cancelled_caught:
            raise NoCapacity(reason="This request was cancelled.")


def fault_of(outcome: str, work: Work | Tokenizing | None) -> str:
    """What the model's runtime did wrong, in a word; empty where it did nothing wrong."""
    if outcome in _RUNTIME_FAULTS:
        return outcome
    return work.fault.value if work is not None and work.fault is not None else ""


def _named(scope: Scope) -> str:
    """The model that a cortex asks for, where its client said an alias or fell back to another."""
    return (header(scope, MODEL_HEADER) or b"").decode("latin-1")
