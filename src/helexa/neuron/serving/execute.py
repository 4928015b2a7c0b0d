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
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, suppress
from typing import Any, Final

import anyio
import msgspec

from helexa.neuron.serving.assemble import assembled
from helexa.neuron.serving.metrics import NeuronMetrics
from helexa.neuron.serving.relay import Relay, as_openai, payload_of
from helexa.neuron.serving.replies import (
    FROM_RUNTIME,
    JSON,
    REQUEST_ID,
    Headers,
    send_error,
    send_whole,
)
from helexa.neuron.supervisor.engine import Engine
from helexa.neuron.supervisor.replica import Replica
from helexa.neuron.supervisor.roster import Roster
from helexa.protocol.errors import (
    BodyTooLarge,
    CapabilityMissing,
    HelexaError,
    InternalFault,
    NoCapacity,
    RequestRejected,
    RuntimeExited,
    RuntimeRefused,
    UpstreamTimeout,
    in_band,
)
from helexa.protocol.ids import new_request_id
from helexa.protocol.work import Usage, WorkloadClass
from helexa.runtime import body as bodies
from helexa.runtime.contract import ChildRequest, Endpoint
from helexa.util.background import background
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
from helexa.util.upstream import (
    Response,
    UpstreamError,
    UpstreamTimedOut,
)

USAGE_HEADER: Final = b"x-helexa-usage"
BODY_TIMEOUT_S: Final = 60.0
FIRST_BYTE_TIMEOUT_S: Final = 3600.0
"""A long prompt on a slow processor; the client's patience ends it sooner."""
SILENCE_TIMEOUT_S: Final = 600.0
ANSWER_BYTES_MAX: Final = 64 * 1024 * 1024
REFUSAL_BYTES_MAX: Final = 1024 * 1024
REQUEST_ID_CHARS_MAX: Final = 128
MEASURED_TOKENS_MIN: Final = 16
_END_WITHIN_S: Final = 0.5
_KEEPALIVE: Final = b": keepalive\n\n"
_TO_CHILD: Final = (JSON,)

_NEEDS: Final = {
    Endpoint.CHAT: (WorkloadClass.CHAT_INTERACTIVE, "chat completions"),
    Endpoint.COMPLETIONS: (WorkloadClass.COMPLETION, "completions"),
    Endpoint.EMBEDDINGS: (WorkloadClass.EMBEDDING, "embeddings"),
}

log = logging.getLogger(__name__)


class _Options(msgspec.Struct):
    include_usage: bool | None = None


class _Head(msgspec.Struct):
    """The few fields that a neuron has to know itself."""

    model: str
    stream: bool | None = None
    stream_options: _Options | None = None
    n: int | None = None


_head: Final = msgspec.json.Decoder(_Head)
_chunk: Final = msgspec.json.Decoder(dict[str, Any])
_raw: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


class Executor:
    """All requests in flight, so that one can be cancelled by its id."""

    def __init__(
        self, roster: Roster, metrics: NeuronMetrics, *, body_bytes_max: int, keepalive_s: float
    ) -> None:
        self.roster = roster
        self.metrics = metrics
        self.keepalive_s = keepalive_s
        self._body_bytes_max = body_bytes_max
        self._in_flight: dict[str, set[anyio.CancelScope]] = {}

    def cancel(self, request_id: str) -> bool:
        """Stop generating for it; returns whether it was known."""
        scopes = self._in_flight.get(request_id, ())
        for scope in scopes:
            scope.cancel()
        return bool(scopes)

    async def serve(self, endpoint: Endpoint, scope: Scope, receive: Receive, send: Send) -> None:
        """One request. Raises nothing but cancellation."""
        answer = Answer(scope, send, endpoint)
        started = time.monotonic()
        outcome, work = "ok", None
        try:
            body = await self._body(scope, receive)
            work = _Work(self, endpoint, answer, body)
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
            log.exception("request failed", extra={"request": answer.request_id})
            await answer.fail(InternalFault())
        except BaseException:
            outcome = "aborted"
            raise
        finally:
            model = work.replica.spec.files.model if work and work.replica else ""
            self.metrics.ended(
                model=model,
                endpoint=endpoint,
                outcome=outcome,
                seconds=time.monotonic() - started,
                usage=work.used if work else None,
            )

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        try:
            return await read_body(
                scope, receive, bytes_max=self._body_bytes_max, timeout_s=BODY_TIMEOUT_S
            )
        except BodyTooBig as error:
            raise BodyTooLarge(bytes_max=error.bytes_max) from error
        except BodyTooSlow as error:
            raise RequestRejected(reason="The body did not arrive in time.") from error

    async def _cancellable(self, request_id: str, work: _Work) -> None:
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


class Answer:
    """What went to the client so far, which decides how a failure can still be told."""

    def __init__(self, scope: Scope, send: Send, endpoint: Endpoint) -> None:
        given = header(scope, REQUEST_ID)
        self.wants_usage = header(scope, USAGE_HEADER) == b"1"
        self.request_id = (
            given.decode("ascii", "replace")[:REQUEST_ID_CHARS_MAX] if given else new_request_id()
        )
        self.started = False
        self._ended = False
        self._marks: Headers = ((REQUEST_ID, self.request_id.encode("ascii", "replace")),)
        self._send = send
        self._endpoint = endpoint

    async def stream(self, data: bytes) -> None:
        """Part of an event stream; the headers go before the first."""
        if not self.started:
            self.started = True
            headers = [
                (b"content-type", b"text/event-stream; charset=utf-8"),
                (b"cache-control", b"no-cache"),
                (b"x-accel-buffering", b"no"),
                FROM_RUNTIME,
                *self._marks,
            ]
            await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self) -> None:
        self._ended = True
        await self._send({"type": "http.response.body", "body": b""})

    async def whole(self, body: bytes) -> None:
        self.started = self._ended = True
        await send_whole(self._send, 200, [JSON, FROM_RUNTIME, *self._marks], body)

    async def fail(self, error: HelexaError) -> None:
        """As an envelope while nothing was sent; after that as the last event of the stream."""
        if self._ended:
            return
        if not self.started:
            self.started = self._ended = True
            await send_error(self._send, error, self._marks)
            return
        await self.stream(in_band(error))
        await self.end()


class _Work:
    """One request from its body on."""

    def __init__(self, executor: Executor, endpoint: Endpoint, answer: Answer, body: bytes) -> None:
        self.replica: Replica | None = None
        self.used: Usage | None = None
        self._executor = executor
        self._endpoint = endpoint
        self._answer = answer
        self._body = body
        self._head: _Head
        self._first_at = self._last_at = 0.0

    async def run(self) -> None:
        head = self._head = bodies.typed(_head, self._body)
        replica = self.replica = await self._executor.roster.replica(head.model)
        self._check_ability(replica)
        # Also before it runs: what is wrong with a request is said without loading anything.
        spec = replica.spec
        request = replica.adapter.shape(self._endpoint, self._body, spec)
        async with replica.gate.present(), AsyncExitStack() as stack:
            if replica.engine is not None and replica.gate.has_room:
                await stack.enter_async_context(replica.gate.slot())
                engine = replica.engine
            else:
                engine = await self._waited(replica, stack)
            if engine.spec is not spec:
                request = replica.adapter.shape(self._endpoint, self._body, engine.spec)
            await self._asked(engine, request)

    def _check_ability(self, replica: Replica) -> None:
        needed, called = _NEEDS[self._endpoint]
        offered = replica.adapter.serves(replica.spec.files)
        if offered is None or needed not in offered.classes:
            raise CapabilityMissing(model=self._head.model, capability=called)

    async def _waited(self, replica: Replica, stack: AsyncExitStack) -> Engine:
        """A place and a running child; a streaming client hears that it is still awaited."""
        async with background() as tasks:
            if self._is_streaming:
                tasks.start_soon(self._keep_alive, name="keepalive")
            await stack.enter_async_context(replica.gate.slot())
            return await self._executor.roster.engine(replica)

    async def _keep_alive(self) -> None:
        while True:
            await anyio.sleep(self._executor.keepalive_s)
            await self._answer.stream(_KEEPALIVE)

    @property
    def _is_streaming(self) -> bool:
        return bool(self._head.stream) and self._endpoint is not Endpoint.EMBEDDINGS

    async def _asked(self, engine: Engine, request: ChildRequest) -> None:
        try:
            with await engine.pool.send(
                "POST",
                request.path,
                _TO_CHILD,
                request.body,
                first_byte_timeout_s=FIRST_BYTE_TIMEOUT_S,
                silence_timeout_s=SILENCE_TIMEOUT_S,
                # llama.cpp closes its connection a moment after a stream, although it promised
                # to keep it. A request that met that moment did not run, and costs none if it did.
                resend_safe=True,
            ) as response:
                await self._answered(engine, request, response)
        except UpstreamTimedOut as error:
            raise UpstreamTimeout(reason="The model's runtime fell silent.") from error
        except UpstreamError as error:
            log.warning(
                "runtime broke off", extra={"request": self._answer.request_id, "why": str(error)}
            )
            raise RuntimeExited(
                reason="The model's runtime broke off while it worked on this request."
            ) from error

    async def _answered(self, engine: Engine, request: ChildRequest, response: Response) -> None:
        while not await response.head(self._executor.keepalive_s):
            await self._still_there()
        kind = (response.header(b"content-type") or b"").partition(b";")[0].strip()
        if response.status != 200:
            body = await response.read(REFUSAL_BYTES_MAX)
            raise engine.adapter.refusal(response.status, body, engine.spec)
        if not request.streamed:
            await self._pass_whole(engine, kind, response)
            return
        if kind != b"text/event-stream":
            raise RuntimeRefused(reason="The runtime answered something that is no event stream.")
        relay = Relay(
            wants_usage=not self._is_streaming or self._wants_usage,
            choices=self._head.n or 1,
            usage=engine.adapter.usage,
            refusal=lambda payload: engine.adapter.refusal(500, payload, engine.spec),
        )
        try:
            if self._is_streaming:
                await self._pass_stream(relay, response)
            else:
                await self._assemble(relay, response)
        finally:
            self._measure(relay.total())

    @property
    def _wants_usage(self) -> bool:
        options = self._head.stream_options
        return self._answer.wants_usage or bool(options and options.include_usage)

    async def _still_there(self) -> None:
        if self._is_streaming:
            await self._answer.stream(_KEEPALIVE)

    async def _pass_whole(self, engine: Engine, kind: bytes, response: Response) -> None:
        body = await response.read(ANSWER_BYTES_MAX)
        if kind != JSON[1] or not _is_object(body):
            raise RuntimeRefused(reason="The runtime answered something that is not JSON.")
        self.used = engine.adapter.usage(body)
        await self._answer.whole(body)

    async def _pass_stream(self, relay: Relay, response: Response) -> None:
        async for passed in self._events(relay, response):
            await self._answer.stream(passed)
        # The client has its [DONE]; whoever asks after our end must find all of it accounted.
        await _let_finish(response)
        await self._answer.end()

    async def _assemble(self, relay: Relay, response: Response) -> None:
        chunks: list[dict[str, Any]] = []
        room = ANSWER_BYTES_MAX
        async for passed in self._events(relay, response):
            room -= len(passed)
            if room < 0:
                raise RuntimeRefused(reason="The runtime's answer is too long to be sent whole.")
            chunks.extend(_chunks(passed))
        if not chunks:
            raise RuntimeRefused(reason="The runtime's answer is empty.")
        whole = assembled(self._endpoint, chunks, as_openai(relay.total()) or None)
        await _let_finish(response)
        await self._answer.whole(msgspec.json.encode(whole))

    async def _events(self, relay: Relay, response: Response) -> AsyncGenerator[bytes, None]:
        """What may be passed on, until the runtime said that it is done."""
        while not relay.done:
            if not await response.ready(self._executor.keepalive_s):
                await self._still_there()
                continue
            data = await response.chunk()
            if not data:
                raise RuntimeExited(
                    reason="The model's runtime broke off while it worked on this request."
                )
            passed = relay.feed(data)
            # While nothing was sent, a failure is better told by a status: others can be tried.
            if passed and (relay.failure is None or self._answer.started):
                self._last_at = time.monotonic()
                self._first_at = self._first_at or self._last_at
                yield passed
            if relay.failure is not None:
                raise relay.failure

    def _measure(self, used: Usage | None) -> None:
        self.used = used
        if self.replica is None or used is None:
            return
        tokens, seconds = used.completion + used.reasoning, self._last_at - self._first_at
        if tokens >= MEASURED_TOKENS_MIN and seconds > 0:
            self._executor.roster.measured(self.replica.spec.files.model, (tokens - 1) / seconds)


async def _let_finish(response: Response) -> None:
    """Read the end behind the last event, so that the connection can be used again."""
    if await response.ready(_END_WITHIN_S):
        with suppress(UpstreamError):
            await response.chunk()


def _chunks(events: bytes) -> list[dict[str, Any]]:
    found = []
    for event in events.split(b"\n\n"):
        payload = payload_of(event)
        if not payload or payload == b"[DONE]":
            continue
        try:
            found.append(_chunk.decode(payload))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise RuntimeRefused(reason="The runtime sent an event that is not JSON.") from error
    return found


def _is_object(body: bytes) -> bool:
    try:
        _raw.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    return True
