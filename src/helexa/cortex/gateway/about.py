"""What an endpoint's file says of itself for the OpenAPI document."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from helexa.protocol.errors import (
    BodyLate,
    BodyMalformed,
    BodyTooLarge,
    Busy,
    CapabilityMissing,
    CodingUnsupported,
    DeadlinePassed,
    DoesNotFit,
    Draining,
    ErrorEnvelope,
    HelexaError,
    InternalFault,
    KeyInvalid,
    KeyRevoked,
    LoopDetected,
    ModalityUnsupported,
    ModelForbidden,
    ModelLoading,
    ModelUnknown,
    NoCapacity,
    PeerLost,
    PictureRefused,
    PromptTooLong,
    QueueFull,
    RateLimited,
    RequestRejected,
    RuntimeExited,
    RuntimeMalformed,
    RuntimeRefused,
    StreamInterrupted,
    UpstreamFailed,
    UpstreamTimeout,
)

GUARDED: Final = (KeyInvalid, KeyRevoked)
"""Of whatever needs a key."""
WORK: Final[tuple[type[HelexaError], ...]] = (
    *(RequestRejected, BodyMalformed, PromptTooLong, CapabilityMissing),
    *(ModalityUnsupported, PictureRefused, ModelForbidden, ModelUnknown, BodyLate, BodyTooLarge),
    CodingUnsupported,
    *(QueueFull, RateLimited, Busy, ModelLoading, NoCapacity, DeadlinePassed, Draining, PeerLost),
    *(UpstreamFailed, RuntimeExited, RuntimeRefused, RuntimeMalformed, UpstreamTimeout),
    *(StreamInterrupted, DoesNotFit, LoopDetected, InternalFault),
)
"""Of whatever a neuron is asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """One operation. Types are msgspec's, and become components of the document."""

    path: str
    does: str
    method: str = "POST"
    asks: Any = None
    """The body that it takes; the head of an endpoint, in most cases."""
    also_takes: Mapping[str, Any] = field(default_factory=dict)
    """Members of the body that the gateway does not read itself, as JSON schemas."""
    answers: Any = None
    """Whole; a tuple is any of several. An operation without answers can only be refused."""
    events: Any = None
    """Each `data:` of a stream."""
    refuses: tuple[type[HelexaError], ...] = WORK
    envelope: Any = ErrorEnvelope
    """A tuple is any of several."""
    is_open: bool = False
    """Whether it is answered without a key."""
    query: Mapping[str, Any] = field(default_factory=dict)
    """Its parameters, as JSON schemas."""
    needs: tuple[str, ...] = ()
    """Those of them that are required."""
