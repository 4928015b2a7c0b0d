"""One admitted request to one of its targets, and the answer back to the client.

Until the client was sent a byte of an answer, a failed attempt is repeated on
the next target and nobody sees it. After that another target of the same weights
goes on with it (`resume`), or the stream ends with an event that says why: a
truncated answer must never look like a complete one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from typing import Final

import msgspec

from helexa.cortex.gateway.answer import Answer
from helexa.cortex.gateway.delivered import Record, Shelf, Unreadable, told
from helexa.cortex.gateway.envelope import PassedOn
from helexa.cortex.gateway.hedge import first_to_answer
from helexa.cortex.gateway.job import Job, Patience
from helexa.cortex.gateway.observe import CountsContinuations, Uncounted
from helexa.cortex.gateway.queueing import Queueing
from helexa.cortex.gateway.relay import relay
from helexa.cortex.gateway.resume import Broken, Rest, Resuming
from helexa.cortex.gateway.seams import Fleet, Turn
from helexa.cortex.gateway.silence import Silence
from helexa.cortex.gateway.trial import Elsewhere, Trial
from helexa.cortex.gateway.truth import Truth
from helexa.cortex.gateway.usage import UsageTap
from helexa.cortex.gateway.waiting import COMMENT_EVERY_S, Asked, Waiting
from helexa.cortex.settings import SurvivalSettings
from helexa.protocol.errors import (
    DoesNotFit,
    Draining,
    HelexaError,
    ModelLoading,
    NoCapacity,
    PeerLost,
    RuntimeRefused,
)
from helexa.protocol.ids import ModelId
from helexa.protocol.openai import usage as counts
from helexa.protocol.routing import RoutingDecision, Target

ATTEMPTS_MAX: Final = 3
"""At one model; a later choice has as many of its own."""
ROUNDS_MAX: Final = 5
"""Times that the fleet is asked anew, where every target was gone before it answered."""
_ROUNDS: Final = (*(False,) * (ROUNDS_MAX - 1), True)
"""Whether it is the last one."""
SETTLES_S: Final = 0.1
"""Until a neuron's news about what it took or gave up are here."""
_MOVES: Final = frozenset((PeerLost.code, DoesNotFit.code, Draining.code))
"""A target's last word that says: what it served is served elsewhere, or soon will be."""
REASONS_MAX: Final = 5
SAID_CHARS_MAX: Final = 300
"""Of what another cortex answered, inside our own refusal."""
COUNTED_BYTES_MAX: Final = 1 << 20
"""A longer answer that is no stream is not read for its counts: embeddings without end."""


class Dispatch:
    def __init__(
        self,
        fleet: Fleet,
        patience: Patience,
        *,
        now: Callable[[], float],
        survival: SurvivalSettings | None = None,
        count: CountsContinuations | None = None,
        truth: Truth | None = None,
    ) -> None:
        self._truth = truth or Truth()
        self._fleet = fleet
        self._patience = patience
        self._now = now
        self._under_way: set[Trial] = set()
        fleet.watch_silent(Silence(fleet, self._under_way).look)
        self._waiting = Waiting(fleet, keepalive_s=patience.keepalive_s, now=now)
        survival = survival or SurvivalSettings()
        self._resumes = survival.resume
        self._hedge_after_s = survival.hedge_after_s
        self._shelf = Shelf(survival.resume_bytes_max, survival.resume_bytes_total_max)
        self._resuming = Resuming(
            fleet,
            self._waiting,
            survival,
            self,
            now=now,
            keepalive_s=patience.keepalive_s,
            count=count or Uncounted(),
        )
        self._queueing = Queueing(
            fleet, self._waiting, comment_every_s=min(patience.keepalive_s, COMMENT_EVERY_S)
        )

    async def until_turn(
        self, turn: Turn, job: Job, decision: RoutingDecision, answer: Answer
    ) -> RoutingDecision:
        """Where the request goes once it may. Raises HelexaError when it may not in its time."""
        return await self._queueing.until_turn(turn, _asked(job), decision, answer)

    async def serve(self, job: Job, decision: RoutingDecision, answer: Answer) -> None:
        """Answer the client completely; the ticket's attempts say who did what.

        Raises the last attempt's HelexaError when none worked; NoCapacity with what each
        answered where other cortexes were among them; ModelLoading when nobody served the
        model in time.
        """
        failures: list[tuple[Target, HelexaError]] = []
        rest = None if job.handed_over is None else self._resuming.rest(job)
        one_of = self._one_of if self._hedge_after_s else self._first_of
        for last in _ROUNDS:
            if self._fleet.waits(decision) is not None:
                decision = await self._waiting.until_served(_asked(job), decision, answer)
            begun = len(failures)
            by_model = (
                self._by_model(job, decision)
                if len(decision.choices) > 1
                else (deque(decision.targets[:ATTEMPTS_MAX]),)
            )
            for targets in by_model:
                while targets:
                    try:
                        if await one_of(job, targets, answer, rest, failures):
                            return None
                    except Broken as broken:
                        rest = rest or self._resuming.rest(job)
                        return await self._resuming.go_on(job, broken, answer, rest)
            if not (self._moves(failures[begun:]) or job.left_silent):
                break
            job.left_silent = False
            if last:
                raise ModelLoading(f"{str(job.ticket.model)!r} is being moved; try again shortly.")
            again = await self._again(job, failures[begun:])
            if again is None:
                break
            decision = again
        raise self._exhausted(decision, failures)

    def _by_model(self, job: Job, decision: RoutingDecision) -> Iterator[deque[Target]]:
        """Whom to ask, a few of each model. A model that the decision left out, since another one
        was served well enough, is looked for when all of those have failed.
        """
        asked: dict[ModelId, int] = {}
        chosen: deque[Target] = deque()
        for target in decision.targets:
            model = target.model or decision.model
            asked[model] = times = asked.get(model, 0) + 1
            if times <= ATTEMPTS_MAX:
                chosen.append(target)
        yield chosen
        ticket, wish = job.ticket, job.hints.wish
        if wish is not None:
            wish = msgspec.structs.replace(wish, models=())
        hints = msgspec.structs.replace(job.hints, wish=wish)
        for model in decision.choices:
            if model in asked:
                continue
            with suppress(HelexaError):
                found = self._fleet.route(ticket.workload, model, hints).targets[:ATTEMPTS_MAX]
                yield deque(
                    target if target.model else msgspec.structs.replace(target, model=model)
                    for target in found
                    if target.ready
                )

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

    async def _first_of(
        self,
        job: Job,
        targets: deque[Target],
        answer: Answer,
        rest: Rest | None,
        failures: list[tuple[Target, HelexaError]],
    ) -> bool:
        """Whether the first of these targets answered; it is taken away from `targets`.

        Raises Broken or HelexaError.
        """
        target = targets.popleft()
        try:
            # `attempt` in place: a coroutine less for every request.
            with self._trial(job, target) as trial:
                await trial.open(answer.keepalive)
                await self._answered(trial, answer, rest)
        except Elsewhere as elsewhere:
            failures.append((target, elsewhere.error))
            return False
        return True

    async def _one_of(
        self,
        job: Job,
        targets: deque[Target],
        answer: Answer,
        rest: Rest | None,
        failures: list[tuple[Target, HelexaError]],
    ) -> bool:
        """Whether the first of these targets answered, or the second if the first let wait.

        Those that were asked are taken away from `targets`. Raises Broken or HelexaError.
        """

        def enter(target: Target) -> Trial:
            return self._trial(job, target).__enter__()

        with ExitStack() as stack:
            trial = await first_to_answer(
                enter,
                targets,
                after_s=self._hedge_after_s,
                every_s=self._patience.keepalive_s,
                keepalive=answer.keepalive if job.stream else None,
                failures=failures,
            )
            if trial is None:
                return False
            stack.push(trial)
            try:
                await self._answered(trial, answer, rest)
            except Elsewhere as elsewhere:
                trial.outcome = elsewhere.error.code
                failures.append((trial.target, elsewhere.error))
                return False
        return True

    def _trial(self, job: Job, target: Target) -> Trial:
        return Trial(self._fleet, self._patience, self._now, job, target, self._under_way)

    async def attempt(
        self, job: Job, target: Target, answer: Answer, rest: Rest | None = None
    ) -> None:
        """Answer the client completely by this target; `rest` where it has the beginning.

        Raises Elsewhere when the client was told nothing by it, and Broken where it was told a
        part that others may go on from; else HelexaError.
        """
        with self._trial(job, target) as trial:
            await trial.open(answer.keepalive)
            await self._answered(trial, answer, rest)

    async def _answered(self, trial: Trial, answer: Answer, rest: Rest | None) -> None:
        if not answer.started:
            answer.served_by = self._truth.lines(
                trial.job.ticket, trial.target, trial.attempt, trial.response
            )
        if trial.whole is None:
            await self._stream(trial, answer, rest)
        else:
            await self._whole(trial, *trial.whole, answer)
        trial.outcome = answer.outcome

    async def _whole(self, trial: Trial, content_type: bytes, body: bytes, answer: Answer) -> None:
        if answer.started:
            # Comments promised a stream; a body without events is a neuron's fault.
            error = RuntimeRefused("The node did not answer with a stream.")
            raise Elsewhere(error) if trial.job.goes_on else error
        if len(body) <= COUNTED_BYTES_MAX:
            trial.attempt.usage = counts.read(body)
        await answer.whole(200, content_type, body)

    async def _stream(self, trial: Trial, answer: Answer, rest: Rest | None) -> None:
        job, attempt = trial.job, trial.attempt
        tap = UsageTap(show=job.show_usage) if rest is None else rest.begin()
        record = Record(self._shelf) if self._resumes and job.resume else None
        trial.record = record
        if rest is not None and not trial.first.startswith(b":"):
            rest.went_on(self._now())
        try:
            failure = await relay(trial.response, trial.first, tap, answer, record, attempt)
            attempt.usage = tap.usage
            if failure is not None:
                await self._cut(trial, failure, answer, record)
                return
            if rest is not None:
                rest.end(attempt)
            await answer.end()
        finally:
            if record is not None:
                record.close()

    async def _cut(
        self, trial: Trial, failure: HelexaError, answer: Answer, record: Record | None
    ) -> None:
        """A stream ended too early: another target's chance, or the client's to hear why.

        Raises Elsewhere, Broken or the failure.
        """
        if not answer.started:
            raise failure if trial.is_final(failure) else Elsewhere(failure)
        if record is None or trial.is_final(failure):
            return await answer.fail(failure)
        try:
            part = told(record.read()) if record.is_whole else None
        except Unreadable:
            part = None
        if part is not None and part.delivered is None:
            raise Elsewhere(failure)
        trial.outcome = failure.code
        if part is not None:
            trial.attempt.delivered_tokens = part.pieces
        raise Broken(failure, trial.attempt, part, kept_bytes=record.total_bytes)

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


def _asked(job: Job) -> Asked:
    return Asked(ticket=job.ticket, hints=job.hints, stream=job.stream, max_wait_s=job.max_wait_s)
