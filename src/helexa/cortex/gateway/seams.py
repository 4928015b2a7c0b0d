"""What the gateway needs of the rest of a cortex, and what it leaves with each request.

Everything here is called on the event loop and answers from memory, in
microseconds: nothing on the way of a request waits for a database.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from helexa.cortex.gateway.ingress import Ingress
from helexa.protocol.errors import HelexaError
from helexa.protocol.ids import ModelId, NodeId, RequestId
from helexa.protocol.openai.models import ModelAbout
from helexa.protocol.routing import RouteHints, RoutingDecision, Target
from helexa.protocol.work import ModelCapability, Progress, WorkloadClass
from helexa.util.asgi import Scope
from helexa.util.upstream import Headers, Response


class KeyGrant(Protocol):
    @property
    def key_id(self) -> str: ...

    @property
    def account(self) -> str: ...


class Keys(Protocol):
    def check(self, secret: str) -> KeyGrant:
        """Raises KeyInvalid or KeyRevoked."""
        ...


@dataclass(slots=True)
class Visit:
    """Who asks, and what is known before the body is read."""

    grant: KeyGrant
    path: tuple[NodeId, ...] = ()
    hops_left: int | None = None
    model: ModelId | None = None
    """What is asked for, where the one that sent it says so beside the body."""
    shows_usage: bool = False
    """Whether a stream shows usage whatever its body asks for."""


@dataclass(slots=True)
class Ticket:
    """The permission for one request. Given back exactly once, however the request ends."""

    request_id: RequestId
    grant: KeyGrant
    model: ModelId
    workload: WorkloadClass
    began_s: float


class Door(Protocol):
    """One way in: clients with keys, or other cortexes. Called in this order, `leave` always."""

    def enter(self, scope: Scope, ingress: Ingress) -> Visit:
        """Before the body is read. Raises HelexaError."""
        ...

    def consider(self, visit: Visit, model: ModelId, workload: WorkloadClass) -> None:
        """Before anybody is looked for. Raises HelexaError."""
        ...

    def admit(self, ticket: Ticket) -> None:
        """When there is somebody to serve it. Raises HelexaError."""
        ...

    def leave(self, ticket: Ticket) -> None:
        """Once for each `admit` that did not raise."""
        ...


class Sender(Protocol):
    """The part of a `Pool` that requests are sent by."""

    async def send(
        self,
        method: str,
        path: str,
        headers: Headers = (),
        body: bytes = b"",
        *,
        first_byte_timeout_s: float = 300.0,
        silence_timeout_s: float = 300.0,
        resend_safe: bool = False,
    ) -> Response: ...


class Way(Protocol):
    """How a request reaches one target, and the headers that are wanted there."""

    @property
    def pool(self) -> Sender: ...

    @property
    def headers(self) -> Headers: ...


class Place(Protocol):
    """Of one request that waits for its model to be served somewhere."""

    @property
    def max_wait_s(self) -> float:
        """The longest wait that the model's entry allows."""
        ...

    async def news(self, timeout_s: float) -> bool:
        """Return at news about the model, or after this time; whether there was any."""
        ...

    def progress(self) -> Progress: ...

    def too_late(self) -> HelexaError:
        """The refusal of one that waited as long as it may."""
        ...


class Fleet(Protocol):
    def waits(self, decision: RoutingDecision) -> ModelId | None:
        """The model to wait for, where nobody serves this now; None where it can go."""
        ...

    def place(self, model: ModelId) -> AbstractContextManager[Place]:
        """A place to wait at until somebody serves what `waits` named."""
        ...

    @property
    def brings_models(self) -> bool:
        """Whether a model that nobody serves is brought somewhere for a request that waits."""
        ...

    def queue_max(self, model: ModelId) -> int | None:
        """How many requests for the model may be under way; None is the gateway's own bound."""
        ...

    def route(self, workload: WorkloadClass, model: ModelId, hints: RouteHints) -> RoutingDecision:
        """At least one target, or one that `waits`.

        Raises ModelUnknown, or NoCapacity with the reasons.
        """
        ...

    def wants_prefixes(self, model: ModelId) -> bool:
        """Whether `hints.prefixes` would make a difference: only then they are worth their cost."""
        ...

    def way(self, target: Target, hints: RouteHints) -> Way:
        """Raises PeerLost when the target left since it was chosen."""
        ...

    def models(self) -> Sequence[ModelCapability]:
        """One capability for each model that somebody present serves."""
        ...

    def owners(self) -> Mapping[ModelId, str]:
        """The names of those who serve the models that no neuron here has."""
        ...

    def about(self, model: ModelId) -> ModelAbout:
        """What the operator says of a name that is listed."""
        ...

    def called(self, target: Target) -> str:
        """Its name, printable ASCII."""
        ...

    def why_lost(self, target: Target) -> str:
        """What is known of a target that was not reached, to go on from its name; may be empty."""
        ...

    def started(self, target: Target, model: ModelId, hints: RouteHints) -> None:
        """A request for `model`, as the target knows it, is on its way there."""
        ...

    def finished(self, target: Target, model: ModelId, outcome: str) -> None:
        """Called exactly once for each `started`: `ok`, `client_gone`, or an error's code."""
        ...
