"""The client's side of one request: what was sent so far, and so what can still be said.

Before the first byte an error is a status; after it an error is an event.
"""

from __future__ import annotations

from collections.abc import Sequence

from helexa.cortex.gateway.envelope import event_of, refuse
from helexa.protocol import sse
from helexa.protocol.errors import HelexaError
from helexa.util.asgi import Send

KEEPALIVE = sse.comment(b"keepalive")

_STREAM_HEADERS = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    # nginx would collect a stream before it passes any of it on.
    (b"x-accel-buffering", b"no"),
)


class Answer:
    __slots__ = ("_id_headers", "_send", "ended", "started", "status")

    def __init__(self, send: Send, id_headers: Sequence[tuple[bytes, bytes]]) -> None:
        self._send = send
        self._id_headers = id_headers
        self.started = False
        self.ended = False
        self.status = 0

    async def whole(self, status: int, content_type: bytes, body: bytes) -> None:
        self.started = self.ended = True
        self.status = status
        await self._send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [
                    (b"content-type", content_type),
                    (b"content-length", b"%d" % len(body)),
                    *self._id_headers,
                ],
            }
        )
        await self._send({"type": "http.response.body", "body": body})

    async def begin_stream(self) -> None:
        if self.started:
            return
        self.started = True
        self.status = 200
        await self._send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [*_STREAM_HEADERS, *self._id_headers],
            }
        )

    async def write(self, data: bytes) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self, data: bytes = b"") -> None:
        self.ended = True
        await self._send({"type": "http.response.body", "body": data})

    async def keepalive(self) -> None:
        """Show a waiting client, and what lies between, that somebody works on it."""
        await self.begin_stream()
        await self.write(KEEPALIVE)

    async def fail(self, error: HelexaError) -> None:
        """The last word, in the form that is still possible."""
        if self.ended:
            return
        if self.started:
            await self.end(event_of(error))
        else:
            self.ended = True
            self.status = error.status
            await refuse(self._send, error, self._id_headers)
