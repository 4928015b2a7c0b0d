"""HTTP/1.1 on one connection: requests in, one answer at a time out, and whether anybody listens.

No more of HTTP than the neuron speaks, and everything bounded. Callbacks instead of
coroutines: a connection that closes is known in that moment, which is what ends a
generation.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

HEAD_BYTES_MAX = 64 * 1024
BODY_BYTES_MAX = 128 * 1024 * 1024
UNREAD_BYTES_MAX = 16 * 1024 * 1024
"""That a client may leave lying before it is dropped."""

_REASONS = {
    200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed",
    411: "Length Required", 413: "Content Too Large", 431: "Request Header Fields Too Large",
    500: "Internal Server Error", 503: "Service Unavailable",
}  # fmt: skip


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    body: bytes


class Malformed(Exception):
    """What came is no request that is read here."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


class Reply:
    """The answer to one request. After the client left, everything said is dropped."""

    def __init__(self, transport: asyncio.Transport, done: Callable[[bool], None]) -> None:
        self.gone: Callable[[], None] = lambda: None
        """Called once if the client leaves before the end."""
        self.is_open = True
        self.is_begun = False
        self._transport = transport
        self._done = done
        self.keeps = True

    def whole(self, status: int, body: bytes) -> None:
        self._write(
            self._head(status, b"application/json", b"content-length: %d" % len(body)) + body
        )
        self._end()

    def send(self, events: bytes) -> None:
        """Of an event stream, which the first ones begin."""
        head = b"" if self.is_begun else self._stream_head()
        self._write(head + b"%x\r\n%s\r\n" % (len(events), events))

    def end(self) -> None:
        head = b"" if self.is_begun else self._stream_head()
        self._write(head + b"0\r\n\r\n")
        self._end()

    def abort(self) -> None:
        if self.is_open:
            self._transport.abort()

    def leave(self) -> None:
        """The connection is gone."""
        if self.is_open:
            self.is_open = False
            self.gone()

    def _stream_head(self) -> bytes:
        return self._head(200, b"text/event-stream", b"transfer-encoding: chunked")

    def _head(self, status: int, kind: bytes, framing: bytes) -> bytes:
        self.is_begun = True
        lines = [
            b"HTTP/1.1 %d %s" % (status, _REASONS.get(status, "Refused").encode()),
            b"content-type: " + kind,
            framing,
        ]
        if not self.keeps:
            lines.append(b"connection: close")
        return b"\r\n".join(lines) + b"\r\n\r\n"

    def _write(self, data: bytes) -> None:
        if not self.is_open:
            return
        self._transport.write(data)
        if self._transport.get_write_buffer_size() > UNREAD_BYTES_MAX:
            self._transport.abort()

    def _end(self) -> None:
        if self.is_open:
            self.is_open = False
            self._done(self.keeps)


class Connection(asyncio.Protocol):
    def __init__(self, respond: Callable[[Request, Reply], None]) -> None:
        self._respond = respond
        self._transport: asyncio.Transport
        self._buffer = bytearray()
        self._reply: Reply | None = None
        self._head: Mapping[str, str] | None = None
        self._first: tuple[str, str] = "", ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) > HEAD_BYTES_MAX + BODY_BYTES_MAX:
            self._transport.abort()
        else:
            self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        reply, self._reply = self._reply, None
        if reply is not None:
            reply.leave()

    def _next(self) -> None:
        # What a client sends ahead waits in the buffer until its last request is answered.
        while self._reply is None and not self._transport.is_closing():
            try:
                request = self._request()
            except Malformed as error:
                self._refuse(error)
                return
            if request is None:
                return
            reply = self._reply = Reply(self._transport, self._answered)
            reply.keeps = self._keeps()
            self._head = None
            self._respond(request, reply)

    def _request(self) -> Request | None:
        if self._head is None and not self._read_head():
            return None
        assert self._head is not None
        length = _length(self._head)
        if len(self._buffer) < length:
            return None
        body = bytes(self._buffer[:length])
        del self._buffer[:length]
        return Request(*self._first, body)

    def _read_head(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n", 0, HEAD_BYTES_MAX)
        if end < 0:
            if len(self._buffer) >= HEAD_BYTES_MAX:
                raise Malformed(431, "the head is too long")
            return False
        lines = bytes(self._buffer[:end]).decode("latin-1").split("\r\n")
        del self._buffer[: end + 4]
        words = lines[0].split(" ")
        if len(words) != 3 or words[2] not in ("HTTP/1.1", "HTTP/1.0"):
            raise Malformed(400, "this is no HTTP/1.1")
        pairs = (line.partition(":") for line in lines[1:])
        self._head = {name.strip().lower(): value.strip() for name, _, value in pairs}
        self._head = {**self._head, "": words[2]}
        self._first = words[0], words[1].partition("?")[0]
        _length(self._head)
        if self._head.get("expect", "").lower() == "100-continue":
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return True

    def _keeps(self) -> bool:
        assert self._head is not None
        asked = self._head.get("connection", "").lower()
        return asked != "close" and (self._head[""] == "HTTP/1.1" or asked == "keep-alive")

    def _refuse(self, error: Malformed) -> None:
        reply = Reply(self._transport, self._answered)
        reply.keeps = False
        kind = "invalid_request_error"
        said = {"message": str(error), "type": kind, "param": None, "code": "bad_request"}
        reply.whole(error.status, json.dumps({"error": said}).encode())

    def _answered(self, keeps: bool) -> None:
        self._reply = None
        if not keeps:
            self._transport.close()
        elif self._buffer:
            self._next()


def _length(head: Mapping[str, str]) -> int:
    if "transfer-encoding" in head:
        raise Malformed(411, "a body needs its content-length")
    said = head.get("content-length", "0")
    if not (said.isascii() and said.isdecimal()):
        raise Malformed(400, "content-length is no number")
    if len(said) > 12 or int(said) > BODY_BYTES_MAX:
        raise Malformed(413, "the body is too long")
    return int(said)
