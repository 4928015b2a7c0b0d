"""The client's side of one request: what was sent so far, and so what can still be said.

Before the first byte an error is a status; after it an error is an event.
"""

from __future__ import annotations

from helexa.cortex.gateway.envelope import OPENAI, Envelope, headers_of
from helexa.protocol import sse
from helexa.protocol.errors import HelexaError, RateLimited
from helexa.util.http_cycle import Cycle

KEEPALIVE = sse.comment(b"keepalive")

_STREAM_LINES = (
    b"content-type: text/event-stream; charset=utf-8\r\n"
    b"cache-control: no-cache\r\n"
    # nginx would collect a stream before it passes any of it on.
    b"x-accel-buffering: no\r\n"
)


class Answer:
    __slots__ = (
        "_cycle",
        "_envelope",
        "_ids",
        "ended",
        "lines",
        "outcome",
        "served_by",
        "started",
        "status",
    )

    def __init__(self, cycle: Cycle, ids: bytes, envelope: Envelope = OPENAI) -> None:
        self._cycle = cycle
        self._envelope = envelope
        self._ids = ids
        self.started = False
        self.ended = False
        self.status = 0
        self.outcome = "ok"
        """`ok`, or the code of the error that was the last word."""
        self.served_by = b""
        """The header line that says who serves, once that is known."""
        self.lines = b""
        """Further header lines, which a refusal has, too."""

    async def whole(
        self, status: int, content_type: bytes, body: bytes, more_lines: bytes = b""
    ) -> None:
        """`content_type` as an HTTP parser or this program gave it."""
        self.started = self.ended = True
        self.status = status
        lines = b"content-type: %s\r\n%s%s%s%s" % (
            content_type,
            self._ids,
            self.served_by,
            self.lines,
            more_lines,
        )
        await self._cycle.begin(status, lines, length=len(body))
        await self._cycle.write(body, more=False)

    async def begin_stream(self) -> None:
        if not self.started:
            self.started = True
            self.status = 200
            lines = b"%s%s%s%s" % (_STREAM_LINES, self._ids, self.served_by, self.lines)
            await self._cycle.begin(200, lines, length=None)

    async def write(self, data: bytes) -> None:
        await self._cycle.write(data, more=True)

    def write_now(self, data: bytes) -> bool:
        """Whether it was written at once, as it is; False where `write` has to do it."""
        return self._cycle.write_now(data)

    async def end(self, data: bytes = b"") -> None:
        self.ended = True
        await self._cycle.write(data, more=False)

    async def keepalive(self, comment: bytes | None = None) -> None:
        """Show a waiting client, and what lies between, that somebody works on it."""
        await self.begin_stream()
        await self._cycle.write(comment or KEEPALIVE, more=True)

    async def fail(self, error: HelexaError) -> None:
        """The last word, in the form that is still possible."""
        if self.ended:
            return
        self.outcome = error.code
        if self.started:
            self.ended = True
            await self._cycle.write(self._last_event(error), more=False)
        else:
            self.served_by = b""
            body = self._envelope.body(error)
            lines = b"".join([b"%s: %s\r\n" % pair for pair in headers_of(error)])
            if isinstance(error, RateLimited):
                self.lines = error.lines or self.lines
            await self.whole(error.status, b"application/json", body, lines)

    def close(self) -> None:
        """All is over, however it ended."""

    def _last_event(self, error: HelexaError) -> bytes:
        return self._envelope.event(error)
