"""Who is next at a busy model: the promises of the queue, for any order of events."""

from __future__ import annotations

import random
from collections import deque

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from helexa.cortex.gateway.admission.entry import Entry, State
from helexa.cortex.gateway.admission.fair_queue import FairQueue
from helexa.cortex.gateway.admission.lane import Lane, Rules
from helexa.cortex.gateway.admission.ranks import Rank, Shares
from helexa.protocol.ids import ModelId

NAMES = ("a", "b", "c", "d")


class AnyOrder(RuleBasedStateMachine):
    """Against the plainest model: a list for each account, and the lowest counter among them."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: FairQueue[int] = FairQueue(credit_tokens=10)
        self.waiting: dict[str, deque[int]] = {name: deque() for name in NAMES}
        self.accounts = {name: self.queue.account(name, 1.0) for name in NAMES}
        self.made = 0

    @rule(name=st.sampled_from(NAMES))
    def put(self, name: str) -> None:
        self.made += 1
        self.waiting[name].append(self.made)
        self.queue.put(self.accounts[name], self.made)

    @precondition(lambda self: len(self.queue))
    @rule()
    def take(self) -> None:
        lowest = min(self.accounts[name].served for name in NAMES if self.waiting[name])
        one = self.queue.take()
        owner = next(name for name in NAMES if one in self.waiting[name])
        assert self.waiting[owner].popleft() == one, "first in, first out within an account"
        assert self.accounts[owner].served == lowest

    @rule(name=st.sampled_from(NAMES), tokens=st.integers(-20, 50))
    def charge(self, name: str, tokens: int) -> None:
        self.queue.charge(self.accounts[name], tokens)

    @precondition(lambda self: len(self.queue))
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from([one for one in NAMES if self.waiting[one]]))
        one = data.draw(st.sampled_from(list(self.waiting[name])))
        self.waiting[name].remove(one)
        self.queue.remove(self.accounts[name], one)

    @invariant()
    def nobody_is_lost_or_invented(self) -> None:
        assert len(self.queue) == sum(map(len, self.waiting.values()))
        assert (self.queue.peek() is None) == (len(self.queue) == 0)


AnyOrder.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    # Of the machine, not of what is drawn.
    suppress_health_check=[HealthCheck.too_slow],
)
TestAnyOrder = AnyOrder.TestCase


@given(
    seed=st.integers(0, 2**32),
    weights=st.lists(st.sampled_from([0.5, 1.0, 2.0, 4.0]), min_size=2, max_size=5),
    credit=st.sampled_from([0, 150]),
)
def test_accounts_that_always_wait_get_their_shares(
    seed: int, weights: list[float], credit: int
) -> None:
    """By weight, and never further apart than one request of each and the credit."""
    chance = random.Random(seed)
    costs = [[chance.randint(1, 100) for _ in range(60)] for _ in weights]
    queue: FairQueue[tuple[int, int]] = FairQueue(credit_tokens=credit)
    accounts = [queue.account(str(number), 1.0) for number in range(len(costs))]
    for number, of_one in enumerate(costs):
        for cost in of_one:
            queue.put(accounts[number], (number, cost))
    given_to = [0.0] * len(costs)
    apart = 2 * max(100 / one for one in weights) + credit
    left = [len(one) for one in costs]
    while all(left):
        number, cost = queue.take()
        left[number] -= 1
        given_to[number] += cost / weights[number]
        queue.charge(accounts[number], cost / weights[number])
        assert max(given_to) - min(given_to) <= apart


def test_an_account_that_paused_has_saved_up_no_more_than_its_credit() -> None:
    queue: FairQueue[str] = FairQueue(credit_tokens=30)
    busy, idle = queue.account("busy", 1.0), queue.account("idle", 1.0)
    for _ in range(200):
        queue.put(busy, "busy")
    for _ in range(100):
        assert queue.take() == "busy"
        queue.charge(busy, 10)
    for _ in range(100):
        queue.put(idle, "idle")
    order = []
    for _ in range(40):
        order.append(one := queue.take())
        queue.charge(busy if one == "busy" else idle, 10)
    assert order[:3] == ["idle"] * 3
    # From then on they take turns.
    assert abs(order[4:].count("idle") - order[4:].count("busy")) <= 1


def test_what_was_used_while_nobody_waited_is_not_held_against_an_account() -> None:
    queue: FairQueue[str] = FairQueue(credit_tokens=0)
    old, new = queue.account("old", 1.0), queue.account("new", 1.0)
    for _ in range(100):
        queue.pass_by(old)
        queue.charge(old, 1_000)
    queue.put(new, "new")
    queue.put(old, "old")
    order = []
    for _ in range(2):
        order.append(queue.take())
        queue.charge(new, 1_000)
    assert order == ["new", "old"]


def test_unfair_is_first_come_first_served() -> None:
    queue: FairQueue[int] = FairQueue(fair=False)
    for number in range(20):
        one = queue.account(f"of {number % 3}", 1.0)
        queue.put(one, number)
        queue.charge(one, 100 * number)
    assert [queue.take() for _ in range(20)] == list(range(20))


@given(st.integers(0, 2**32))
def test_a_later_rank_gets_its_share_and_no_more_while_both_wait(seed: int) -> None:
    chance = random.Random(seed)
    shares = Shares((0.0, 0.2, 0.0))
    given_to = [0.0, 0.0, 0.0]
    for _ in range(2_000):
        rank = shares.choose((5, 5, 5))
        assert rank is not None
        tokens = chance.randint(1, 40)
        given_to[rank] += tokens
        shares.gave(rank, tokens, (5, 5, 5))
    assert abs(given_to[1] / sum(given_to) - 0.2) < 0.02
    assert given_to[2] == 0, "what has no share is left over"


def entry(name: str, rank: Rank = Rank.INTERACTIVE, weight: float = 1.0) -> Entry:
    return Entry(name, rank, weight, body_bytes=400, came_s=0.0)


def lane(slots: int | None, **rules: float) -> Lane:
    found = Lane(ModelId("m"), Rules(**{"overcommit": 0.0, **rules}))  # type: ignore[arg-type]
    found.has(slots)
    return found


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(
    slots=st.integers(1, 4),
    moves=st.lists(
        st.tuples(st.sampled_from(NAMES), st.sampled_from(list(Rank)), st.integers(0, 9)),
        max_size=80,
    ),
)
def test_no_slot_idles_while_somebody_waits_and_nobody_is_lost(
    slots: int, moves: list[tuple[str, Rank, int]]
) -> None:
    one = lane(slots)
    alive: list[Entry] = []
    for number, (name, rank, what) in enumerate(moves):
        if what < 6 or not alive:
            new = entry(name, rank)
            one.count += 1
            one.enter(new, number)
            alive.append(new)
        else:
            one.leave(alive.pop(number % len(alive)), number, tokens=float(what * 20))
            one.let_in(number)
        running = [each for each in alive if each.state is State.RUNNING]
        assert len(running) == len(one.running) <= slots
        assert one.queued == len(alive) - len(running)
        assert one.count == len(alive)
        assert not one.queued or len(running) == slots
    while alive:
        one.leave(alive.pop(0), len(moves), tokens=0.0)
        one.let_in(len(moves))
    assert (one.count, one.queued, len(one.running)) == (0, 0, 0)


def test_what_is_left_over_is_not_the_overcommitted_part() -> None:
    one = lane(4, overcommit=0.5)
    for _ in range(4):
        assert one.enter(entry("a"), 0.0)
    stranger = entry("x", Rank.ANONYMOUS)
    assert not one.enter(stranger, 0.0)
    assert one.let_in(0.0) == []
    with_key = entry("b")
    one.enter(with_key, 0.0)
    assert one.let_in(0.0) == [with_key]
    for each in list(one.running)[:2]:
        one.leave(each, 1.0, tokens=1.0)
    assert one.let_in(1.0) == [stranger]


def test_delivered_tokens_are_charged_while_an_answer_is_on_its_way() -> None:
    """A guess that was too low does not let an account's long answers pass for short ones."""
    one = lane(2)
    long, short = entry("long"), entry("short")
    for each in (long, short):
        one.enter(each, 0.0)
    for name in ("long", "short"):
        one.enter(entry(name), 0.0)
    one.delivered(long, 5_000)
    one.leave(short, 1.0, tokens=120.0)
    (let_in,) = one.let_in(1.0)
    assert let_in.account_name == "short"
    one.leave(let_in, 2.0, tokens=120.0)
    assert [each.account_name for each in one.let_in(2.0)] == ["long"]


def test_a_full_queue_gives_way_to_those_who_have_less_of_it() -> None:
    one = lane(1)
    one.enter(entry("greedy"), 0.0)
    theirs = [entry("greedy") for _ in range(3)]
    for each in theirs:
        one.enter(each, 0.0)
    assert one.displaced_by(entry("modest")) is theirs[-1]
    assert one.displaced_by(entry("greedy")) is None
    assert one.displaced_by(entry("modest", Rank.BULK)) is None
    bulk = entry("modest", Rank.BULK)
    one.enter(bulk, 0.0)
    assert one.displaced_by(entry("greedy")) is bulk


def test_the_time_to_come_back_is_by_what_requests_take() -> None:
    one = lane(2)
    first, second = entry("a"), entry("a")
    one.count = 2
    one.enter(first, 0.0)
    one.enter(second, 0.0)
    assert one.wait_s(entry("a"), 0.0) is None, "nothing has ended yet"
    one.leave(first, 8.0, tokens=10.0)
    one.enter(entry("b"), 8.0)
    assert [one.retry_s(8.0) for _ in range(3)] == [4, 8, 12]
    # Those that run have run for longer than was measured: so will the next.
    assert one.wait_s(entry("a"), 30.0) == 13.0
