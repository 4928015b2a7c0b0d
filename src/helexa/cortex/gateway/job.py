"""What is sent for one request, and how long each part of its answer may take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

import msgspec

from helexa.cortex.gateway.seams import Ticket
from helexa.cortex.settings import CortexSettings
from helexa.protocol.continuation import Delivered
from helexa.protocol.ids import ModelId
from helexa.protocol.openai.requests import Generation
from helexa.protocol.routing import RouteHints
from helexa.util.upstream import Headers

SILENCE_KEEPALIVES: Final = 6
"""A neuron that misses this many of its own keepalive comments in a row is dead."""
SILENCE_S_MIN: Final = 30.0
"""But a neuron has keepalive settings of its own; this is three times its default."""


class HandedOver(Generation, frozen=True, kw_only=True):
    """A `protocol.continuation.Continuation` as the head of a request: another cortex'."""

    path: str
    digest: str
    delivered: Delivered
    request: msgspec.Raw
    stream: bool | None = True


class Job(msgspec.Struct, eq=False):
    """What is sent, and how the client wants it answered."""

    ticket: Ticket
    path: str
    body: bytes
    headers: Headers
    stream: bool
    show_usage: bool
    hints: RouteHints
    body_model: ModelId
    """What the body asks for; a target that is to take another model is told beside it."""
    max_wait_s: float | None = None
    """How long it may wait for its model, where the client said so."""
    resume: bool = True
    """Whether another target may go on with a stream that breaks off."""
    handed_over: HandedOver | None = None
    """What another cortex sent: an answer that is half-done already."""
    goes_on: bool = False
    """Whether this is the rest of an answer, of which the client has the beginning."""
    left_silent: bool = False
    """Whether an attempt ended because its node fell silent while others were ready."""
    give_up_s: float | None = None
    """When the first byte has to be here, on the loop's clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    first_byte_timeout_s: float
    silence_timeout_s: float
    """A streaming neuron sends at least a comment far more often than this."""
    keepalive_s: float

    @classmethod
    def of(cls, settings: CortexSettings) -> Self:
        return cls(
            first_byte_timeout_s=settings.first_byte_timeout_s,
            silence_timeout_s=max(settings.keepalive_s * SILENCE_KEEPALIVES, SILENCE_S_MIN),
            keepalive_s=settings.keepalive_s,
        )
