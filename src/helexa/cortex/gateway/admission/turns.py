"""The queues in front of all models, and those who wait in them: effects for what `Lane` decides.

One owner on one event loop, shared by the doors: clients and other cortexes stand in the same
lines. A timer a model looks, only while somebody waits there, whether the model has other slots
now and what was delivered meanwhile; everything else happens when a request comes or goes.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from typing import Final

from helexa.cortex.gateway.admission.entry import Entry, State
from helexa.cortex.gateway.admission.lane import (
    OUTPUT_TOKENS_FIRST,
    TOKENS_PER_BYTE_FIRST,
    Lane,
    Rules,
)
from helexa.cortex.gateway.admission.observe import QueueObserver
from helexa.cortex.gateway.admission.pace import whole_s
from helexa.cortex.gateway.admission.ranks import Rank
from helexa.cortex.gateway.seams import Fleet, Ticket
from helexa.protocol.errors import DeadlinePassed, HelexaError, NoCapacity, QueueFull
from helexa.protocol.ids import ModelId
from helexa.protocol.openai.requests import Generation
from helexa.protocol.routing import RoutingDecision
from helexa.protocol.work import WorkloadClass

LOOK_EVERY_S: Final = 0.1
"""While somebody waits; and how old the fleet's word may be where nobody does."""
ANSWER_LEAST_S: Final = 0.001
"""No model answers in less."""
LANES_MAX: Final = 4_096
"""Models remembered; those that nobody asks for now are forgotten first."""
# Looked up once: an enum's own look-up and hash are felt in every request.
_VISION: Final = WorkloadClass.VISION
_AUDIO: Final = WorkloadClass.AUDIO
_OTHER: Final = WorkloadClass.OTHER
_LEFT_OVER: Final = Rank.ANONYMOUS


class Turns:
    def __init__(
        self,
        fleet: Fleet,
        rules: Rules,
        *,
        queue_max: Callable[[ModelId], int],
        wait_most_s: float,
        observer: QueueObserver,
        now: Callable[[], float],
    ) -> None:
        """`queue_max`: requests under way for a model, above which the next is refused;
        `wait_most_s` is the longest wait of a request that says nothing of it.
        """
        self._fleet = fleet
        self._rules = rules
        self.queue_max = queue_max
        self._wait_most_s = wait_most_s
        self.observer = observer
        self._now = now
        self._lanes: dict[ModelId, Lane] = {}
        self._timers: dict[ModelId, asyncio.TimerHandle] = {}
        observer.watch(self._lanes)

    @property
    def under_way(self) -> int:
        return sum(lane.count for lane in self._lanes.values())

    def waits(self) -> Mapping[ModelId, tuple[int, float]]:
        """How many wait for a slot of each model, and about how long each will have."""
        now_s = self._now()
        return {
            model: (queued, lane.pace.wait_s(queued / 2, lane.began_s(), now_s))
            for model, lane in self._lanes.items()
            if (queued := lane.queued)
        }

    def admit(
        self, ticket: Ticket, decision: RoutingDecision, account: str, rank: Rank, weight: float
    ) -> Waiter | None:
        """None lets it in at once. `leave` ends what this began.

        Raises QueueFull, DeadlinePassed, and NoCapacity for one that gets only what is left over.
        """
        now_s = self._now()
        awaited = self._fleet.waits(decision)
        model = awaited or decision.targets[0].model or decision.model
        lane = self._lanes.get(model) or self._new(model)
        entry = Entry(account, rank, weight, ticket.body_bytes, now_s)
        workload = ticket.workload
        if workload is _VISION or workload is _AUDIO:
            entry.counts_bytes = False
        head = ticket.head
        if isinstance(head, Generation):
            most = head.output_tokens_max or ticket.output_tokens_max
            if most:
                entry.output_most = most * (head.n or 1)
        if awaited is not None and rank is _LEFT_OVER:
            raise NoCapacity("This model is not loaded now, and is not loaded without a key.", 30)
        if now_s - lane.looked_s > LOOK_EVERY_S:
            self._look(lane, now_s)
        if ticket.ingress.deadline:
            self._in_time(ticket, lane, entry, now_s)
        waiter = None
        takes_slot = workload is not _OTHER
        if takes_slot and (awaited is not None or not lane.room_at_once(rank)):
            waiter = Waiter(self, ticket, lane, entry, now_s + self._wait_most_s)
            if awaited is None:
                waiter.in_time(now_s)
        if lane.count >= lane.queue_max:
            self._make_room(lane, entry, now_s)
        if waiter is None and takes_slot:
            lane.go(entry, now_s)
        lane.count += 1
        entry.ticket = ticket
        ticket.held = (lane, entry)
        return waiter

    def prompt_tokens(self, ticket: Ticket) -> float:
        """About, by what the prompts of the model were lately; 0 where its size says nothing."""
        if ticket.workload is _VISION or ticket.workload is _AUDIO:
            return 0.0
        lane = self._lanes.get(ticket.model)
        per_byte = TOKENS_PER_BYTE_FIRST if lane is None else lane.guess.tokens_per_byte
        return ticket.body_bytes * per_byte

    def guess(self, ticket: Ticket, decision: RoutingDecision) -> float:
        """About how many tokens it will come to."""
        model = decision.targets[0].model if decision.targets else None
        lane = self._lanes.get(model or decision.model)
        output = OUTPUT_TOKENS_FIRST if lane is None else lane.guess.output_tokens
        head = ticket.head
        if not isinstance(head, Generation):
            return self.prompt_tokens(ticket)
        most = head.output_tokens_max or ticket.output_tokens_max
        return self.prompt_tokens(ticket) + (min(output, most) if most else output) * (head.n or 1)

    def leave(self, ticket: Ticket) -> float | None:
        """However it ended. The tokens that it came to, where anybody knows."""
        lane: Lane
        entry: Entry
        lane, entry = ticket.held
        ticket.held = None
        now_s = self._now()
        tokens = _tokens_of(ticket, lane, entry)
        lane.leave(entry, now_s, tokens=tokens)
        waiter: Waiter | None = entry.owner
        if waiter is not None:
            waiter.close()
        if lane.queued:
            self._wake(lane, now_s)
        return tokens

    def _new(self, model: ModelId) -> Lane:
        if len(self._lanes) >= LANES_MAX:
            for other in [name for name, lane in self._lanes.items() if not lane.count]:
                del self._lanes[other]
        lane = self._lanes[model] = Lane(model, self._rules)
        return lane

    def _make_room(self, lane: Lane, entry: Entry, now_s: float) -> None:
        """Raises QueueFull, unless somebody else is to give way."""
        other = lane.displaced_by(entry)
        if other is None:
            raise self._full(lane, now_s)
        # It leaves in its own time; until then there is one too many.
        other.owner.send_away(self._full(lane, now_s))

    def _full(self, lane: Lane, now_s: float) -> QueueFull:
        self.observer.refused("queue_full", lane.model)
        retry_s = lane.retry_s(now_s)
        return QueueFull(
            f"{lane.count} requests for this model are under way; try again in {retry_s} s.",
            retry_s,
        )

    def late(self, lane: Lane, entry: Entry, why: str) -> DeadlinePassed:
        self.observer.refused("deadline_passed", lane.model)
        wait_s = lane.pace.wait_s(lane.ahead_of(entry), lane.began_s(), self._now())
        return DeadlinePassed(why, whole_s(wait_s))

    def _in_time(self, ticket: Ticket, lane: Lane, entry: Entry, now_s: float) -> None:
        """Raises DeadlinePassed where it is too late even without a wait."""
        left_s = ticket.began_s + (ticket.ingress.deadline_s() or 0.0) - now_s
        # Where nobody runs the pace may be old, and only who is let in can tell.
        known = lane.running and lane.pace.is_known()
        if left_s < max(ANSWER_LEAST_S, lane.service_s(now_s) if known else 0.0):
            raise self.late(
                lane, entry, "The answer cannot be complete within x-helexa-deadline, wait or none."
            )

    def _look(self, lane: Lane, now_s: float) -> None:
        lane.looked_s = now_s
        lane.queue_max = float(self.queue_max(lane.model))
        lane.has(self._fleet.slots(lane.model))

    def _wake(self, lane: Lane, now_s: float) -> None:
        for entry in lane.let_in(now_s):
            entry.owner.call()

    def wait(self, lane: Lane) -> None:
        """Somebody waits in the lane from now on."""
        if lane.model not in self._timers:
            self._set_timer(lane)

    def enter(self, lane: Lane, entry: Entry) -> bool:
        """Whether one that waited for its model may go on at once."""
        now_s = self._now()
        self._look(lane, now_s)
        if lane.enter(entry, now_s):
            return True
        self.wait(lane)
        return False

    def _set_timer(self, lane: Lane) -> None:
        loop = asyncio.get_running_loop()
        self._timers[lane.model] = loop.call_later(LOOK_EVERY_S, self._tick, lane)

    def _tick(self, lane: Lane) -> None:
        del self._timers[lane.model]
        if not lane.queued:
            return
        now_s = self._now()
        self._look(lane, now_s)
        if lane.slots is None:
            for entry in lane.set_apart():
                entry.owner.look_again()
            return
        for entry in lane.running:
            ticket: Ticket | None = entry.ticket
            if ticket is not None:
                lane.delivered(entry, sum(one.delivered_tokens for one in ticket.attempts))
        self._wake(lane, now_s)
        if lane.queued:
            self._set_timer(lane)

    def waited(self, lane: Lane, entry: Entry, ticket: Ticket) -> None:
        ticket.queue_s = self._now() - entry.came_s
        self.observer.waited(entry.rank, lane.model, ticket.queue_s)

    def now_s(self) -> float:
        return self._now()


class Waiter:
    """`gateway.seams.Turn`."""

    __slots__ = ("_entry", "_future", "_lane", "_late_s", "_limit_s", "_ticket", "_timer", "_turns")

    def __init__(
        self, turns: Turns, ticket: Ticket, lane: Lane, entry: Entry, most_s: float
    ) -> None:
        self._turns = turns
        self._ticket = ticket
        self._lane = lane
        self._entry = entry
        self._future: asyncio.Future[bool] | None = None
        self._timer: asyncio.TimerHandle | None = None
        said_s, deadline_s = ticket.ingress.max_wait_s(), ticket.ingress.deadline_s()
        self._limit_s = most_s if said_s is None else min(ticket.began_s + said_s, most_s)
        """When it has waited as long as it may."""
        self._late_s = math.inf if deadline_s is None else ticket.began_s + deadline_s
        """When its answer is of no use any more."""
        entry.owner = self

    @property
    def apart(self) -> bool:
        return self._entry.state is State.APART

    def in_time(self, now_s: float) -> None:
        """Raises DeadlinePassed where it is known now that it cannot be met."""
        lane = self._lane
        wait_s = lane.wait_s(self._entry, now_s)
        if wait_s is None:
            return
        if now_s + wait_s > self._limit_s:
            raise self._turns.late(
                lane,
                self._entry,
                f"Requests for this model wait about {wait_s:.1f} s now, longer than this one may.",
            )
        if now_s + wait_s + lane.service_s(now_s) > self._late_s:
            raise self._turns.late(
                lane,
                self._entry,
                "The answer cannot be complete within x-helexa-deadline: requests for this model "
                f"wait about {wait_s:.1f} s now.",
            )

    async def come(self, timeout_s: float | None) -> bool:
        entry, future = self._entry, self._future
        if future is None:
            if entry.state is State.RUNNING or self._turns.enter(self._lane, entry):
                return self._came()
            future = self._future = asyncio.get_running_loop().create_future()
            self._watch()
        if timeout_s is not None and not future.done():
            await asyncio.wait((future,), timeout=timeout_s)
            if not future.done():
                return False
        came = await future
        self._future = None
        return self._came() if came else False

    def _came(self) -> bool:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._turns.waited(self._lane, self._entry, self._ticket)
        return True

    def _watch(self) -> None:
        until_s = min(self._limit_s, self._late_s)
        if self._timer is None:
            left_s = max(until_s - self._turns.now_s(), 0.0)
            self._timer = asyncio.get_running_loop().call_later(left_s, self._too_late)

    def call(self) -> None:
        """It is let in."""
        if self._future is not None and not self._future.done():
            self._future.set_result(True)

    def look_again(self) -> None:
        """Nobody serves the model as things stand."""
        if self._future is not None and not self._future.done():
            self._future.set_result(False)

    def send_away(self, error: HelexaError) -> None:
        """Out of the queue at once; who waits for it is told."""
        entry = self._entry
        if entry.state is State.QUEUED:
            self._lane.give_up(entry)
        if self._future is not None and not self._future.done():
            self._future.set_exception(error)

    def _too_late(self) -> None:
        self._timer = None
        if self._entry.state is State.QUEUED:
            waited_s = self._turns.now_s() - self._entry.came_s
            why = f"It was not this request's turn within the {waited_s:.1f} s that it had."
            self.send_away(self._turns.late(self._lane, self._entry, why))

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        future = self._future
        if future is not None and not future.cancel() and not future.cancelled():
            future.exception()  # Whoever was to hear of it has left.


def _tokens_of(ticket: Ticket, lane: Lane, entry: Entry) -> float | None:
    """What it came to; None where the guess has to do."""
    usage = ticket.usage
    attempts = ticket.attempts
    if usage is not None:
        prompt = usage.prompt_uncached + usage.prompt_cached
        output = usage.completion + usage.reasoning
        lane.guess.learn(entry, prompt, output)
        return float(prompt + output)
    delivered = sum(one.delivered_tokens for one in attempts)
    if delivered:
        return float(lane.guess.prompt_tokens(entry) + delivered)
    if not attempts or all(one.outcome not in ("ok", "client_gone") for one in attempts):
        return 0.0
    return None
