"""What the gateway needs of the rest of a cortex, and what it leaves with each request.

Everything here is called on the event loop and answers from memory, in
microseconds: nothing on the way of a request waits for a database.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from helexa.protocol.ids import ModelId
from helexa.protocol.routing import RouteHints, RoutingDecision, Target
from helexa.protocol.work import ModelCapability, WorkloadClass
from helexa.util.upstream import Headers, Pool


class KeyGrant(Protocol):
    @property
    def key_id(self) -> str: ...

    @property
    def account(self) -> str: ...


class Keys(Protocol):
    def check(self, secret: str) -> KeyGrant:
        """Raises KeyInvalid or KeyRevoked."""
        ...


class Way(Protocol):
    """How requests reach one neuron: a running pool, and the headers that it wants to see."""

    @property
    def pool(self) -> Pool: ...

    @property
    def headers(self) -> Headers: ...


class Fleet(Protocol):
    def route(self, workload: WorkloadClass, model: ModelId, hints: RouteHints) -> RoutingDecision:
        """At least one target. Raises ModelUnknown, or NoCapacity with the reasons."""
        ...

    def way(self, target: Target) -> Way:
        """Raises PeerLost when the target left since it was chosen."""
        ...

    def models(self) -> Sequence[ModelCapability]:
        """One capability for each model that somebody present serves."""
        ...

    def started(self, target: Target, model: ModelId) -> None:
        """A request is on its way to the target."""
        ...

    def finished(self, target: Target, model: ModelId) -> None:
        """Called exactly once for each `started`."""
        ...
