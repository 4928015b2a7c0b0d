"""Going on with a stream whose target failed after a part of it was delivered.

Another target of the same weights is handed what the client has and asked for the rest
(`protocol.continuation`); the client sees one stream. Others who are ready come first, then
who failed, as soon as it is back: a runtime that was started anew. Where nobody can, the
stream ends with `stream_interrupted`, and never looks complete.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec

from helexa.cortex.gateway.answer import Answer
from helexa.cortex.gateway.delivered import Told, is_complete, joined
from helexa.cortex.gateway.job import Job
from helexa.cortex.gateway.observe import CountsContinuations
from helexa.cortex.gateway.seams import Attempt, Fleet
from helexa.cortex.gateway.shares import divided
from helexa.cortex.gateway.trial import Elsewhere
from helexa.cortex.gateway.usage import ResumedTap
from helexa.cortex.gateway.waiting import Asked, Waiting
from helexa.cortex.settings import SurvivalSettings
from helexa.protocol import sse
from helexa.protocol.continuation import CONTINUE_PATH, Continuation, Delivered
from helexa.protocol.errors import HelexaError, NotContinuable, StreamInterrupted
from helexa.protocol.ids import NodeId
from helexa.protocol.openai.requests import Generation
from helexa.protocol.routing import RoutingDecision, Target

TARGETS_MAX: Final = 4
"""Asked in one round, before the fleet is looked at anew."""
PAUSE_MIN_S: Final = 0.02
PAUSE_MAX_S: Final = 0.5
"""Between looks, while nobody can: a runtime is back within a tenth of a second or much later."""

_encode: Final = msgspec.json.Encoder().encode


class Broken(Exception):
    """A stream broke off behind a part of the answer, which the client has."""

    def __init__(
        self, error: HelexaError, attempt: Attempt, part: Told | None, *, kept_bytes: int
    ) -> None:
        """`part` is None where what was delivered was too much to keep, or cannot be read."""
        super().__init__(error)
        self.error = error
        self.attempt = attempt
        self.part = part
        self.kept_bytes = kept_bytes


class Rest:
    """What is known of an answer that several targets make one after the other."""

    def __init__(self, job: Job, count: CountsContinuations) -> None:
        handed_over = job.handed_over
        self.delivered: Delivered | None = handed_over.delivered if handed_over else None
        self.broke_s: float | None = None
        self.bytes = 0
        self._before: list[tuple[Attempt, int]] = []
        """Who broke off, and in how many pieces each delivered its part."""
        self._handed_over = handed_over is not None
        self._show = job.show_usage
        self._count = count
        self._tap: ResumedTap | None = None

    @property
    def times_broken(self) -> int:
        return len(self._before)

    def broke_at(self) -> set[NodeId]:
        """The nodes where it broke off."""
        return {attempt.target.node for attempt, _ in self._before}

    def add(self, broken: Broken) -> None:
        assert broken.part is not None
        self.delivered = joined(self.delivered, broken.part.delivered)
        self.bytes += broken.kept_bytes
        self._before.append((broken.attempt, broken.part.pieces))

    def went_on(self, now_s: float) -> None:
        if self.broke_s is not None:
            self._count.went_on(now_s - self.broke_s)

    def begin(self) -> ResumedTap:
        """Somebody goes on: what its stream has to pass through."""
        self._tap = ResumedTap(
            show=self._show, foreign=self._foreign if self._handed_over else None
        )
        return self._tap

    def end(self, attempt: Attempt) -> None:
        """The answer is complete, by this attempt: everybody's usage is known."""
        tap = self._tap
        if tap is None or tap.usage is None:
            return
        shares = divided(tap.usage, tap.resumed, self._pieces(), handed_over=self._handed_over)
        attempt.usage = shares.last
        for (one, _), usage in zip(self._before, shares.before, strict=True):
            one.usage = usage
            one.delivered_tokens = usage.completion + usage.reasoning

    def _pieces(self) -> list[int]:
        return [pieces for _, pieces in self._before]

    def _foreign(self, resumed: int) -> int:
        return max(resumed - sum(self._pieces()), 0)


class Attempts(Protocol):
    async def attempt(
        self, job: Job, target: Target, answer: Answer, rest: Rest | None = None
    ) -> None:
        """Raises Elsewhere, Broken or HelexaError."""
        ...


@dataclass(slots=True)
class _Search:
    """For somebody who goes on, since the last time that it broke off."""

    give_up_s: float
    waits: bool
    """Whether for those who are not ready yet."""
    digest: str
    failed: set[NodeId]
    """Just now; asked again only when nobody else is there."""
    refused: dict[NodeId, str]
    """Who will not go on with this answer, whenever it is asked."""
    said: str = ""
    """Why the last one did not."""


class _Hopeless(Exception):
    """Nobody can go on: the outcome's name, and the reason as the rest of a sentence."""

    def __init__(self, outcome: str, why: str) -> None:
        super().__init__(why)
        self.outcome = outcome
        self.why = why


class Resuming:
    def __init__(
        self,
        fleet: Fleet,
        waiting: Waiting,
        settings: SurvivalSettings,
        attempts: Attempts,
        *,
        now: Callable[[], float],
        keepalive_s: float,
        count: CountsContinuations,
    ) -> None:
        self._fleet = fleet
        self._waiting = waiting
        self._settings = settings
        self._attempts = attempts
        self._now = now
        self._keepalive_s = keepalive_s
        self._count = count

    def rest(self, job: Job) -> Rest:
        return Rest(job, self._count)

    async def go_on(self, job: Job, broken: Broken, answer: Answer, rest: Rest) -> None:
        """Bring the client's stream to an end, by others or by an event that says why not."""
        while True:
            try:
                if not await self._ended_already(job, broken, answer, rest):
                    await self._by_another(job, broken, answer, rest)
            except Broken as again:
                broken = again
            except _Hopeless as hopeless:
                self._count.gave_up(hopeless.outcome)
                await self._interrupted(job, broken, answer, rest, hopeless.why)
                return
            else:
                break
        self._count.completed()

    async def _ended_already(self, job: Job, broken: Broken, answer: Answer, rest: Rest) -> bool:
        """Where only the mark of the end was lost, it is ours to set."""
        if broken.part is None or broken.attempt.usage is None:
            return False
        delivered = joined(rest.delivered, broken.part.delivered)
        if delivered is None or not is_complete(delivered, _choices(job)):
            return False
        rest.end(broken.attempt)
        await answer.end(sse.event(sse.DONE))
        return True

    async def _interrupted(
        self, job: Job, broken: Broken, answer: Answer, rest: Rest, why: str
    ) -> None:
        complete = rest.delivered is not None and is_complete(rest.delivered, _choices(job))
        if complete and not job.show_usage:
            # The client has all that it asked for; only our own counts are missing.
            await answer.end(sse.event(sse.DONE))
        else:
            await answer.fail(
                StreamInterrupted(f"{broken.error.message} Nobody could go on with it: {why}.")
            )

    async def _by_another(self, job: Job, broken: Broken, answer: Answer, rest: Rest) -> None:
        """Raises Broken when the one that went on broke off, too, and _Hopeless."""
        settings = self._settings
        if broken.part is None or rest.bytes + broken.kept_bytes > settings.resume_bytes_max:
            raise _Hopeless("too_long", "more of it was sent than is kept for this")
        rest.add(broken)
        if rest.times_broken > settings.resume_attempts_max:
            raise _Hopeless("too_often", f"it broke off {rest.times_broken} times")
        handed_over = job.handed_over
        digest = handed_over.digest if handed_over else broken.attempt.digest
        if not digest:
            raise _Hopeless("weights_unknown", "which weights it came from is not known")
        rest.broke_s = self._now()
        search = _Search(
            give_up_s=rest.broke_s + settings.resume_within_s,
            # The cortex that asks may know somebody who is ready: it is the one to wait.
            waits=not job.hints.path,
            digest=digest,
            failed=rest.broke_at(),
            refused={},
        )
        await self._search(job, search, answer, rest)

    async def _search(self, job: Job, search: _Search, answer: Answer, rest: Rest) -> None:
        pause_s = PAUSE_MIN_S
        spoke_s = self._now()
        while True:
            decision = self._look(job, search, {*search.failed, *search.refused})
            if decision is None or not decision.targets[0].ready:
                again = self._look(job, search, search.refused)
                decision = again if again is not None and again.targets[0].ready else decision
                decision = decision or again
            if decision is not None and self._fleet.waits(decision) is not None:
                if not search.waits:
                    raise _Hopeless("nobody", "nobody is ready to")
                decision = await self._until_served(job, search, decision, answer)
            if decision is not None:
                for target in decision.targets[:TARGETS_MAX]:
                    if not (target.ready or search.waits):
                        break
                    if await self._asked(job, search, target, answer, rest):
                        return
            if search.refused and not self._others(job, search):
                raise _Hopeless("not_continuable", next(iter(search.refused.values())))
            if not search.waits or self._now() + pause_s >= search.give_up_s:
                raise _Hopeless("nobody", search.said or "nobody who is here has the same weights")
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, PAUSE_MAX_S)
            if self._now() - spoke_s >= self._keepalive_s:
                await answer.keepalive()
                spoke_s = self._now()

    def _others(self, job: Job, search: _Search) -> bool:
        """Whether anybody is ready who has neither refused nor just failed."""
        decision = self._look(job, search, {*search.failed, *search.refused})
        return decision is not None and decision.targets[0].ready

    async def _asked(
        self, job: Job, search: _Search, target: Target, answer: Answer, rest: Rest
    ) -> bool:
        """Whether this target brought the answer to its end."""
        try:
            await self._attempts.attempt(self._job(job, search, target, rest), target, answer, rest)
        except Elsewhere as elsewhere:
            error = elsewhere.error
            search.said = error.message.rstrip(".")
            if error.code == NotContinuable.code:
                search.refused[target.node] = search.said
            else:
                search.failed.add(target.node)
            return False
        return True

    def _look(
        self, job: Job, search: _Search, exclude: Collection[NodeId]
    ) -> RoutingDecision | None:
        ticket = job.ticket
        hints = msgspec.structs.replace(
            job.hints, digest=search.digest, exclude=(*job.hints.exclude, *exclude)
        )
        try:
            decision = self._fleet.route(ticket.workload, ticket.model, hints)
        except HelexaError as error:
            search.said = search.said or error.message.rstrip(".")
            return None
        return decision if decision.targets else None

    async def _until_served(
        self, job: Job, search: _Search, decision: RoutingDecision, answer: Answer
    ) -> RoutingDecision | None:
        now_s = self._now()
        asked = Asked(
            ticket=job.ticket,
            hints=msgspec.structs.replace(job.hints, digest=search.digest),
            stream=True,
            max_wait_s=max(search.give_up_s - now_s, 0.0),
            since_s=now_s,
        )
        try:
            return await self._waiting.until_served(asked, decision, answer)
        except HelexaError as error:
            search.said = error.message.rstrip(".")
            return None

    def _job(self, job: Job, search: _Search, target: Target, rest: Rest) -> Job:
        model = target.model or job.ticket.model
        before = job.handed_over
        assert rest.delivered is not None
        body = Continuation(
            path=before.path if before else job.path,
            model=str(model),
            digest=search.digest,
            delivered=rest.delivered,
            request=before.request if before else msgspec.Raw(job.body),
        )
        return msgspec.structs.replace(
            job,
            path=CONTINUE_PATH,
            body=_encode(body),
            body_model=model,
            goes_on=True,
            give_up_s=search.give_up_s,
        )


def _choices(job: Job) -> int:
    """How many the client asked for."""
    if job.handed_over is not None:
        try:
            return msgspec.json.decode(job.handed_over.request, type=_Asked).n or 1
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return 1 << 16  # More than there are: nothing is complete.
    head = job.ticket.head
    return (isinstance(head, Generation) and head.n) or 1


class _Asked(msgspec.Struct):
    n: int | None = None
