"""What became of the newest requests, for those who sent them: in memory, and gone at the end.

What is kept is what the request left anyway, without its body and its key; it is put into
words when somebody asks.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Final

import msgspec

from helexa.cortex.gateway.seams import Attempt, Ticket
from helexa.cortex.orchestrator.federation.wish import canonical, policy_id
from helexa.protocol.ids import ModelId, RequestId
from helexa.protocol.openai.generation import AttemptTold, Generation, GenerationMore, PolicyTold
from helexa.protocol.routing import Wish
from helexa.protocol.work import Price, Usage

NANO: Final = 1_000_000_000


class Receipt(msgspec.Struct, frozen=True, gc=False):
    """Times are those of the loop's clock. A msgspec type because one is made per request.

    Nothing in it leads back to it, so the collector has nothing to look for in thousands of them.
    """

    request_id: RequestId
    account: str
    path: str
    model: ModelId
    wish: Wish | None
    terms: str
    stream: bool
    began_s: float
    ended_s: float
    queue_s: float
    outcome: str
    """`ok`, `client_gone`, or the code of the error that was the last word."""
    attempts: list[Attempt]


class Receipts:
    def __init__(self, most: int, *, now: Callable[[], float]) -> None:
        """The newest `most` are kept."""
        self._most = most
        self._now = now
        self._kept: dict[RequestId, Receipt] = {}
        self._order: deque[RequestId] = deque()

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, ticket: Ticket, path: str, outcome: str, *, stream: bool) -> None:
        if not self._most:
            return
        request_id, order = ticket.request_id, self._order
        if len(order) >= self._most:
            del self._kept[order.popleft()]
        order.append(request_id)
        self._kept[request_id] = Receipt(
            request_id,
            ticket.visit.grant.account,
            path,
            ticket.model,
            ticket.wish,
            ticket.terms,
            stream,
            ticket.began_s,
            self._now(),
            ticket.queue_s,
            outcome,
            ticket.attempts,
        )

    def find(self, request_id: str, account: str) -> Receipt | None:
        """Another account's is as unknown as one that never was."""
        found = self._kept.get(RequestId(request_id))
        return found if found is not None and found.account == account else None

    def shown(self, receipt: Receipt, *, tells_who: bool = True) -> Generation:
        attempts = receipt.attempts
        # Of two that raced, the one that came second may be the one that was dropped.
        answered = [one for one in attempts if one.outcome == "ok"] or attempts
        served = answered[-1] if answered else None
        counted = [(one.usage, one.label.price) for one in attempts if one.usage is not None]
        usage = _sum(usage for usage, _ in counted)
        nano = sum(cost(usage, price) for usage, price in counted) if counted else None
        first_s = next((one.first_byte_s for one in attempts if one.first_byte_s), None)
        began = time.time() - (self._now() - receipt.began_s)
        return Generation(
            id=receipt.request_id,
            model=served.model if served is not None else receipt.model,
            created_at=datetime.fromtimestamp(began, UTC).isoformat(),
            streamed=receipt.stream,
            cancelled=receipt.outcome == "client_gone",
            provider_name=_provider(served) if served is not None and tells_who else None,
            latency=None if first_s is None else _ms(first_s - receipt.began_s),
            generation_time=None if first_s is None else _ms(receipt.ended_s - first_s),
            tokens_prompt=None if usage is None else usage.prompt,
            tokens_completion=None if usage is None else usage.completion + usage.reasoning,
            native_tokens_reasoning=None if usage is None else usage.reasoning,
            native_tokens_cached=None if usage is None else usage.prompt_cached,
            total_cost=None if nano is None else nano / NANO,
            helexa=GenerationMore(
                path=receipt.path,
                model_asked=receipt.model,
                outcome=receipt.outcome,
                queue_ms=_ms(receipt.queue_s),
                total_ms=_ms(receipt.ended_s - receipt.began_s),
                cost_nano=nano,
                policy=PolicyTold(
                    id=policy_id(receipt.wish, receipt.terms),
                    asked=canonical(receipt.wish) if receipt.wish is not None else "",
                    terms=receipt.terms,
                ),
                attempts=[_told(one, receipt.began_s, tells_who=tells_who) for one in attempts],
            ),
        )


def cost(usage: Usage, price: Price) -> int:
    """Nano-credits for what was counted."""
    return (
        usage.prompt_uncached * price.prompt_uncached
        + usage.prompt_cached * price.prompt_cached
        + usage.completion * price.completion
        + usage.reasoning * price.reasoning
    )


def _told(one: Attempt, began_s: float, *, tells_who: bool) -> AttemptTold:
    label, usage = one.label, one.usage
    return AttemptTold(
        model=one.model,
        digest=label.digest,
        outcome=one.outcome,
        resumed=one.resumed,
        began_ms=_ms(one.began_s - began_s),
        first_byte_ms=_ms(one.first_byte_s - began_s) if one.first_byte_s else None,
        ended_ms=_ms(one.ended_s - began_s) if one.ended_s else None,
        price=label.price,
        usage=usage,
        cost_nano=None if usage is None else cost(usage, label.price),
        delivered_tokens=_delivered(one),
        served_by=_provider(one) if tells_who else None,
        operator=label.operator if tells_who else None,
    )


def _delivered(one: Attempt) -> int:
    """All that its engine counted, where all of it arrived; else what was seen to pass."""
    if one.outcome == "ok" and one.usage is not None:
        return one.usage.completion + one.usage.reasoning
    return one.delivered_tokens


def _provider(one: Attempt) -> str:
    name = one.label.name.decode("ascii")
    if one.target.via is None:
        return name
    return f"{one.said_by.decode('ascii')}; via={name}" if one.said_by else f"via={name}"


def _sum(counted: Iterable[Usage]) -> Usage | None:
    known = list(counted)
    if not known:
        return None
    names = Usage.__struct_fields__
    return Usage(**{name: sum(getattr(one, name) for one in known) for name in names})


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
