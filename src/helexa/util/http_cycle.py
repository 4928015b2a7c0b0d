"""One request and its answer, which takes as few writes as can be.

A write is the dearest thing that a hop does. ASGI lets a server hold the head back until the
first piece of the body is there, so the two leave together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, MutableMapping
from http import HTTPStatus
from typing import Any, Final

from helexa.util.flow_control import FlowControl

JOIN_BYTES_MAX: Final = 64 * 1024
"""Up to this pieces are copied into one write; above, the copy costs more than the write."""

EXTENSION: Final = "helexa.cycle"
"""The key in an ASGI scope's `extensions` under which an app finds its own cycle."""

_STATUS_LINES: Final = {
    status.value: b"HTTP/1.1 %d %s\r\n" % (status, status.phrase.encode())
    for status in HTTPStatus
    if status >= 200
}
_BODILESS: Final = (204, 304)


class Cycle:
    """`receive` and `send` are ASGI's; what an app may use besides is public here."""

    def __init__(
        self,
        scope: dict[str, Any],
        transport: asyncio.Transport,
        flow: FlowControl,
        keep_alive: bool,
        on_response: Callable[[], None],
    ) -> None:
        self.scope = scope
        self.transport = transport
        self.flow = flow
        self.keep_alive = keep_alive
        self.on_response = on_response
        self.task: asyncio.Task[None]
        """The task that runs the app for this request."""
        self.more_lines = b""
        """Header lines that every answer to this request has, whoever gives it; none frames."""
        self.on_disconnect: Callable[[], None] | None = None
        """Called once, when the client is gone before its answer was complete."""
        self.body = b""
        self.more_body = True
        self.disconnected = False
        self.response_started = False
        self.response_complete = False
        self.waiting_for_100_continue = False
        self._chunked = False
        self._length_left = 0
        self._head = b""
        self._news = False
        self._waiter: asyncio.Future[None] | None = None

    def set(self) -> None:
        """There is something new for `receive`."""
        self._news = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def receive(self) -> dict[str, Any]:
        if self.waiting_for_100_continue and not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.waiting_for_100_continue = False
        if not (self.disconnected or self.response_complete):
            self.flow.resume_reading()
            while not self._news:
                self._waiter = asyncio.get_running_loop().create_future()
                try:
                    await self._waiter
                finally:
                    self._waiter = None
            self._news = False
        if self.disconnected or self.response_complete:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": self.take_body(), "more_body": self.more_body}

    @property
    def body_complete(self) -> bool:
        """Whether the whole body of the request has arrived."""
        return not self.more_body

    def take_body(self) -> bytes:
        """What arrived of the body and was not taken yet."""
        body, self.body = self.body, b""
        return body

    def leave(self) -> None:
        """The client is gone."""
        if self.response_complete or self.disconnected:
            return
        self.disconnected = True
        self.set()
        if self.on_disconnect is not None:
            self.on_disconnect()

    async def begin(self, status: int, lines: bytes, *, length: int | None) -> None:
        """Start the answer with ready-made header lines, without the framing: for hot endpoints.

        `lines` end with a line break each and hold nothing that a stranger wrote unchecked.
        A `length` of None streams.
        """
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        self._starts()
        self._chunked = length is None
        if length is None:
            framing = b"transfer-encoding: chunked\r\n"
        else:
            self._length_left = length
            framing = b"content-length: %d\r\n" % length
        end = b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n"
        line = _STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status
        self._head = b"".join((line, lines, self.more_lines, framing, end))

    async def write(self, body: bytes, *, more: bool) -> None:
        """The next piece of the body, after `begin`; the last one has `more` false."""
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if not self.disconnected:
            if self.response_complete:
                raise RuntimeError("the response is complete already")
            self._body(body, more)

    def write_now(self, body: bytes) -> bool:
        """As `write` with more to come, where that needs no waiting; False where it does."""
        if self.flow.write_paused or self.disconnected or self.response_complete:
            return False
        self._body(body, True)
        return True

    async def send(self, message: MutableMapping[str, Any]) -> None:
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        if message["type"] == "http.response.start" and not self.response_started:
            self._begin(message["status"], message.get("headers", ()))
        elif message["type"] == "http.response.body" and self.response_started:
            if self.response_complete:
                raise RuntimeError("the response is complete already")
            self._body(message.get("body", b""), message.get("more_body", False))
        else:
            raise RuntimeError(f"{message['type']!r} is out of order")

    def _starts(self) -> None:
        self.response_started = True
        if self.waiting_for_100_continue:
            self.waiting_for_100_continue = False
            # The client may keep the body back now that it was not asked for, or send it all the
            # same: what comes next on this connection could be either.
            if self.more_body:
                self.keep_alive = False

    def _begin(self, status: int, headers: Any) -> None:
        self._starts()
        parts = [_STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status]
        framing = b""
        closes = False
        for name, value in headers:
            parts += (name, b": ", value, b"\r\n")
            lower = name.lower()
            if lower == b"content-length":
                self._length_left = int(value)
                framing = lower
            elif lower == b"transfer-encoding":
                framing = lower
            elif lower == b"connection" and b"close" in value.lower():
                self.keep_alive = False
                closes = True
        lines = len(parts) // 4 + 2 + self.more_lines.count(b"\n")
        self._chunked = framing == b"transfer-encoding"
        if not framing and self.scope["method"] != "HEAD" and status not in _BODILESS:
            self._chunked = True
            parts.append(b"transfer-encoding: chunked\r\n")
            lines += 1
        if not self.keep_alive and not closes:
            parts.append(b"connection: close\r\n")
            lines += 1
        parts += (self.more_lines, b"\r\n")
        head = b"".join(parts)
        # A line break inside a value would be a header, or an answer, of somebody else's making.
        if head.count(b"\n") != lines:
            self.response_started = False
            raise RuntimeError("a line break in a response header")
        self._head = head

    def _body(self, body: bytes, more_body: bool) -> None:
        head, self._head = self._head, b""
        if self.scope["method"] == "HEAD":
            self._length_left = 0
            body = b""
        elif self._chunked:
            if body:
                tail = b"\r\n" if more_body else b"\r\n0\r\n\r\n"
                body = b"%s%x\r\n%s%s" % (head, len(body), body, tail)
                head = b""
            elif not more_body:
                body = b"0\r\n\r\n"
        else:
            self._length_left -= len(body)
            if self._length_left < 0:
                raise RuntimeError("the body is longer than its Content-Length")
        if not head:
            if body:
                self.transport.write(body)
        elif len(body) > JOIN_BYTES_MAX:
            self.transport.writelines((head, body))
        else:
            self.transport.write(head + body)
        if not more_body:
            if not self._chunked and self._length_left > 0:
                raise RuntimeError("the body is shorter than its Content-Length")
            self.response_complete = True
            self.set()
            if not self.keep_alive:
                self.transport.close()
            self.on_response()
