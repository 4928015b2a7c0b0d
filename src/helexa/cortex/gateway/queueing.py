"""A request whose turn it is not yet, and its client, who is told that it waits.

    model is not served -> wait for it -> stand in the queue -> look again where it goes -> go

As where a model is loaded: a stream shows comments meanwhile, a plain request is silent.
"""

from __future__ import annotations

from typing import Final

from helexa.cortex.gateway.answer import Answer
from helexa.cortex.gateway.seams import Fleet, Turn
from helexa.cortex.gateway.waiting import Asked, Waiting
from helexa.protocol import sse
from helexa.protocol.routing import RoutingDecision

QUEUED: Final = sse.comment(b"queued")


class Queueing:
    def __init__(self, fleet: Fleet, waiting: Waiting, *, comment_every_s: float) -> None:
        self._fleet = fleet
        self._waiting = waiting
        self._comment_every_s = comment_every_s

    async def until_turn(
        self, turn: Turn, asked: Asked, decision: RoutingDecision, answer: Answer
    ) -> RoutingDecision:
        """Where it goes now that it may.

        Raises what sends it away, and what `Fleet.route` raises when nobody will serve it.
        """
        every_s = self._comment_every_s if asked.stream else None
        while True:
            if turn.apart and self._fleet.waits(decision) is not None:
                decision = await self._waiting.until_served(asked, decision, answer)
            if await turn.come(every_s):
                break
            if turn.apart:
                decision = self._route(asked)
            elif asked.stream:
                await answer.keepalive(QUEUED)
        return self._route(asked)

    def _route(self, asked: Asked) -> RoutingDecision:
        """As things stand: those who were free when it came may be gone or busy."""
        ticket = asked.ticket
        return self._fleet.route(ticket.workload, ticket.model, asked.hints)
