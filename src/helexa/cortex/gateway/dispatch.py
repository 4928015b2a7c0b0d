"""One admitted request to one of its targets, and the answer back to the client.

Until the client was sent a byte of an answer, a failed attempt is repeated on
the next target and nobody sees it. After that the stream ends with an event that
says why: a truncated answer must never look like a complete one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Self

import msgspec

from helexa.cortex.gateway.answer import Answer
from helexa.cortex.gateway.envelope import PassedOn
from helexa.cortex.gateway.seams import Attempt, Fleet, Ticket, Way
from helexa.cortex.gateway.usage import UsageTap
from helexa.cortex.gateway.waiting import Asked, Waiting
from helexa.cortex.settings import CortexSettings
from helexa.protocol.errors import (
    Busy,
    CapabilityMissing,
    DoesNotFit,
    Draining,
    ErrorEnvelope,
    HelexaError,
    ModalityUnsupported,
    ModelLoading,
    NoCapacity,
    PeerLost,
    RuntimeRefused,
    UpstreamFailed,
    UpstreamTimeout,
)
from helexa.protocol.ids import ModelId
from helexa.protocol.routing import MODEL_HEADER, RouteHints, RoutingDecision, Target
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
ROUNDS_MAX: Final = 5
"""Times that the fleet is asked anew, where every target was gone before it answered."""
SETTLES_S: Final = 0.1
"""Until a neuron's news about what it took or gave up are here."""
_MOVES: Final = frozenset((PeerLost.code, DoesNotFit.code, Draining.code))
"""A target's last word that says: what it served is served elsewhere, or soon will be."""
ANSWER_BYTES_MAX: Final = 64 * 1024 * 1024
"""Of an answer that is not streamed: many embeddings fit."""
REFUSAL_BYTES_MAX: Final = 64 * 1024
ELSEWHERE: Final = frozenset((429, 502, 503, 507, 508))
"""A neuron's refusals that say nothing about what another neuron would answer."""
OF_ITS_RUNTIME: Final = frozenset((CapabilityMissing.code, ModalityUnsupported.code))
"""Another neuron may run the same model by another runtime, which can."""
STRANGE_HERE: Final = 401
"""A neuron's: it let go of this cortex' link a moment before that was seen here. No client's key
ever reaches a neuron, so nothing is said about one."""
CLIENTS_FAULT: Final = frozenset((400, 413, 422))
"""The only refusals of a peer that hold everywhere: what it lends and knows is its own matter."""
REASONS_MAX: Final = 5
SAID_CHARS_MAX: Final = 300
"""Of what another cortex answered, inside our own refusal."""
SILENCE_KEEPALIVES: Final = 6
"""A neuron that misses this many of its own keepalive comments in a row is dead."""
SILENCE_S_MIN: Final = 30.0
"""But a neuron has keepalive settings of its own; this is three times its default."""
_LOCAL: Final = b"x-helexa-served-by: local\r\n"

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
    hints: RouteHints
    body_model: ModelId
    """What the body asks for; a target that is to take another model is told beside it."""
    max_wait_s: float | None = None
    """How long it may wait for its model, where the client said so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    first_byte_timeout_s: float
    silence_timeout_s: float
    """A streaming neuron sends at least a comment far more often than this."""
    keepalive_s: float

    @classmethod
    def of(cls, settings: CortexSettings) -> Self:
        return cls(
            first_byte_timeout_s=settings.first_byte_timeout_s,
            silence_timeout_s=max(settings.keepalive_s * SILENCE_KEEPALIVES, SILENCE_S_MIN),
            keepalive_s=settings.keepalive_s,
        )


class _Elsewhere(Exception):
    """Nothing came of an attempt and nothing was sent: try the next target."""

    def __init__(self, error: HelexaError) -> None:
        super().__init__(error)
        self.error = error


class Dispatch:
    def __init__(self, fleet: Fleet, patience: Patience, *, now: Callable[[], float]) -> None:
        self._fleet = fleet
        self._patience = patience
        self._now = now
        self._waiting = Waiting(fleet, keepalive_s=patience.keepalive_s, now=now)

    async def serve(self, job: Job, decision: RoutingDecision, answer: Answer) -> None:
        """Answer the client completely; the ticket's attempts say who did what.

        Raises the last attempt's HelexaError when none worked; NoCapacity with what each
        answered where other cortexes were among them; ModelLoading when nobody served the
        model in time.
        """
        failures: list[tuple[Target, HelexaError]] = []
        for last in (*(False,) * (ROUNDS_MAX - 1), True):
            if self._fleet.waits(decision) is not None:
                decision = await self._waiting.until_served(_asked(job), decision, answer)
            begun = len(failures)
            for target in decision.targets[:ATTEMPTS_MAX]:
                try:
                    return await self._try(job, target, answer)
                except _Elsewhere as elsewhere:
                    failures.append((target, elsewhere.error))
            if not self._moves(failures[begun:]):
                break
            if last:
                raise ModelLoading(f"{str(job.ticket.model)!r} is being moved; try again shortly.")
            again = await self._again(job, failures[begun:])
            if again is None:
                break
            decision = again
        raise self._exhausted(decision, failures)

    def _moves(self, failures: Sequence[tuple[Target, HelexaError]]) -> bool:
        """Whether these only say that what they served is, or soon will be, served elsewhere."""
        moved = all(target.via is None and error.code in _MOVES for target, error in failures)
        return bool(failures) and moved and self._fleet.brings_models

    async def _again(
        self, job: Job, failures: Sequence[tuple[Target, HelexaError]]
    ) -> RoutingDecision | None:
        """Where to go now that all of these are gone; None where their words are the answer."""
        ticket = job.ticket
        exclude = (*job.hints.exclude, *(target.node for target, _ in failures))
        hints = msgspec.structs.replace(job.hints, exclude=exclude)
        with suppress(HelexaError):
            decision = self._fleet.route(ticket.workload, ticket.model, hints)
            if decision.targets and decision.targets[0].ready:
                return decision
        # Those who failed may be the first to serve it again, once it is known what they hold.
        await asyncio.sleep(SETTLES_S)
        try:
            return self._fleet.route(ticket.workload, ticket.model, job.hints)
        except HelexaError:
            return None

    async def _try(self, job: Job, target: Target, answer: Answer) -> None:
        """Raises _Elsewhere when nothing came of it."""
        try:
            way = self._fleet.way(target, job.hints)
        except HelexaError as error:
            raise _Elsewhere(error) from error
        model = target.model or job.ticket.model
        attempt = Attempt(target, model, self._fleet.digest(target, model), self._now())
        job.ticket.attempts.append(attempt)
        self._fleet.started(target, model, job.hints)
        outcome = "client_gone"
        try:
            attempt.usage = await self._attempt(job, target, model, way, answer)
            outcome = answer.outcome
        except _Elsewhere as elsewhere:
            outcome = elsewhere.error.code
            raise
        except HelexaError as error:
            outcome = error.code
            raise
        finally:
            attempt.outcome = outcome
            attempt.ended_s = self._now()
            self._fleet.finished(target, model, outcome)

    def _exhausted(
        self, decision: RoutingDecision, failures: Sequence[tuple[Target, HelexaError]]
    ) -> HelexaError:
        if not failures:
            return NoCapacity()
        if all(target.via is None for target, _ in failures):
            return failures[-1][1]
        said = [self._sentence(target, error) for target, error in failures]
        said += (one.sentence for one in decision.excluded if one.sentence)
        more = len(said) - REASONS_MAX
        also = f"; and {more} more" if more > 0 else ""
        waits = [error.retry_after_s for _, error in failures if error.retry_after_s is not None]
        reasons = "; ".join(said[:REASONS_MAX])
        return NoCapacity(
            f"Nobody could serve {str(decision.model)!r}: {reasons}{also}.", min(waits, default=2)
        )

    def _sentence(self, target: Target, error: HelexaError) -> str:
        kind = "neuron" if target.via is None else "cortex"
        called = self._fleet.called(target)
        if isinstance(error, PeerLost):
            # Nothing is known where it is back already.
            return f"{kind} {called} {self._fleet.why_lost(target) or 'was lost'}"
        verb = " said" if isinstance(error, PassedOn) else ""
        return f"{kind} {called}{verb}: {error.message[:SAID_CHARS_MAX].rstrip('.')}"

    async def _attempt(
        self, job: Job, target: Target, model: ModelId, way: Way, answer: Answer
    ) -> Usage | None:
        patience = self._patience
        headers = [*job.headers, *way.headers]
        if model != job.body_model:
            headers.append((MODEL_HEADER, model.encode()))
        if target.via is not None:
            # The class is ours to tell: a peer sees neither our client's hint nor its habits.
            headers.append((b"x-helexa-workload", job.ticket.workload.value.encode()))
            if job.max_wait_s is not None:
                left_s = job.ticket.began_s + job.max_wait_s - self._now()
                headers.append((b"x-helexa-max-wait", b"%.3f" % max(left_s, 0.0)))
        try:
            with await way.pool.send(
                "POST",
                job.path,
                headers,
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
                    await self._refused(response, target)
                answer.served_by = _LOCAL if target.via is None else self._served_by(target)
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

    def _served_by(self, target: Target) -> bytes:
        return b"x-helexa-served-by: %s\r\n" % self._fleet.called(target).encode("ascii")

    async def _refused(self, response: Response, target: Target) -> None:
        """Raise what an error answer means."""
        body = await response.read(REFUSAL_BYTES_MAX)
        status = response.status
        error: HelexaError
        if target.via is None and status == STRANGE_HERE:
            raise _Elsewhere(PeerLost("The node that should serve this request was lost."))
        try:
            said = _refusal.decode(body).error
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            error = RuntimeRefused(f"The node answered {status} without saying why.")
        else:
            error = PassedOn(body, said, status, response.header(b"retry-after"))
        if target.via is not None:
            is_for_all = status in CLIENTS_FAULT
        else:
            is_for_all = status not in ELSEWHERE and error.code not in OF_ITS_RUNTIME
        raise error if is_for_all else _Elsewhere(error)

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
        if failure is not None:
            await answer.fail(failure)
        else:
            if tap.is_failed:
                answer.outcome = UpstreamFailed.code
            await answer.end()
        return tap.usage


def _asked(job: Job) -> Asked:
    return Asked(ticket=job.ticket, hints=job.hints, stream=job.stream, max_wait_s=job.max_wait_s)


def _is_stream(response: Response) -> bool:
    content_type = response.header(b"content-type")
    return content_type is not None and content_type.startswith(b"text/event-stream")
