"""The answer of `GET /v1/generation`: OpenRouter's members where it has them, ours beside them.

Null is what nobody counted or what did not happen.
"""

from __future__ import annotations

import msgspec

from helexa.protocol.work import Price, Usage


class PolicyTold(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    """Of both together."""
    asked: str
    """What the request asked of its way, in canonical form."""
    terms: str
    """A mark of the operator's rules that were in force."""


class AttemptTold(msgspec.Struct, frozen=True, kw_only=True):
    """One node that was asked. Milliseconds are since the request came."""

    model: str
    digest: str
    outcome: str
    resumed: bool
    began_ms: int
    first_byte_ms: int | None
    ended_ms: int | None
    price: Price
    usage: Usage | None
    cost_nano: int | None
    delivered_tokens: int
    """Of its answer, what reached the client: as an engine counted it, or about, by the pieces of a
    stream that nobody counted."""
    served_by: str | None
    operator: str | None


class GenerationMore(msgspec.Struct, frozen=True, kw_only=True):
    path: str
    model_asked: str
    outcome: str
    """`ok`, `client_gone`, or the code of the error that was the last word."""
    queue_ms: int
    total_ms: int
    cost_nano: int | None
    policy: PolicyTold
    attempts: list[AttemptTold]


class Generation(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    model: str
    """That served, or was asked for where nobody did."""
    created_at: str
    streamed: bool
    cancelled: bool
    provider_name: str | None
    latency: int | None
    """Milliseconds to the first byte, and from it to the last."""
    generation_time: int | None
    tokens_prompt: int | None
    tokens_completion: int | None
    native_tokens_reasoning: int | None
    native_tokens_cached: int | None
    total_cost: float | None
    """Credits."""
    helexa: GenerationMore


class GenerationAnswer(msgspec.Struct, frozen=True, kw_only=True):
    data: Generation
