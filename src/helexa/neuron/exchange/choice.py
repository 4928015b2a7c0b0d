"""What a free lane does next: which piece it takes, and from whom; a pure function of the swarm.

In this order:

1. From the origin: a piece that this neuron owns and that nobody can give; of a disputed one
   the origin has the last word.
2. From another neuron: what few have goes first, and then to whom least is asked of.
3. Ask an owner who has much before it to hand some over.
4. Take a piece twice, where it has been on its way for long and somebody else has it too.
5. From the origin: what only slow neurons have or are about to have (`Swarm.overdue`).
6. From the origin, whoever owns it: where nothing has come for long.

An owner that stalls or vanishes is no owner any more: see `Member.owns`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias

from helexa.neuron.exchange import bits
from helexa.neuron.exchange.member import Member
from helexa.neuron.exchange.swarm import Swarm
from helexa.neuron.models.supply.piece import ORIGIN
from helexa.protocol.ids import NodeId

MAPS_S: Final = 2.0
"""For the first maps of those that were named: who has the whole leaves nothing to the origin."""
PEER_LANES: Final = 4
PER_PEER: Final = 2
DISPUTES_AT_ONCE: Final = 1
"""One piece from the origin shows who lies; then the other disputes are settled too."""
CLAIM_EVERY_S: Final = 0.5
RACE_AFTER_S: Final = 5.0
IDLE_FACTOR: Final = 2.0
"""Times `Swarm.slow_after_s`: whose turn it is has had no effect then."""
STARVED_S: Final = 60.0
"""Without any progress, here or elsewhere, where there is no origin to turn to."""
NOBODY_S: Final = 60.0
"""Without a neuron that has what is missing, or is to get it."""
LOOK_EVERY_S: Final = 0.5
"""What changes by time alone is seen this late."""


@dataclass(frozen=True, slots=True)
class Fetch:
    index: int
    giver: str


@dataclass(frozen=True, slots=True)
class Ask:
    """To hand over so many pieces."""

    node: NodeId
    wanted: int


@dataclass(frozen=True, slots=True)
class Drop:
    """It is here by the word of a liar, or of one of two who say different things."""

    index: int


@dataclass(frozen=True, slots=True)
class Rest:
    """Until there is news, and not longer than this."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Hopeless:
    reason: str


Choice: TypeAlias = Fetch | Ask | Drop | Rest | Hopeless


def decide(swarm: Swarm, now_s: float, random: Callable[[], float]) -> Choice:
    if swarm.awaited and now_s - swarm.began_s < MAPS_S:
        return Rest(MAPS_S - (now_s - swarm.began_s))
    return (
        _distrust(swarm)
        or _from_origin(swarm, now_s)
        or _from_peer(swarm, now_s, random)
        or _claim(swarm, now_s)
        or _race(swarm, now_s)
        or _overtake(swarm, now_s)
        or _last_resort(swarm, now_s)
        or _hopeless(swarm, now_s)
        or Rest(LOOK_EVERY_S)
    )


def _distrust(swarm: Swarm) -> Choice | None:
    if suspect := swarm.suspect & swarm.have:
        return Drop(bits.lowest(suspect))
    unsettled = swarm.beliefs.unsettled
    held = unsettled & swarm.have & ~swarm.own_word
    if held and swarm.has_origin and not unsettled & swarm.missing:
        return Drop(bits.lowest(held))
    return None


def _from_origin(swarm: Swarm, now_s: float) -> Choice | None:
    if not swarm.has_origin or not swarm.lanes_free(now_s):
        return None
    fetching = swarm.fetching
    free = swarm.missing & ~swarm.taken
    if wanted := free & swarm.doubted:
        return Fetch(bits.lowest(wanted), ORIGIN)
    unsettled = swarm.beliefs.unsettled
    if (fetching & unsettled).bit_count() < DISPUTES_AT_ONCE and (wanted := free & unsettled):
        return Fetch(bits.lowest(wanted), ORIGIN)
    elsewhere = swarm.available(now_s) | swarm.coming(now_s) | unsettled
    # Whose they are is the dearer question.
    wanted = free & ~elsewhere and free & ~elsewhere & swarm.mine(now_s)
    return Fetch(bits.lowest(wanted), ORIGIN) if wanted else None


def _from_peer(swarm: Swarm, now_s: float, random: Callable[[], float]) -> Choice | None:
    usable = _usable(swarm, now_s)
    if not usable:
        return None
    free = swarm.missing & ~swarm.taken & ~swarm.doubted & ~swarm.beliefs.unsettled
    once = more = offered = 0
    for member in swarm.live():
        more |= once & member.have
        once |= member.have
    for member in usable:
        offered |= member.have
    wanted = free & offered
    while wanted:
        index = bits.some(wanted & once & ~more or wanted, random)
        if (giver := _best(swarm, index, usable, random)) is not None:
            return Fetch(index, giver.node)
        wanted &= ~(1 << index)
    return None


def _usable(swarm: Swarm, now_s: float) -> list[Member]:
    live = list(swarm.live())
    if sum(member.takes for member in live) >= PEER_LANES:
        return []
    return [m for m in live if m.takes < PER_PEER and now_s >= m.rests_until_s]


def _best(
    swarm: Swarm, index: int, members: Iterable[Member], random: Callable[[], float]
) -> Member | None:
    """Who has the piece as it should be, with the least to do for this neuron."""
    expected = swarm.beliefs.expected(index)
    if expected is None:
        return None
    holders = [
        member
        for member in members
        if member.have >> index & 1 and swarm.beliefs.says(member.node, index) == expected
    ]
    return min(holders, key=lambda m: (m.takes, m.failures, random()), default=None)


def _claim(swarm: Swarm, now_s: float) -> Choice | None:
    room = swarm.lanes_free(now_s)
    if not swarm.has_origin or swarm.in_order or not room:
        return None
    asked: list[tuple[int, NodeId]] = []
    for member in swarm.live():
        fetches = member.fetches and not member.in_order and member.owns(now_s)
        if fetches and now_s - member.asked_s >= CLAIM_EVERY_S:
            asked.append((swarm.not_begun(member.node, now_s).bit_count(), member.node))
    count, node = max(asked, default=(0, swarm.me))
    return Ask(node, room) if count else None


def _race(swarm: Swarm, now_s: float) -> Choice | None:
    usable = _usable(swarm, now_s)
    for index, takes in swarm.takes.items():
        if not usable or len(takes) > 1 or now_s - takes[0].since_s < RACE_AFTER_S:
            continue
        if swarm.doubted >> index & 1 or swarm.have >> index & 1:
            continue
        others = [member for member in usable if member.node != takes[0].giver]
        if (giver := _best(swarm, index, others, lambda: 0.0)) is not None:
            return Fetch(index, giver.node)
    return None


def _overtake(swarm: Swarm, now_s: float) -> Choice | None:
    if not swarm.has_origin or not swarm.lanes_free(now_s):
        return None
    fetching = swarm.fetching
    wanted = swarm.overdue(now_s) & ~fetching & ~swarm.beliefs.unsettled
    return Fetch(bits.lowest(wanted), ORIGIN) if wanted else None


def _last_resort(swarm: Swarm, now_s: float) -> Choice | None:
    if not swarm.has_origin or not swarm.lanes_free(now_s):
        return None
    fetching = swarm.fetching
    wanted = swarm.missing & ~fetching
    if not wanted or now_s - swarm.here_moved_s < IDLE_FACTOR * swarm.slow_after_s():
        return None
    return Fetch(bits.lowest(wanted), ORIGIN)


def _hopeless(swarm: Swarm, now_s: float) -> Choice | None:
    if swarm.has_origin or swarm.takes:
        return None
    hopes = any(member.fetches or member.have & swarm.missing for member in swarm.live())
    some = any(not member.liar for member in swarm.members.values())
    patience_s = (STARVED_S if hopes else NOBODY_S) if some else 0.0
    if now_s - swarm.moved_s < patience_s:
        return None
    piece = bits.lowest(swarm.missing) if swarm.missing else 0
    reason = f"no neuron that may give it has piece {piece} of {swarm.layout.count}"
    return Hopeless(swarm.origin_failure or reason)
