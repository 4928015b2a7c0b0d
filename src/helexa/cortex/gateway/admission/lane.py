"""One model's requests: those that run, those that wait, and which of them goes next.

A model has room for so many as its replicas have slots, and a few more, so that no slot idles
while an answer travels. Where that is unknown everybody goes at once, as the neurons then
decide. Pure: the clock and the slots are passed in, and who is let in is returned.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from helexa.cortex.gateway.admission.entry import Entry, State
from helexa.cortex.gateway.admission.fair_queue import FairQueue
from helexa.cortex.gateway.admission.pace import Pace
from helexa.cortex.gateway.admission.ranks import Rank, Shares
from helexa.protocol.ids import ModelId

OUTPUT_TOKENS_FIRST: Final = 128.0
"""Of an answer, until the first ones are known."""
TOKENS_PER_BYTE_FIRST: Final = 0.25
SMOOTHING: Final = 0.2
_LEFT_OVER: Final = Rank.ANONYMOUS


# Looked up once: an enum's own look-up is felt in every request.
_APART: Final = State.APART
_QUEUED: Final = State.QUEUED
_RUNNING: Final = State.RUNNING
_GONE: Final = State.GONE


@dataclass(frozen=True, kw_only=True)
class Rules:
    """How lanes share; all of `[limits]` that matters here."""

    fair: bool = True
    credit_tokens: float = 1_024.0
    bulk_share: float = 0.1
    overcommit: float = 0.25

    def window(self, slots: int) -> int:
        """How many may be under way at a model with so many slots."""
        return slots + math.ceil(slots * self.overcommit)

    @property
    def shares(self) -> Sequence[float]:
        return tuple(self.bulk_share if rank is Rank.BULK else 0.0 for rank in Rank)


@dataclass
class Guess:
    """Of tokens before they are counted, by what the model's requests came to lately."""

    tokens_per_byte: float = TOKENS_PER_BYTE_FIRST
    output_tokens: float = OUTPUT_TOKENS_FIRST

    def prompt_tokens(self, entry: Entry) -> float:
        return entry.body_bytes * self.tokens_per_byte if entry.counts_bytes else 0.0

    def learn(self, entry: Entry, prompt_tokens: int, output_tokens: int) -> None:
        if prompt_tokens and entry.body_bytes and entry.counts_bytes:
            ratio = prompt_tokens / entry.body_bytes
            self.tokens_per_byte += SMOOTHING * (ratio - self.tokens_per_byte)
        self.output_tokens += SMOOTHING * (output_tokens - self.output_tokens)
        if entry.account is not None:
            expected = entry.account.expected
            entry.account.expected = expected + SMOOTHING * (output_tokens - expected)


@dataclass
class Lane:
    model: ModelId
    rules: Rules
    slots: int | None = None
    """What the fleet said last; None: everybody goes. Set by `has`."""
    window: float = math.inf
    """How many may be under way at once."""
    looked_s: float = -math.inf
    """When it was asked last."""
    queue_max: float = math.inf
    """How many may be under way before the next is refused, as of `looked_s`."""
    count: int = 0
    """All that are under way here, in whatever state."""
    running: set[Entry] = field(default_factory=set)
    pace: Pace = field(default_factory=Pace)
    guess: Guess = field(default_factory=Guess)
    queues: tuple[FairQueue[Entry], ...] = ()
    waiting: list[int] = field(default_factory=lambda: [0] * len(Rank))
    """By rank."""
    queued: int = 0
    """All of them."""
    _shares: Shares = field(init=False)

    def __post_init__(self) -> None:
        rules = self.rules
        self.queues = tuple(
            FairQueue(credit_tokens=rules.credit_tokens, fair=rules.fair) for _ in Rank
        )
        self._shares = Shares(rules.shares)

    def has(self, slots: int | None) -> None:
        """So many slots from now on; None: nobody knows."""
        if slots != self.slots:
            self.slots = slots
            self.window = math.inf if slots is None else self.rules.window(slots)

    def room_at_once(self, rank: Rank) -> bool:
        """Whether one of this rank would go at once."""
        if self.queued:
            return False
        return len(self.running) < (self.window if rank is not _LEFT_OVER else self._room(rank))

    def enter(self, entry: Entry, now_s: float) -> bool:
        """Whether it may go at once; else it waits in its rank until `let_in` names it."""
        queue = self.queues[entry.rank]
        if entry.account is None:
            entry.account = queue.account(entry.account_name, self.guess.output_tokens)
        if self.room_at_once(entry.rank):
            self.go(entry, now_s)
            return True
        entry.state = _QUEUED
        queue.put(entry.account, entry)
        self.waiting[entry.rank] += 1
        self.queued += 1
        return False

    def go(self, entry: Entry, now_s: float) -> None:
        """At once, right after `room_at_once`: nearly every request's way."""
        queue = self.queues[entry.rank]
        account = entry.account
        if account is None:
            account = entry.account = queue.account(entry.account_name, self.guess.output_tokens)
        queue.pass_by(account)
        self._start(entry, now_s)

    def let_in(self, now_s: float) -> list[Entry]:
        """Those whose turn it is now."""
        found = []
        while (rank := self._shares.choose(self.waiting)) is not None:
            if len(self.running) >= self._room(Rank(rank)):
                break
            entry = self.queues[rank].take()
            self.waiting[rank] -= 1
            self.queued -= 1
            self._start(entry, now_s)
            self._shares.gave(rank, entry.charged, self.waiting)
            found.append(entry)
        return found

    def set_apart(self) -> list[Entry]:
        """Everybody out of the queue: where to go has to be looked for anew."""
        found = []
        for rank, queue in enumerate(self.queues):
            while queue.peek() is not None:
                entry = queue.take()
                entry.state = _APART
                found.append(entry)
            self.waiting[rank] = 0
        self.queued = 0
        return found

    def delivered(self, entry: Entry, tokens: float) -> None:
        """So much of its answer went out so far; what was guessed is paid already."""
        if entry.state is _RUNNING and entry.account is not None:
            more = self.guess.prompt_tokens(entry) + tokens - entry.charged
            if more > 0:
                self._charge(entry, more)

    def give_up(self, entry: Entry) -> None:
        """It waits no longer, and is not over yet."""
        assert entry.account is not None
        self.queues[entry.rank].remove(entry.account, entry)
        self.waiting[entry.rank] -= 1
        self.queued -= 1
        entry.state = _APART

    def leave(self, entry: Entry, now_s: float, *, tokens: float | None = None) -> None:
        """It is over; `tokens` is what it came to, where that is known."""
        state = entry.state
        if state is _RUNNING:
            self.running.discard(entry)
            if tokens != 0:
                self.pace.ended(now_s - entry.began_s)
            if tokens is not None:
                self._charge(entry, tokens - entry.charged)
        elif state is _QUEUED:
            self.give_up(entry)
        entry.state = _GONE
        if entry.account is not None:
            self.queues[entry.rank].leave(entry.account)
        self.count -= 1

    def displaced_by(self, entry: Entry) -> Entry | None:
        """Who waits that gives way, at a full queue: the newest of whoever has most of it."""
        for rank in reversed(Rank):
            if rank < entry.rank:
                return None
            queue = self.queues[rank]
            longest = queue.longest()
            if longest is None:
                continue
            newest = longest.waiting[-1][1]
            if rank > entry.rank:
                return newest
            account = queue.account(entry.account_name, self.guess.output_tokens)
            queue.leave(account)
            return newest if len(longest.waiting) > len(account.waiting) + 1 else None
        return None

    def wait_s(self, entry: Entry, now_s: float) -> float | None:
        """How long it would wait from now on; None where nothing is known of the model's pace."""
        if not self.pace.is_known():
            return None
        return self.pace.wait_s(self.ahead_of(entry), self.began_s(), now_s)

    def ahead_of(self, entry: Entry) -> int:
        """About how many go before one of its rank and account."""
        before = sum(self.waiting[: entry.rank])
        queue = self.queues[entry.rank]
        account = queue.account(entry.account_name, self.guess.output_tokens)
        queue.leave(account)
        return before + queue.ahead_of(account)

    def service_s(self, now_s: float) -> float:
        return self.pace.service_s(self.began_s(), now_s)

    def retry_s(self, now_s: float) -> int:
        """For one that finds the queue full."""
        retry_s = self.pace.retry_s(self.began_s(), now_s)
        self.pace.refused()
        return retry_s

    def _room(self, rank: Rank) -> float:
        # Left over is what no other request would be given.
        if rank is _LEFT_OVER and self.slots is not None:
            return self.slots
        return self.window

    def _start(self, entry: Entry, now_s: float) -> None:
        entry.state = _RUNNING
        entry.began_s = now_s
        self.running.add(entry)
        assert entry.account is not None
        tokens = min(entry.account.expected, entry.output_most)
        if entry.counts_bytes:
            tokens += entry.body_bytes * self.guess.tokens_per_byte
        self._charge(entry, tokens)

    def _charge(self, entry: Entry, tokens: float) -> None:
        entry.charged += tokens
        assert entry.account is not None
        self.queues[entry.rank].charge(entry.account, tokens / entry.weight)

    def began_s(self) -> list[float]:
        """When each of those that run began."""
        return [one.began_s for one in self.running]
