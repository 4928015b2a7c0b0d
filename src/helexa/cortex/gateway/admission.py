"""The door for clients: the key, and a bound on what is under way for one model."""

from __future__ import annotations

from collections.abc import Callable

from helexa.cortex.gateway.ingress import Ingress
from helexa.cortex.gateway.seams import KeyGrant, Keys, Ticket, Visit
from helexa.protocol.errors import QueueFull
from helexa.protocol.ids import ModelId
from helexa.protocol.routing import RoutingDecision
from helexa.protocol.work import WorkloadClass
from helexa.util.asgi import Scope


class Admission:
    def __init__(self, keys: Keys, *, queue_max: Callable[[ModelId], int]) -> None:
        """`queue_max`: requests under way for a model, above which the next is refused."""
        self._keys = keys
        self._queue_max = queue_max
        self._under_way: dict[ModelId, int] = {}

    @property
    def under_way(self) -> int:
        return sum(self._under_way.values())

    def check(self, secret: str) -> KeyGrant:
        """Raises KeyInvalid or KeyRevoked."""
        return self._keys.check(secret)

    def enter(self, scope: Scope, ingress: Ingress) -> Visit:  # noqa: ARG002 - headers tell all
        """Raises KeyInvalid or KeyRevoked."""
        return Visit(self._keys.check(ingress.key()))

    def consider(self, visit: Visit, model: ModelId, workload: WorkloadClass) -> None:
        """A key may ask for everything."""

    def admit(self, ticket: Ticket, decision: RoutingDecision) -> None:  # noqa: ARG002
        """Called after routing, so that only models that exist are counted. Raises QueueFull."""
        count = self._under_way.get(ticket.model, 0)
        if count >= self._queue_max(ticket.model):
            raise QueueFull(f"{count} requests for this model are under way; try again shortly.")
        self._under_way[ticket.model] = count + 1

    def lines(self, ticket: Ticket) -> bytes:  # noqa: ARG002 - no limit to tell of
        return b""

    def delivered(self, ticket: Ticket, events: int) -> None:
        """Nobody counts them."""

    def leave(self, ticket: Ticket) -> None:
        count = self._under_way[ticket.model] - 1
        if count:
            self._under_way[ticket.model] = count
        else:
            del self._under_way[ticket.model]
