"""One target asked once: from the way to it to the first byte of its answer.

Whatever becomes of it, the fleet is told once, and the ticket's attempt says so.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Final, Self

import msgspec

from helexa.cortex.gateway.delivered import Record
from helexa.cortex.gateway.envelope import PassedOn
from helexa.cortex.gateway.job import Job, Patience
from helexa.cortex.gateway.seams import Attempt, Fleet
from helexa.protocol.errors import (
    Busy,
    CapabilityMissing,
    ErrorEnvelope,
    HelexaError,
    ModalityUnsupported,
    NotContinuable,
    PeerLost,
    RouteUnknown,
    RuntimeRefused,
    UpstreamTimeout,
)
from helexa.protocol.routing import MODEL_HEADER, Target
from helexa.util.upstream import (
    Headers,
    PoolFull,
    Response,
    UpstreamBroken,
    UpstreamError,
    UpstreamTimedOut,
)

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
_OLD: Final = frozenset((RouteUnknown.code, "http_404"))
"""What a node says that has never heard of going on with an answer."""

_STREAM: Final = b"text/event-stream"

_refusal: Final = msgspec.json.Decoder(ErrorEnvelope)


class Elsewhere(Exception):
    """Nothing came of an attempt and nothing was sent: try the next target."""

    def __init__(self, error: HelexaError) -> None:
        super().__init__(error)
        self.error = error


class Trial:
    """Live inside `with`; at its end the target knows that nobody listens any more."""

    __slots__ = (
        "_fleet",
        "_is_open",
        "_now",
        "_patience",
        "_under_way",
        "_way",
        "attempt",
        "first",
        "job",
        "model",
        "outcome",
        "record",
        "response",
        "target",
        "whole",
    )
    response: Response

    def __init__(
        self,
        fleet: Fleet,
        patience: Patience,
        now: Callable[[], float],
        job: Job,
        target: Target,
        under_way: set[Trial],
    ) -> None:
        """In `under_way` while it lasts. Raises Elsewhere when there is no way to the target."""
        try:
            self._way = fleet.way(target, job.hints)
        except HelexaError as error:
            raise Elsewhere(error) from error
        self.job = job
        self.target = target
        self.model = target.model or job.ticket.model
        self.attempt = Attempt(
            target, self.model, fleet.label(target, self.model), now(), resumed=job.goes_on
        )
        self.outcome = "client_gone"
        """Until anything else is known."""
        self.first = b""
        """Of a stream: what came first of it."""
        self.whole: tuple[bytes, bytes] | None = None
        """Of an answer that is no stream: its content type and body."""
        self.record: Record | None = None
        """What its stream brought the client, where others may go on with it."""
        self._under_way = under_way
        self._fleet = fleet
        self._patience = patience
        self._now = now
        self._is_open = False

    def __enter__(self) -> Self:
        self.job.ticket.attempts.append(self.attempt)
        self._fleet.started(self.target, self.model, self.job.hints)
        self._under_way.add(self)
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._under_way.discard(self)
        if self._is_open:
            self.response.__exit__()
        if isinstance(error, Elsewhere):
            self.outcome = error.error.code
        elif isinstance(error, HelexaError):
            self.outcome = error.code
        self.attempt.outcome = self.outcome
        self.attempt.ended_s = self._now()
        self._fleet.finished(self.target, self.model, self.outcome)

    async def open(self, keepalive: Callable[[], Awaitable[None]]) -> None:
        """Return with `first` or `whole`. `keepalive` is called while a stream lets wait.

        Raises Elsewhere where another target may do better, else HelexaError.
        """
        try:
            job, patience = self.job, self._patience
            first_byte_s = patience.first_byte_timeout_s
            if job.give_up_s is not None:
                first_byte_s = min(first_byte_s, max(job.give_up_s - self._now(), 0.001))
            response = self.response = await self._way.pool.send(
                "POST",
                job.path,
                self._headers(),
                job.body,
                first_byte_timeout_s=first_byte_s,
                silence_timeout_s=patience.silence_timeout_s,
                # Work repeated costs time and changes nothing.
                resend_safe=True,
            )
            self._is_open = True
            if job.stream:
                while not await response.head(patience.keepalive_s):
                    await keepalive()
            else:
                await response.head()
            if response.status != 200:
                await self._refused(response)
            content_type = response.header(b"content-type")
            if content_type is not None and content_type.startswith(_STREAM):
                await self._begun(response, keepalive)
            else:
                body = await response.read(ANSWER_BYTES_MAX)
                self.whole = (content_type or b"application/json", body)
        except UpstreamTimedOut as silence:
            late = UpstreamTimeout("The node did not answer in time.")
            # Who goes on with an answer has not much time, and others may be quicker.
            raise (Elsewhere(late) if self.job.goes_on else late) from silence
        except PoolFull as full:
            raise Elsewhere(Busy("Too many requests wait for the same node.")) from full
        except UpstreamError as loss:
            raise Elsewhere(PeerLost("The node that served this request was lost.")) from loss
        self.attempt.first_byte_s = self._now()

    async def _begun(self, response: Response, keepalive: Callable[[], Awaitable[None]]) -> None:
        """Return with what comes first of a stream."""
        job = self.job
        while not await response.ready(self._patience.keepalive_s):
            if job.give_up_s is not None and self._now() >= job.give_up_s:
                raise UpstreamTimedOut("nothing came in time")
            await keepalive()
        # An error here, before a byte of the answer, is the next target's chance.
        self.first = await response.chunk()
        if not self.first:
            raise UpstreamBroken("an empty stream")

    def _headers(self) -> Headers:
        job = self.job
        headers = [*job.headers, *self._way.headers]
        if self.model != job.body_model:
            headers.append((MODEL_HEADER, self.model.encode()))
        if self.target.via is not None:
            # The class is ours to tell: a peer sees neither our client's hint nor its habits.
            headers.append((b"x-helexa-workload", job.ticket.workload.value.encode()))
            if not job.resume:
                headers.append((b"x-helexa-resume", b"off"))
            if job.max_wait_s is not None:
                left_s = job.ticket.began_s + job.max_wait_s - self._now()
                headers.append((b"x-helexa-max-wait", b"%.3f" % max(left_s, 0.0)))
        return headers

    async def _refused(self, response: Response) -> None:
        """Raise what an error answer means."""
        body = await response.read(REFUSAL_BYTES_MAX)
        status = response.status
        error: HelexaError
        if self.target.via is None and status == STRANGE_HERE:
            raise Elsewhere(PeerLost("The node that should serve this request was lost."))
        try:
            said = _refusal.decode(body).error
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            error = RuntimeRefused(f"The node answered {status} without saying why.")
        else:
            error = PassedOn(body, said, status, response.header(b"retry-after"))
        if self.job.goes_on and error.code in _OLD:
            error = NotContinuable("the node does not go on with answers of others")
        if self.job.goes_on:
            is_for_all = False  # The client's request was taken before; what is amiss is ours.
        elif self.target.via is not None:
            is_for_all = status in CLIENTS_FAULT
        else:
            is_for_all = status not in ELSEWHERE and error.code not in OF_ITS_RUNTIME
        raise error if is_for_all else Elsewhere(error)

    def quiet_s(self) -> float:
        """For how long its node has said nothing to it."""
        return self.response.quiet_s() if self._is_open else 0.0

    def lose(self) -> None:
        """Its node is silent: the attempt fails as if the connection had been lost."""
        self.job.left_silent = True
        self.response.lose("nothing is heard of it")

    def is_final(self, error: HelexaError) -> bool:
        """Whether an error inside a stream is the client's own, and others would say the same."""
        return (
            not self.job.goes_on
            and isinstance(error, PassedOn)
            and error.status in CLIENTS_FAULT
            and error.code not in OF_ITS_RUNTIME
        )
