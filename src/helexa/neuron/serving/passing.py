"""What one engine says about one request, on its way to the client.

As a stream or put together, as the client wants it and whatever the engine chose. What
cannot be an answer becomes a typed error, as a status while nothing was sent.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from typing import Any, Final, TypeAlias

import msgspec

from helexa.neuron.serving.answer import Answer
from helexa.neuron.serving.assemble import assembled
from helexa.neuron.serving.blame import name_field
from helexa.neuron.serving.counting import Bounds, Fault, settled
from helexa.neuron.serving.half_openai import as_stream, told_to_wait
from helexa.neuron.serving.moment import Moment
from helexa.neuron.serving.relay import Relay, as_shown, is_said, payload_of
from helexa.neuron.serving.replies import JSON
from helexa.neuron.supervisor.engine import Engine
from helexa.protocol.errors import RuntimeExited, RuntimeMalformed, RuntimeRefused
from helexa.protocol.openai import body as bodies
from helexa.protocol.work import Usage
from helexa.runtime.contract import ChildRequest, Endpoint
from helexa.util.upstream import Response, UpstreamError

ANSWER_BYTES_MAX: Final = 64 * 1024 * 1024
REFUSAL_BYTES_MAX: Final = 1024 * 1024
_END_WITHIN_S: Final = 0.5

Passed: TypeAlias = AsyncGenerator[bytes, None]
"""Whole events, as they may go to the client."""

_chunk: Final = msgspec.json.Decoder(dict[str, Any])
_raw: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


class Passing:
    def __init__(
        self,
        endpoint: Endpoint,
        answer: Answer,
        body: bytes,
        *,
        streaming: bool,
        wants_usage: bool,
        finish: Callable[[bytes], bytes] | None,
        keepalive_s: float,
    ) -> None:
        """`body`, `streaming` and `wants_usage` are the client's; `finish` is the last touch to an
        answer of the engine that is whole.
        """
        self.is_heard = False
        """Whether the engine said anything."""
        self.used: Usage | None = None
        self.fault: Fault | None = None
        """Of what the engine counted."""
        self.first_at = self.last_at = 0.0
        """When something was passed on."""
        self.pieces = 0
        """In how many reads it came."""
        self._endpoint = endpoint
        self._answer = answer
        self._body = body
        self._is_streaming = streaming
        self._wants_usage = wants_usage
        self._finish = finish
        self._keepalive_s = keepalive_s
        self._moment = Moment()

    async def pass_on(
        self, engine: Engine, request: ChildRequest, response: Response, bounds: Bounds
    ) -> None:
        """All of it, to the end. Raises what the engine's answer means where that is no answer,
        and UpstreamError.
        """
        while not await response.head(self._keepalive_s):
            await self._still_there()
        self.is_heard = True
        kind = (response.header(b"content-type") or b"").partition(b";")[0].strip().lower()
        if response.status != 200:
            body = await response.read(REFUSAL_BYTES_MAX)
            refusal = engine.adapter.refusal(response.status, body, engine.spec)
            name_field(refusal, self._endpoint, self._body)
            raise told_to_wait(refusal, response.header(b"retry-after"))
        if not request.streamed:
            await self._pass_whole(engine, kind, response, request, bounds)
            return
        if kind not in (b"text/event-stream", JSON[1]):
            raise RuntimeMalformed(reason="The runtime answered something that is no event stream.")
        relay = Relay(
            wants_usage=not self._is_streaming or self._wants_usage,
            bounds=bounds,
            usage=engine.adapter.usage,
            refusal=lambda payload: engine.adapter.refusal(500, payload, engine.spec),
            rewrite=request.rewrite() if request.rewrite is not None else None,
        )
        try:
            is_whole = kind == JSON[1]
            events = self._of_whole(relay, response) if is_whole else self._events(relay, response)
            if self._is_streaming:
                await self._pass_stream(events, response)
            else:
                await self._assemble(events, relay, response)
        finally:
            self.used = relay.total()
            if relay.done:
                self.fault = relay.fault

    async def _still_there(self) -> None:
        if self._is_streaming:
            await self._answer.keep_alive()

    async def _pass_whole(
        self,
        engine: Engine,
        kind: bytes,
        response: Response,
        request: ChildRequest,
        bounds: Bounds,
    ) -> None:
        body = await response.read(ANSWER_BYTES_MAX)
        if kind != JSON[1] or not _is_object(body):
            raise RuntimeMalformed(reason="The runtime answered something that is not JSON.")
        if request.rewrite is not None:
            body = request.rewrite().whole(body)
        if self._finish is not None:
            body = self._finish(body)
        said = engine.adapter.usage(body)
        self.used, self.fault = settled([said] if said else [], bounds)
        fields = _raw.decode(body)
        if said is None and is_said(fields.get("usage", b"null")):
            # No counts that anybody could read: a client gets none rather than these.
            self.fault = Fault.WRONG
            del fields["usage"]
            body = msgspec.json.encode(fields)
        elif self.fault is Fault.WRONG:
            counts = as_shown(self.used, self.fault)
            body = bodies.with_changes(fields, {"usage": counts})
        await self._answer.whole(body)

    async def _pass_stream(self, events: Passed, response: Response) -> None:
        async for passed in events:
            await self._answer.stream(passed)
        # The client has its [DONE]; whoever asks after our end must find all of it accounted.
        await _let_finish(response)
        await self._answer.end()

    async def _assemble(self, events: Passed, relay: Relay, response: Response) -> None:
        chunks: list[dict[str, Any]] = []
        room = ANSWER_BYTES_MAX
        async for passed in events:
            room -= len(passed)
            if room < 0:
                raise RuntimeRefused(reason="The runtime's answer is too long to be sent whole.")
            chunks.extend(_chunks(passed))
        if not chunks:
            raise RuntimeMalformed(reason="The runtime's answer is empty.")
        whole = assembled(self._endpoint, chunks, relay.shown() or None)
        await _let_finish(response)
        await self._answer.whole(msgspec.json.encode(whole))

    async def _events(self, relay: Relay, response: Response) -> Passed:
        """What may be passed on, until the runtime said that it is done."""
        spoke_at = time.monotonic()
        while not relay.done:
            if not await response.ready(self._keepalive_s):
                await self._still_there()
                spoke_at = time.monotonic()
                continue
            data = await response.chunk()
            if passed := self._passed(relay, relay.feed(data) if data else relay.ended()):
                yield passed
                spoke_at = self.last_at
            elif time.monotonic() - spoke_at > self._keepalive_s and relay.failure is None:
                # An engine may say much of which a client hears nothing.
                await self._still_there()
                spoke_at = time.monotonic()
            if relay.failure is not None:
                raise relay.failure
            if not data and not relay.done:
                raise RuntimeExited(
                    reason="The model's runtime broke off while it worked on this request."
                )

    async def _of_whole(self, relay: Relay, response: Response) -> Passed:
        """The same for an answer in one piece, although a stream was asked for."""
        while not await response.ready(self._keepalive_s):
            await self._still_there()
        body = await response.read(ANSWER_BYTES_MAX)
        if passed := self._passed(relay, relay.feed(as_stream(body))):
            yield passed
        if relay.failure is not None:
            raise relay.failure

    def _passed(self, relay: Relay, data: bytes) -> bytes:
        # While nothing was sent, a failure is better told by a status: others can be tried.
        if not data or (relay.failure is not None and not self._answer.started):
            return b""
        self.last_at = time.monotonic()
        self.first_at = self.first_at or self.last_at
        self.pieces += 1
        return self._moment.kept(data)


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
            raise RuntimeMalformed(reason="The runtime sent an event that is not JSON.") from error
    return found


def _is_object(body: bytes) -> bool:
    try:
        _raw.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    return True
