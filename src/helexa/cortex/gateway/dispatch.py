"""One admitted request to one of its targets, and the answer back to the client.

Until the client was sent a byte of an answer, a failed attempt is repeated on
the next target and nobody sees it. After that the stream ends with an event that
says why: a truncated answer must never look like a complete one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec

from helexa.cortex.gateway.admission import Ticket
from helexa.cortex.gateway.answer import Answer
from helexa.cortex.gateway.envelope import PassedOn, event_of
from helexa.cortex.gateway.seams import Fleet, Way
from helexa.cortex.gateway.usage import UsageTap
from helexa.protocol.errors import (
    Busy,
    ErrorEnvelope,
    HelexaError,
    NoCapacity,
    PeerLost,
    RuntimeRefused,
    UpstreamFailed,
    UpstreamTimeout,
)
from helexa.protocol.routing import RoutingDecision
from helexa.protocol.sse import EventTooLong
from helexa.protocol.work import Usage
from helexa.util.upstream import (
    Headers,
    PoolFull,
    Response,
    UpstreamBroken,
    UpstreamError,
    UpstreamTimedOut,
)

ATTEMPTS_MAX: Final = 3
ANSWER_BYTES_MAX: Final = 64 * 1024 * 1024
"""Of an answer that is not streamed: many embeddings fit."""
REFUSAL_BYTES_MAX: Final = 64 * 1024
ELSEWHERE: Final = frozenset((429, 502, 503, 507))
"""A neuron's refusals that say nothing about what another neuron would answer."""

_refusal: Final = msgspec.json.Decoder(ErrorEnvelope)


@dataclass(slots=True)
class Job:
    """What is sent, and how the client wants it answered."""

    ticket: Ticket
    path: str
    body: bytes
    headers: Headers
    stream: bool
    show_usage: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    first_byte_timeout_s: float
    silence_timeout_s: float
    """A streaming neuron sends at least a comment far more often than this."""
    keepalive_s: float


class _Elsewhere(Exception):
    """Nothing came of an attempt and nothing was sent: try the next target."""

    def __init__(self, error: HelexaError) -> None:
        super().__init__(error)
        self.error = error


class Dispatch:
    def __init__(self, fleet: Fleet, patience: Patience) -> None:
        self._fleet = fleet
        self._patience = patience

    async def serve(self, job: Job, decision: RoutingDecision, answer: Answer) -> Usage | None:
        """Answer the client completely. Raises the last attempt's HelexaError when none worked."""
        failure: HelexaError = NoCapacity()
        model = job.ticket.model
        for target in decision.targets[:ATTEMPTS_MAX]:
            try:
                way = self._fleet.way(target)
            except HelexaError as error:
                failure = error
                continue
            self._fleet.started(target, model)
            try:
                return await self._attempt(job, way, answer)
            except _Elsewhere as elsewhere:
                failure = elsewhere.error
            finally:
                self._fleet.finished(target, model)
        raise failure

    async def _attempt(self, job: Job, way: Way, answer: Answer) -> Usage | None:
        patience = self._patience
        try:
            with await way.pool.send(
                "POST",
                job.path,
                [*job.headers, *way.headers],
                job.body,
                first_byte_timeout_s=patience.first_byte_timeout_s,
                silence_timeout_s=patience.silence_timeout_s,
                # Work repeated costs time and changes nothing.
                resend_safe=True,
            ) as response:
                if job.stream:
                    while not await response.head(patience.keepalive_s):
                        await answer.keepalive()
                else:
                    await response.head()
                if response.status != 200:
                    await self._refused(response)
                if _is_stream(response):
                    return await self._stream(job, response, answer)
                body = await response.read(ANSWER_BYTES_MAX)
                content_type = response.header(b"content-type") or b"application/json"
        except UpstreamTimedOut as error:
            raise UpstreamTimeout("The node did not answer in time.") from error
        except PoolFull as error:
            raise _Elsewhere(Busy("Too many requests wait for the same node.")) from error
        except UpstreamError as error:
            raise _Elsewhere(PeerLost("The node that served this request was lost.")) from error
        if answer.started:
            # Comments promised a stream; a body without events is a neuron's fault.
            raise RuntimeRefused("The node did not answer with a stream.")
        await answer.whole(200, content_type, body)
        return None

    async def _refused(self, response: Response) -> None:
        """Raise what a neuron's error answer means."""
        body = await response.read(REFUSAL_BYTES_MAX)
        error: HelexaError
        try:
            _refusal.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            error = RuntimeRefused(f"The node answered {response.status} without saying why.")
        else:
            error = PassedOn(body, response.status, response.header(b"retry-after"))
        if response.status in ELSEWHERE:
            raise _Elsewhere(error)
        raise error

    async def _stream(self, job: Job, response: Response, answer: Answer) -> Usage | None:
        while not await response.ready(self._patience.keepalive_s):
            await answer.keepalive()
        tap = UsageTap(show=job.show_usage)
        # An error here, before a byte of the answer, is the next target's chance.
        chunk = await response.chunk()
        if not chunk:
            raise UpstreamBroken("an empty stream")
        await answer.begin_stream()
        failure: HelexaError | None = None
        try:
            while chunk:
                if data := tap.pass_on(chunk):
                    await answer.write(data)
                chunk = await response.chunk()
        except UpstreamTimedOut:
            failure = UpstreamTimeout("The node fell silent while it answered.")
        except UpstreamError:
            failure = PeerLost("The node was lost while it answered.")
        except EventTooLong:
            failure = UpstreamFailed("The node sent an event that is too long.")
        if failure is None:
            rest = tap.rest()
            if not (tap.is_done or tap.is_failed):
                failure = UpstreamFailed("The node ended its answer before it was complete.")
            elif rest:
                await answer.write(rest)
        await answer.end(event_of(failure) if failure is not None else b"")
        return tap.usage


def _is_stream(response: Response) -> bool:
    content_type = response.header(b"content-type")
    return content_type is not None and content_type.startswith(b"text/event-stream")
