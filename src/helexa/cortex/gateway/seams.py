"""What the gateway needs of the rest of a cortex, and what it leaves with each request.

Everything here is called on the event loop and answers from memory, in
microseconds: nothing on the way of a request waits for a database.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager
from typing import Any, Protocol

import msgspec

from helexa.cortex.accounts.limits import Bounds
from helexa.cortex.gateway.ingress import Ingress
from helexa.cortex.orchestrator.federation.wish import policy_id
from helexa.protocol.errors import HelexaError
from helexa.protocol.ids import ModelId, NodeId, RequestId
from helexa.protocol.openai.models import ModelAbout, ServedBy
from helexa.protocol.openai.requests import Head
from helexa.protocol.routing import Label, RouteHints, RoutingDecision, Target, Wish
from helexa.protocol.work import ModelCapability, Progress, Usage, WorkloadClass
from helexa.util.asgi import Scope
from helexa.util.upstream import Headers, Response


class KeyGrant(Protocol):
    @property
    def key_id(self) -> str: ...

    @property
    def account(self) -> str: ...

    @property
    def bounds(self) -> Bounds:
        """What it may ask for."""
        ...


class Keys(Protocol):
    def check(self, secret: str) -> KeyGrant:
        """Raises KeyInvalid, KeyRevoked or KeyExpired."""
        ...


class Visit(msgspec.Struct, eq=False):
    """Who asks, and what is known before the body is read."""

    grant: KeyGrant
    path: tuple[NodeId, ...] = ()
    hops_left: int | None = None
    model: ModelId | None = None
    """What is asked for, where the one that sent it says so beside the body."""
    shows_usage: bool = False
    """Whether a stream shows usage whatever its body asks for."""


class Attempt(msgspec.Struct, eq=False):
    """One target that was asked for one request: what a receipt says, as the gateway saw it."""

    target: Target
    model: ModelId
    """As the target knows it."""
    label: Label
    """Its weights and its price as they were then, and who it is."""
    began_s: float
    resumed: bool = False
    """Whether it went on from what another had delivered."""
    first_byte_s: float = 0.0
    ended_s: float = 0.0
    outcome: str = ""
    """`ok`, `client_gone`, or an error's code; empty while it runs."""
    usage: Usage | None = None
    """Its own tokens alone: those of all attempts of a request add up to the client's usage."""
    delivered_tokens: int = 0
    """Of its answer, those that went on to the client: of one that another finished, by that one's
    count; else the pieces that it came in, which are about as many. An answer that is not streamed
    is not counted, as its usage says all."""
    said_by: bytes = b""
    """Of another cortex: who served there, by its own word."""

    @property
    def digest(self) -> str:
        return self.label.digest


class Ticket(msgspec.Struct, eq=False):
    """The permission for one request. Given back exactly once, however the request ends."""

    request_id: RequestId
    visit: Visit
    model: ModelId
    workload: WorkloadClass
    began_s: float
    head: Head
    body_bytes: int
    ingress: Ingress
    queue_s: float = 0.0
    """How long it waited to be let in."""
    output_tokens_max: int = 0
    """What its answer is ended at, where its body sets no end; 0: nowhere."""
    held: Any = None
    """What the queue keeps of it from `admit` to `leave`."""
    limits: Any = None
    """What its door keeps of it, where its key has limits."""
    attempts: list[Attempt] = []
    wish: Wish | None = None
    """What it asked of its way."""
    terms: str = ""
    """The mark of the operator's rules that were in force."""

    @property
    def policy_id(self) -> str:
        """One mark for what was asked and the rules that it met."""
        return policy_id(self.wish, self.terms)

    @property
    def grant(self) -> KeyGrant:
        return self.visit.grant

    @property
    def usage(self) -> Usage | None:
        """Of all attempts; None where nobody counted."""
        if len(self.attempts) == 1:
            return self.attempts[0].usage
        known = [one.usage for one in self.attempts if one.usage is not None]
        if len(known) <= 1:
            return known[0] if known else None
        return Usage(
            prompt_uncached=sum(one.prompt_uncached for one in known),
            prompt_cached=sum(one.prompt_cached for one in known),
            completion=sum(one.completion for one in known),
            reasoning=sum(one.reasoning for one in known),
        )


class Turn(Protocol):
    """Of one request whose turn it is not yet."""

    async def come(self, timeout_s: float | None) -> bool:
        """Return after this time, or sooner; whether the request may go now.

        Raises DeadlinePassed, QueueFull and the like when it is sent away.
        """
        ...

    @property
    def apart(self) -> bool:
        """Whether it stands in no queue, before the first `come` or since its model is served no
        more: it is for the caller to see where that is served, and to come then.
        """
        ...


class Door(Protocol):
    """One way in: clients with keys, or other cortexes. Called in this order."""

    def enter(self, scope: Scope, ingress: Ingress) -> Visit:
        """Before the body is read. Raises HelexaError."""
        ...

    def consider(self, visit: Visit, model: ModelId, workload: WorkloadClass) -> None:
        """Before anybody is looked for. Raises HelexaError."""
        ...

    def admit(self, ticket: Ticket, decision: RoutingDecision) -> Turn | None:
        """When there is somebody to serve it: None lets it in at once; else it waits its turn.

        Raises HelexaError; then there is nothing to `leave`.
        """
        ...

    def lines(self, ticket: Ticket) -> bytes:
        """Header lines for the answer: what is left of a limit. Asked once, after `admit`."""
        ...

    def delivered(self, ticket: Ticket, events: int) -> None:
        """So many more events of a stream went to the client: about as many tokens.

        A ticket whose attempts are kept up to date needs no such call.
        """
        ...

    def leave(self, ticket: Ticket) -> None:
        """Once for each `admit` that did not raise, whether its turn came or not; the ticket's
        attempts say what came of it.
        """
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
    def terms_version(self) -> str:
        """A mark of the operator's rules in force: other rules have another one."""
        ...

    @property
    def brings_models(self) -> bool:
        """Whether a model that nobody serves is brought somewhere for a request that waits."""
        ...

    def queue_max(self, model: ModelId) -> int | None:
        """How many requests for the model may be under way; None is the gateway's own bound."""
        ...

    def slots(self, model: ModelId) -> int | None:
        """How many requests those who serve the model now work on at once; None: unknown, or
        nobody serves it. Of others, where requests go to them.
        """
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

    def served_by(self, name: ModelId) -> tuple[ServedBy, ...]:
        """Who would be asked for it, the own ones first."""
        ...

    def about(self, model: ModelId) -> ModelAbout:
        """What the operator says of a name that is listed."""
        ...

    def called(self, target: Target) -> str:
        """Its name, printable ASCII."""
        ...

    def label(self, target: Target, model: ModelId) -> Label:
        """What is known of it for `model`. Never raises."""
        ...

    def why_lost(self, target: Target) -> str:
        """What is known of a target that was not reached, to go on from its name; may be empty."""
        ...

    def watch_silent(self, look: Callable[[AbstractSet[NodeId]], None]) -> None:
        """While there are nodes of which nothing is heard though nobody saw them go, `look` is
        told of them, again and again.
        """
        ...

    def started(self, target: Target, model: ModelId, hints: RouteHints) -> None:
        """A request for `model`, as the target knows it, is on its way there."""
        ...

    def finished(self, target: Target, model: ModelId, outcome: str) -> None:
        """Called exactly once for each `started`: `ok`, `client_gone`, or an error's code."""
        ...
