"""A request whose model nobody serves yet: it waits, and its client is told that it does.

A stream shows comments meanwhile, with how far the model is; a plain request is silent.
Both end at their deadline with how far it is and when to come back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from helexa.cortex.gateway.answer import Answer
from helexa.cortex.gateway.seams import Fleet, Place, Ticket
from helexa.protocol import sse
from helexa.protocol.ids import ModelId
from helexa.protocol.routing import RouteHints, RoutingDecision
from helexa.protocol.work import Progress

COMMENT_EVERY_S: Final = 2.0
"""A person watches; a keepalive for proxies alone could be rarer."""
LOOK_EVERY_S: Final = 5.0
"""News wakes those who wait; this is for news that got lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a request that waits has to say: who it is, and how long it may."""

    ticket: Ticket
    hints: RouteHints
    stream: bool
    max_wait_s: float | None
    since_s: float | None = None
    """When it began to wait, where that is not when it came."""


class Waiting:
    def __init__(self, fleet: Fleet, *, keepalive_s: float, now: Callable[[], float]) -> None:
        self._fleet = fleet
        self._comment_every_s = min(keepalive_s, COMMENT_EVERY_S)
        self._now = now

    async def until_served(
        self, asked: Asked, decision: RoutingDecision, answer: Answer
    ) -> RoutingDecision:
        """A decision whose first target serves the model now.

        Raises ModelLoading at the request's deadline, and what `Fleet.route` raises when
        nobody will ever serve it as things stand.
        """
        while (model := self._fleet.waits(decision)) is not None:
            decision = await self._until_news(asked, model, answer)
        return decision

    async def _until_news(self, asked: Asked, model: ModelId, answer: Answer) -> RoutingDecision:
        """Where it goes now: perhaps only to another wait, for another model."""
        with self._fleet.place(model) as place:
            while True:
                await self._look_out(asked, place, answer)
                ticket = asked.ticket
                decision = self._fleet.route(ticket.workload, ticket.model, asked.hints)
                if self._fleet.waits(decision) != model:
                    return decision

    async def _look_out(self, asked: Asked, place: Place, answer: Answer) -> None:
        most_s = place.max_wait_s
        if asked.max_wait_s is not None:
            most_s = min(most_s, asked.max_wait_s)
        since_s = asked.ticket.began_s if asked.since_s is None else asked.since_s
        left_s = since_s + most_s - self._now()
        if left_s <= 0:
            raise place.too_late()
        every_s = self._comment_every_s if asked.stream else LOOK_EVERY_S
        if not await place.news(min(left_s, every_s)) and asked.stream:
            await answer.keepalive(comment_of(place.progress()))


def comment_of(progress: Progress) -> bytes:
    """An SSE comment for people who look at the raw stream; clients skip it."""
    words = [progress.phase.value]
    if progress.bytes_total:
        words.append(f"{progress.bytes_done}/{progress.bytes_total} bytes")
    if progress.eta_s is not None:
        words.append(f"eta {progress.eta_s:.1f} s")
    return sse.comment(" ".join(words).encode())
