"""Where a node looks for the mesh, whom it tries, and when it stops asking.

`plan` decides whom to try of those that were found; the loop looks, tries and
waits. A node that is alone goes on for ever at a bounded rate, since nobody
else could bring it back. One that has company tries only whom its operator
named, until they were joined, and those that came to its ear, once each.
"""

from __future__ import annotations

import enum
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import anyio

from helexa.mesh.discovery.dns import seeds
from helexa.mesh.discovery.lan import Lan
from helexa.mesh.discovery.peer_cache import PeerCache
from helexa.mesh.ticket import Ticket
from helexa.protocol.ids import NodeId
from helexa.util.background import background
from helexa.util.backoff import Backoff
from helexa.util.sockets import Address

log = logging.getLogger(__name__)

TRIES_MAX: Final = 32
"""In one round. The next round begins with those that were not tried for longest."""
AT_ONCE_MAX: Final = 4
"""One dead address takes a timeout; a few at once keep a round short."""
TRY_S: Final = 20.0
LOOK_S: Final = 10.0
CALM_S: Final = 5.0
"""How soon a node that lost all others notices, and the least time between two rounds on call."""
TRIED_MAX: Final = 1_024
REMEMBERED_MAX: Final = 8
"""Peers of the cache that one round begins with; the next round draws others."""
BACKOFF: Final = Backoff(first_s=1.0, factor=2.0, most_s=60.0)


class Zeal(enum.Enum):
    """How far a source's nodes are followed by a node that is not alone."""

    ALONE = "alone"
    """Not at all: remembered peers, which others know as well."""
    ONCE = "once"
    """Each is tried once: who was heard on the LAN may be of another mesh, to be joined to ours."""
    UNTIL_ONE = "until one"
    """Until one of them was joined: an operator's seeds, which stand for one mesh."""
    UNTIL_EACH = "until each"
    """Until each was joined once: the operator named them one by one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Somewhere to look. What `look` raises is logged and means that nothing was found."""

    name: str
    """For logs and status; two sources have two names."""
    look: Callable[[], Awaitable[Sequence[Ticket]]]
    zeal: Zeal = Zeal.ALONE


@dataclass(frozen=True, slots=True)
class Candidate:
    """A node to try, and who named it."""

    ticket: Ticket
    source: Source


JoinOne = Callable[[Ticket, str], Awaitable[bool]]
"""Try that node, from the source of that name; whether it is a fellow member now."""


def given(tickets: Sequence[Ticket]) -> Source:
    """What the operator wrote down."""
    return _at_hand("tickets", lambda: tickets, Zeal.UNTIL_EACH)


def remembered(cache: PeerCache, random: Callable[[], float] = random.random) -> Source:
    """Peers of earlier days, a few at a time; `random` gives numbers in 0..1."""
    return _at_hand("remembered peers", lambda: cache.best(REMEMBERED_MAX, random), Zeal.ALONE)


def heard(lan: Lan) -> Source:
    """Cortexes on the LAN. Its `on_found` should `call` the bootstrap."""

    def look() -> Sequence[Ticket]:
        return [found.ticket for found in lan.found if found.role == "cortex"]

    return _at_hand("LAN", look, Zeal.ONCE)


def named(name: str, *, nameserver: Address | None = None) -> Source:
    """An operator's seeds, by the DNS name that holds their tickets."""
    return Source(
        name=f"DNS name {name}",
        look=lambda: seeds(name, nameserver=nameserver),
        zeal=Zeal.UNTIL_ONE,
    )


def _at_hand(name: str, look: Callable[[], Sequence[Ticket]], zeal: Zeal) -> Source:
    async def looked() -> Sequence[Ticket]:
        return look()

    return Source(name=name, look=looked, zeal=zeal)


def plan(
    seen: Iterable[Candidate],
    *,
    own: NodeId,
    alone: bool,
    tried: Collection[NodeId],
    joined: Collection[NodeId],
    most: int = TRIES_MAX,
) -> list[Candidate]:
    """Whom to try now, in order, at most `most`; empty when there is nothing to do.

    `tried` holds those of earlier rounds, the least recently tried first. A node
    that several sources name is tried at each set of addresses that they give.
    """
    turn = {node: number for number, node in enumerate(tried)}
    wanted: dict[tuple[NodeId, str], Candidate] = {}
    for one in seen:
        node, zeal = one.ticket.node, one.source.zeal
        fresh = node not in turn and zeal is Zeal.ONCE
        owed = node not in joined and zeal in (Zeal.UNTIL_ONE, Zeal.UNTIL_EACH)
        if node != own and (alone or fresh or owed):
            wanted.setdefault((node, str(one.ticket.addresses)), one)
    # Sorting is stable: within a turn the order of the sources holds.
    return sorted(wanted.values(), key=lambda one: turn.get(one.ticket.node, -1))[:most]


class Bootstrap:
    """Made by `running`."""

    def __init__(
        self,
        sources: Sequence[Source],
        join_one: JoinOne,
        is_alone: Callable[[], bool],
        own: NodeId,
        *,
        backoff: Backoff,
        jitter: Callable[[], float],
        calm_s: float,
        try_s: float,
    ) -> None:
        self.rounds = 0
        """In which somebody was tried, or nobody was found by a node that is alone."""
        self.problems: dict[str, str] = {}
        """Why a source gave nothing, by its name; for status."""
        self._sources = sources
        self._join_one = join_one
        self._is_alone = is_alone
        self._own = own
        self._backoff = backoff
        self._jitter = jitter
        self._calm_s = calm_s
        self._try_s = try_s
        self._tried: dict[NodeId, None] = {}
        self._joined: set[NodeId] = set()
        """Of those that the operator named: as many as the settings hold."""
        self._satisfied: set[str] = set()
        """Names of sources of which one node is enough, and was joined."""
        self._called = anyio.Event()

    @classmethod
    @asynccontextmanager
    async def running(
        cls,
        sources: Sequence[Source],
        join_one: JoinOne,
        is_alone: Callable[[], bool],
        *,
        own: NodeId,
        backoff: Backoff = BACKOFF,
        jitter: Callable[[], float] = random.random,
        calm_s: float = CALM_S,
        try_s: float = TRY_S,
    ) -> AsyncIterator[Bootstrap]:
        """Look and try inside the block, sources in the order given.

        `join_one` should answer True at once for a node that is a member
        already; it is given `try_s` seconds. `is_alone` says whether the node
        has too few others to stop asking, and is asked every `calm_s` seconds
        when there is nothing to do.
        """
        bootstrap = cls(
            sources,
            join_one,
            is_alone,
            own,
            backoff=backoff,
            jitter=jitter,
            calm_s=calm_s,
            try_s=try_s,
        )
        async with background() as tasks:
            tasks.start_soon(bootstrap._live)
            yield bootstrap

    def call(self) -> None:
        """Something changed - a node was found, others were lost: look sooner."""
        self._called.set()

    async def _live(self) -> None:
        vain = 0
        while True:
            alone = self._is_alone()
            candidates = plan(
                await self._look(alone=alone),
                own=self._own,
                alone=alone,
                tried=self._tried,
                joined=self._joined,
            )
            if not (candidates or alone or self._owes_a_seed()):
                vain = 0
                await self._wait(self._calm_s)
                continue
            self.rounds += 1
            await self._try(candidates, alone=alone)
            if self._is_alone() or self._owes_a_seed() or not self._each_is_joined(candidates):
                vain += 1
                await self._wait(self._backoff.delay_s(vain, self._jitter))

    async def _look(self, *, alone: bool) -> list[Candidate]:
        seen: list[Candidate] = []
        for source in self._sources:
            satisfied = source.zeal is Zeal.ALONE or source.name in self._satisfied
            if alone or not satisfied:
                seen += [Candidate(ticket, source) for ticket in await self._look_at(source)]
        return seen

    async def _look_at(self, source: Source) -> Sequence[Ticket]:
        problem = ""
        try:
            with anyio.fail_after(LOOK_S):
                return await source.look()
        except TimeoutError:
            problem = f"no answer within {LOOK_S:g} s"
        except Exception as error:  # noqa: BLE001  # One broken source must not hide the others.
            problem = f"{type(error).__name__}: {error}"
        finally:
            # A reason is logged when it changes: a name that stays away is one line.
            if problem and problem != self.problems.get(source.name):
                log.warning("nothing found by %s: %s", source.name, problem)
            self.problems[source.name] = problem
        return ()

    async def _try(self, candidates: Sequence[Candidate], *, alone: bool) -> None:
        """All of them, a few at once; a node that was alone stops when it is not any more."""
        queue = iter(candidates)

        async def work() -> None:
            for one in queue:
                if alone and not self._is_alone():
                    return
                await self._try_one(one)

        async with anyio.create_task_group() as tasks:
            for _ in range(AT_ONCE_MAX):
                tasks.start_soon(work)

    async def _try_one(self, one: Candidate) -> None:
        node = one.ticket.node
        self._tried.pop(node, None)
        self._tried[node] = None
        if len(self._tried) > TRIED_MAX:
            del self._tried[next(iter(self._tried))]
        try:
            with anyio.move_on_after(self._try_s):
                if await self._join_one(one.ticket, one.source.name):
                    self._note_joined(one)
        except Exception:
            # One bad ticket must not keep the node from the good ones.
            log.exception("a node could not be tried", extra={"peer": node})

    def _note_joined(self, one: Candidate) -> None:
        match one.source.zeal:
            case Zeal.UNTIL_EACH:
                self._joined.add(one.ticket.node)
            case Zeal.UNTIL_ONE:
                self._satisfied.add(one.source.name)

    def _owes_a_seed(self) -> bool:
        return any(
            source.zeal is Zeal.UNTIL_ONE and source.name not in self._satisfied
            for source in self._sources
        )

    def _each_is_joined(self, candidates: Sequence[Candidate]) -> bool:
        return all(
            one.ticket.node in self._joined
            for one in candidates
            if one.source.zeal is Zeal.UNTIL_EACH
        )

    async def _wait(self, most_s: float) -> None:
        with anyio.move_on_after(most_s):
            await self._called.wait()
            self._called = anyio.Event()
            # Whoever calls at every advert of a flood gets rounds at this rate.
            await anyio.sleep(min(most_s, self._calm_s) * 0.2)
