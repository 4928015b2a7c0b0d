"""The one place where an error becomes an answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from helexa.protocol.errors import HelexaError, MethodNotAllowed, NotAllowed, envelope
from helexa.util.asgi import Send

JSON = (b"content-type", b"application/json")


@dataclass(eq=False)
class PassedOn(HelexaError):
    """A neuron's refusal, already in our envelope: it goes to the client as it is."""

    body: bytes
    answer_status: int
    retry_after: bytes | None = None

    def __post_init__(self) -> None:
        self.__dict__["status"] = self.answer_status


def body_of(error: HelexaError) -> bytes:
    return error.body if isinstance(error, PassedOn) else envelope(error)


def headers_of(error: HelexaError, body: bytes) -> list[tuple[bytes, bytes]]:
    headers = [JSON, (b"content-length", b"%d" % len(body))]
    if isinstance(error, PassedOn):
        if error.retry_after is not None:
            headers.append((b"retry-after", error.retry_after))
    elif error.retry_after_s is not None:
        headers.append((b"retry-after", b"%d" % error.retry_after_s))
    if isinstance(error, MethodNotAllowed):
        headers.append((b"allow", error.allowed.encode()))
    elif isinstance(error, NotAllowed) and error.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    return headers


async def refuse(
    send: Send, error: HelexaError, more_headers: Sequence[tuple[bytes, bytes]] = ()
) -> None:
    """Answer with the error. The response must not have started."""
    body = body_of(error)
    await send(
        {
            "type": "http.response.start",
            "status": error.status,
            "headers": [*headers_of(error, body), *more_headers],
        }
    )
    await send({"type": "http.response.body", "body": body})


def event_of(error: HelexaError) -> bytes:
    """The SSE event that ends a stream which cannot go on."""
    # One line: an envelope is JSON, where a line break can only be layout.
    return b"data: " + body_of(error).replace(b"\n", b" ").replace(b"\r", b"") + b"\n\n"
