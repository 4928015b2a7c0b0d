"""The door for clients: the key and what it may, then a place at the model.

enter     before the body: key, address, requests a second
consider  before anybody is looked for: models
admit     when somebody is found: size, tokens a minute, at once, whose turn it is
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from helexa.cortex.accounts.limits import Bounds
from helexa.cortex.gateway.admission.anonymous import Strangers
from helexa.cortex.gateway.admission.meter import Meter, Metered, Meters, enter_all
from helexa.cortex.gateway.admission.observe import QueueObserver
from helexa.cortex.gateway.admission.ranks import HEADER, WORDS, Rank, rank_of
from helexa.cortex.gateway.admission.turns import Turns, Waiter
from helexa.cortex.gateway.ingress import Ingress
from helexa.cortex.gateway.seams import KeyGrant, Keys, Ticket, Visit
from helexa.protocol.errors import (
    HelexaError,
    KeyLimitExceeded,
    ModelForbidden,
    RateLimited,
    RequestRejected,
)
from helexa.protocol.ids import ModelId
from helexa.protocol.openai.requests import Generation
from helexa.protocol.routing import RoutingDecision
from helexa.protocol.work import WorkloadClass
from helexa.util.asgi import Scope


@dataclass
class _Held:
    """Of a ticket whose key has limits; others keep what the queue does."""

    metered: Metered | None
    lines: bytes


class Admission:
    """`gateway.seams.Door`."""

    def __init__(
        self,
        keys: Keys,
        turns: Turns,
        strangers: Strangers | None,
        *,
        observer: QueueObserver,
        now: Callable[[], float],
    ) -> None:
        """`strangers` are those without a key; None: there are none."""
        self._keys = keys
        self._turns = turns
        self._strangers = strangers
        self._observer = observer
        self._now = now
        self._meters = Meters(now)

    @property
    def under_way(self) -> int:
        return self._turns.under_way

    def grant(self, scope: Scope, ingress: Ingress) -> KeyGrant:
        """Whose request it is. Raises KeyInvalid, KeyRevoked or KeyExpired."""
        if self._strangers is not None and not ingress.has_key:
            return self._strangers.grant(scope)
        return self._keys.check(ingress.key())

    def enter(self, scope: Scope, ingress: Ingress) -> Visit:
        """Raises KeyInvalid, KeyRevoked, KeyExpired, RateLimited and RequestRejected."""
        visit = Visit(self.grant(scope, ingress))
        bounds = visit.grant.bounds
        if bounds.key is not None or bounds.account is not None:
            now_s = self._now()
            meters = self._meters_of(visit.grant)
            try:
                for one in meters:
                    one.ask(now_s)
            except RateLimited:
                self._observer.refused("rate_limit")
                raise
            for one in meters:
                one.came()
        if ingress.priority:
            _said(ingress)
        return visit

    def consider(self, visit: Visit, model: ModelId, workload: WorkloadClass) -> None:  # noqa: ARG002
        """Raises ModelForbidden."""
        bounds = visit.grant.bounds
        if bounds.models and not bounds.may_use(model):
            self._observer.refused("model_not_allowed")
            raise ModelForbidden(model)

    def admit(self, ticket: Ticket, decision: RoutingDecision) -> Waiter | None:
        """Raises KeyLimitExceeded, RateLimited, QueueFull, DeadlinePassed and NoCapacity."""
        grant = ticket.grant
        bounds = grant.bounds
        head = ticket.head
        tier = None
        if isinstance(head, Generation):
            tier = head.service_tier
            if bounds.output_tokens_max:
                self._bound_output(ticket, head, bounds)
        if bounds.prompt_tokens_max:
            self._bound_prompt(ticket, bounds)
        if self._strangers is not None and self._strangers.is_one(grant):
            rank = Rank.ANONYMOUS
        elif bounds.is_bulk:
            rank = Rank.BULK
        else:
            ingress = ticket.ingress
            rank = rank_of(ticket.workload, _said(ingress) if ingress.priority else None, tier)
        if bounds.key is None and bounds.account is None:
            return self._turns.admit(ticket, decision, grant.account, rank, bounds.weight)
        return self._metered(ticket, decision, rank)

    def lines(self, ticket: Ticket) -> bytes:
        """`x-ratelimit-*` where there is a limit."""
        held = ticket.limits
        return b"" if held is None else held.lines

    def delivered(self, ticket: Ticket, events: int) -> None:
        """The attempts tell."""

    def leave(self, ticket: Ticket) -> None:
        tokens = self._turns.leave(ticket)
        held = ticket.limits
        if held is not None and held.metered is not None:
            held.metered.leave(tokens)

    def _metered(self, ticket: Ticket, decision: RoutingDecision, rank: Rank) -> Waiter | None:
        now_s = self._now()
        meters = self._meters_of(ticket.grant)
        tokens = self._turns.guess(ticket, decision)
        try:
            metered = enter_all(meters, tokens, now_s)
        except RateLimited:
            self._observer.refused("rate_limit")
            raise
        try:
            waiter = self._turns.admit(
                ticket, decision, ticket.grant.account, rank, ticket.grant.bounds.weight
            )
        except HelexaError:
            metered.leave(0.0)
            raise
        tightest = min(meters, key=lambda one: one.share_left(now_s))
        ticket.limits = _Held(metered, tightest.lines(now_s))
        return waiter

    def _meters_of(self, grant: KeyGrant) -> tuple[Meter, ...]:
        bounds, meters = grant.bounds, self._meters
        found = []
        if bounds.key is not None:
            found.append(meters.of(f"key {grant.key_id}", "This key", bounds.key))
        if bounds.account is not None:
            name = f"account {grant.account}"
            found.append(meters.of(name, "This key's account", bounds.account))
        return tuple(found)

    def _bound_output(self, ticket: Ticket, head: Generation, bounds: Bounds) -> None:
        said, most = head.output_tokens_max, bounds.output_tokens_max
        if said is None:
            ticket.output_tokens_max = most
        elif said > most:
            self._observer.refused("key_limit")
            field = "max_tokens" if head.max_tokens is not None else "max_completion_tokens"
            raise KeyLimitExceeded(
                f"This key may ask for {most} tokens of an answer; `{field}` is {said}.", field
            )

    def _bound_prompt(self, ticket: Ticket, bounds: Bounds) -> None:
        tokens = self._turns.prompt_tokens(ticket)
        if tokens > bounds.prompt_tokens_max:
            self._observer.refused("key_limit")
            raise KeyLimitExceeded(
                f"This key may send prompts of {bounds.prompt_tokens_max} tokens; this one is "
                f"about {tokens:.0f}.",
                "messages",
            )


def _said(ingress: Ingress) -> Rank:
    rank = WORDS.get(ingress.priority)
    if rank is None:
        raise RequestRejected(f"{HEADER} is `interactive` or `bulk`.", HEADER)
    return rank
