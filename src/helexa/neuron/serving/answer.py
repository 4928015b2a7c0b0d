"""What went to one client so far, which decides how a failure can still be told."""

from __future__ import annotations

from typing import Final

from helexa.neuron.serving.replies import (
    FROM_RUNTIME,
    JSON,
    REQUEST_ID,
    Headers,
    send_error,
    send_whole,
)
from helexa.protocol.errors import HelexaError, in_band
from helexa.protocol.ids import new_request_id
from helexa.util.http_server import Scope, Send, header

USAGE_HEADER: Final = b"x-helexa-usage"
REQUEST_ID_CHARS_MAX: Final = 128
_KEEPALIVE: Final = b": keepalive\n\n"


class Answer:
    def __init__(self, scope: Scope, send: Send) -> None:
        given = header(scope, REQUEST_ID)
        self.wants_usage = header(scope, USAGE_HEADER) == b"1"
        self.request_id = (
            given.decode("ascii", "replace")[:REQUEST_ID_CHARS_MAX] if given else new_request_id()
        )
        self.started = False
        self._ended = False
        self._marks: Headers = ((REQUEST_ID, self.request_id.encode("ascii", "replace")),)
        self._send = send

    async def stream(self, data: bytes) -> None:
        """Part of an event stream; the headers go before the first."""
        if not self.started:
            self.started = True
            headers = [
                (b"content-type", b"text/event-stream; charset=utf-8"),
                (b"cache-control", b"no-cache"),
                (b"x-accel-buffering", b"no"),
                FROM_RUNTIME,
                *self._marks,
            ]
            await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def keep_alive(self) -> None:
        """A comment, so that neither the client nor a proxy takes silence for the end."""
        await self.stream(_KEEPALIVE)

    async def end(self) -> None:
        self._ended = True
        await self._send({"type": "http.response.body", "body": b""})

    async def whole(self, body: bytes) -> None:
        self.started = self._ended = True
        await send_whole(self._send, 200, [JSON, FROM_RUNTIME, *self._marks], body)

    async def fail(self, error: HelexaError) -> None:
        """As an envelope while nothing was sent; after that as the last event of the stream."""
        if self._ended:
            return
        if not self.started:
            self.started = self._ended = True
            await send_error(self._send, error, self._marks)
            return
        await self.stream(in_band(error))
        await self.end()
