"""Answers as ASGI messages, each with the marks that helexa puts on its answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import msgspec

from helexa.protocol.errors import HelexaError, envelope
from helexa.util.http_server import Receive, Scope, Send

SOURCE: Final = b"x-helexa-source"
REQUEST_ID: Final = b"x-helexa-request-id"
FROM_NEURON: Final = (SOURCE, b"neuron")
FROM_RUNTIME: Final = (SOURCE, b"runtime")
JSON: Final = (b"content-type", b"application/json")

Headers = Sequence[tuple[bytes, bytes]]


Handler: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Reply:
    body: bytes
    status: int = 200
    content_type: bytes = JSON[1]


def as_json(content: Any, *, status: int = 200) -> Reply:
    return Reply(msgspec.json.encode(content), status)


async def send_reply(send: Send, reply: Reply) -> None:
    headers = [(b"content-type", reply.content_type), FROM_NEURON]
    await send_whole(send, reply.status, headers, reply.body)


async def send_whole(send: Send, status: int, headers: Headers, body: bytes) -> None:
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body})


async def send_error(send: Send, error: HelexaError, headers: Headers = ()) -> None:
    more = [JSON, FROM_NEURON, *headers]
    if error.retry_after_s is not None:
        more.append((b"retry-after", str(error.retry_after_s).encode()))
    await send_whole(send, error.status, more, envelope(error))
