"""Refusals as Anthropic's clients read them: their envelope, and the id of the request in it."""

from __future__ import annotations

from typing import Final

import msgspec

from helexa.cortex.gateway.envelope import PassedOn
from helexa.protocol.anthropic.errors import (
    THREAD,
    Details,
    Refusal,
    Refused,
    ThreadUnsupported,
    type_of,
)
from helexa.protocol.errors import ErrorBody, HelexaError, body_of
from helexa.util.asgi import Scope

VERSION_HEADER: Final = b"anthropic-version"


class AnthropicEnvelope:
    """`{"type": "error", "error": {"type", "message"}, "request_id"}`."""

    def __init__(self, request_id: str = "") -> None:
        self._request_id = request_id
        self.id_line = b"request-id: %s\r\n" % request_id.encode()

    def of(self, request_id: str) -> AnthropicEnvelope:
        return AnthropicEnvelope(request_id)

    def body(self, error: HelexaError) -> bytes:
        said = error.said if isinstance(error, PassedOn) else body_of(error)
        details = THREAD if isinstance(error, ThreadUnsupported) else msgspec.UNSET
        return self.said(said, error.status, details)

    def event(self, error: HelexaError) -> bytes:
        return event_of(self.body(error))

    def said(
        self, said: ErrorBody, status: int, details: Details | msgspec.UnsetType = msgspec.UNSET
    ) -> bytes:
        refusal = Refusal(
            type=type_of(status),
            message=said.message,
            code=said.code,
            param=said.param,
            details=details,
        )
        return msgspec.json.encode(Refused(error=refusal, request_id=self._request_id))


def event_of(body: bytes) -> bytes:
    return b"event: error\ndata: %s\n\n" % body


def speaks_anthropic(scope: Scope) -> bool:
    """Whether a client of a path that both have is Anthropic's: theirs always say a version."""
    return any(name == VERSION_HEADER for name, _ in scope["headers"])


ANTHROPIC: Final = AnthropicEnvelope()
