"""The one place where an error becomes an answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

from helexa.protocol.errors import (
    CodingUnsupported,
    ErrorBody,
    HelexaError,
    MethodNotAllowed,
    NotAllowed,
    UpstreamFailed,
    envelope,
)

CODE_CHARS_MAX: Final = 64


@dataclass(eq=False)
class PassedOn(HelexaError):
    """A neuron's refusal, already in our envelope: it goes to the client as it is."""

    body: bytes
    said: ErrorBody
    """What is in `body`."""
    answer_status: int
    retry_after: bytes | None = None

    def __post_init__(self) -> None:
        code = self.said.code or ""
        # It becomes a label of our metrics, and it is a stranger's word.
        if not (code.isascii() and code.isidentifier() and len(code) <= CODE_CHARS_MAX):
            code = UpstreamFailed.code
        self.__dict__.update(status=self.answer_status, code=code)

    @property
    def message(self) -> str:
        return self.said.message

    @property
    def retry_after_s(self) -> int | None:
        given = self.retry_after
        return int(given) if given and len(given) < 6 and given.isdigit() else None


class Envelope(Protocol):
    """How the clients of one surface want to be told of an error."""

    @property
    def id_line(self) -> bytes:
        """A header line for the request's id beside those that every answer has; may be empty."""
        ...

    def of(self, request_id: str) -> Envelope:
        """The one for this request."""
        ...

    def body(self, error: HelexaError) -> bytes:
        """JSON, for an answer whose status is the error's."""
        ...

    def event(self, error: HelexaError) -> bytes:
        """The SSE event that ends a stream which cannot go on."""
        ...


def body_of(error: HelexaError) -> bytes:
    return error.body if isinstance(error, PassedOn) else envelope(error)


def headers_of(error: HelexaError) -> list[tuple[bytes, bytes]]:
    """What an error says besides its body."""
    headers = []
    if isinstance(error, PassedOn):
        if error.retry_after is not None:
            headers.append((b"retry-after", error.retry_after))
    elif error.retry_after_s is not None:
        headers.append((b"retry-after", b"%d" % error.retry_after_s))
    if isinstance(error, CodingUnsupported):
        headers.append((b"accept-encoding", error.accepted.encode()))
    elif isinstance(error, MethodNotAllowed):
        headers.append((b"allow", error.allowed.encode()))
    elif isinstance(error, NotAllowed) and error.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    return headers


def event_of(error: HelexaError) -> bytes:
    """The SSE event that ends a stream which cannot go on."""
    # One line: an envelope is JSON, where a line break can only be layout.
    return b"data: " + body_of(error).replace(b"\n", b" ").replace(b"\r", b"") + b"\n\n"


class OpenAIEnvelope:
    """`{"error": {"message", "type", "param", "code"}}`."""

    id_line = b""

    def of(self, request_id: str) -> OpenAIEnvelope:  # noqa: ARG002 - nothing in it differs
        return self

    def body(self, error: HelexaError) -> bytes:
        return body_of(error)

    def event(self, error: HelexaError) -> bytes:
        return event_of(error)


OPENAI: Final = OpenAIEnvelope()
