"""The client's side of one request: what was sent so far, and so what can still be said.

Before the first byte an error is a status; after it an error is an event.
"""

from __future__ import annotations

from helexa.cortex.gateway.envelope import body_of, event_of, headers_of
from helexa.protocol import sse
from helexa.protocol.errors import HelexaError
from helexa.util.http_cycle import Cycle

KEEPALIVE = sse.comment(b"keepalive")

_STREAM_LINES = (
    b"content-type: text/event-stream; charset=utf-8\r\n"
    b"cache-control: no-cache\r\n"
    # nginx would collect a stream before it passes any of it on.
    b"x-accel-buffering: no\r\n"
)


class Answer:
    __slots__ = ("_cycle", "_ids", "ended", "outcome", "served_by", "started", "status")

    def __init__(self, cycle: Cycle, ids: bytes) -> None:
        self._cycle = cycle
        self._ids = ids
        self.started = False
        self.ended = False
        self.status = 0
        self.outcome = "ok"
        """`ok`, or the code of the error that was the last word."""
        self.served_by = b""
        """The header line that says who serves, once that is known."""

    async def whole(
        self, status: int, content_type: bytes, body: bytes, more_lines: bytes = b""
    ) -> None:
        """`content_type` as an HTTP parser or this program gave it."""
        self.started = self.ended = True
        self.status = status
        lines = b"content-type: %s\r\n%s%s%s" % (
            content_type,
            self._ids,
            self.served_by,
            more_lines,
        )
        await self._cycle.begin(status, lines, length=len(body))
        await self._cycle.write(body, more=False)

    async def begin_stream(self) -> None:
        if not self.started:
            self.started = True
            self.status = 200
            lines = b"%s%s%s" % (_STREAM_LINES, self._ids, self.served_by)
            await self._cycle.begin(200, lines, length=None)

    async def write(self, data: bytes) -> None:
        await self._cycle.write(data, more=True)

    async def end(self, data: bytes = b"") -> None:
        self.ended = True
        await self._cycle.write(data, more=False)

    async def keepalive(self, comment: bytes = KEEPALIVE) -> None:
        """Show a waiting client, and what lies between, that somebody works on it."""
        await self.begin_stream()
        await self.write(comment)

    async def fail(self, error: HelexaError) -> None:
        """The last word, in the form that is still possible."""
        if self.ended:
            return
        self.outcome = error.code
        if self.started:
            await self.end(event_of(error))
        else:
            self.served_by = b""
            body = body_of(error)
            lines = b"".join([b"%s: %s\r\n" % pair for pair in headers_of(error)])
            await self.whole(error.status, b"application/json", body, lines)
