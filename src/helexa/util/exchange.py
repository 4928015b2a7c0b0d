"""One request and its answer on one HTTP/1.1 connection, as the pool's inner half.

`Connection` feeds what the parser finds into the `Response` that it works for;
the two touch each other's state directly, because a method call for each would
be felt in every streamed token.
"""
# ruff: noqa: SLF001 - two halves of one machine, see above.

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol, Self, cast

import httptools

from helexa.util.deadlines import NEVER

READ_BYTES_HIGH: Final = 128 * 1024
HEADER_BYTES_MAX: Final = 64 * 1024
HEADERS_MAX: Final = 512
INTERIM_MAX: Final = 16
"""Answers (1xx) before the answer."""
JOIN_BYTES_MAX: Final = 64 * 1024
"""Up to this a body is copied behind its head to make one write; above, the copy costs more."""


_VERSIONS: Final = frozenset(("1.1", "1.0"))
_BEHIND: Final = "bytes behind the end of the answer"


class UpstreamError(Exception):
    """The far side, or the way to it, failed. The message is for logs, not for strangers."""


class UpstreamUnreachable(UpstreamError):
    """No connection could be made."""


class UpstreamTimedOut(UpstreamError):
    """No answer, or no further byte of it, within the time allowed."""


class UpstreamBroken(UpstreamError):
    """The answer ended early, or is not HTTP."""


class Owner(Protocol):
    """What an exchange needs of its pool."""

    loop: asyncio.AbstractEventLoop
    label: str
    now: Callable[[], float]
    watch: Callable[[float], None]

    async def resend(self, response: Response) -> None: ...

    def released(self, connection: Connection) -> None: ...

    def dropped(self, connection: Connection) -> None:
        """May be told twice."""
        ...


class Response:
    """An answer under way. `status` and `headers` stand once `head()` has returned True."""

    __slots__ = (
        "_chunks",
        "_chunks_bytes",
        "_connection",
        "_error",
        "_finished",
        "_head_seen",
        "_owner",
        "_quiet_max_s",
        "_request",
        "_resend_safe",
        "_silence_timeout_s",
        "_sink",
        "_waiter",
        "_wake_at",
        "deadline",
        "headers",
        "status",
    )

    def __init__(
        self,
        owner: Owner,
        request: tuple[bytes, bytes],
        *,
        first_byte_timeout_s: float,
        silence_timeout_s: float,
        resend_safe: bool,
    ) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.deadline = NEVER
        self._owner = owner
        self._request = request
        self._quiet_max_s = first_byte_timeout_s
        self._silence_timeout_s = silence_timeout_s
        self._resend_safe = resend_safe
        self._connection: Connection | None = None
        self._chunks: list[bytes] = []
        self._chunks_bytes = 0
        self._head_seen = False
        self._finished = False
        self._error: UpstreamError | None = None
        self._sink: Callable[[bytes], bool] | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._wake_at = NEVER

    @property
    def is_complete(self) -> bool:
        """Whether the body ended well and all of it was taken."""
        return self._finished and not self._chunks and self._error is None

    def header(self, name: bytes) -> bytes | None:
        """The first value of a header, named in lower case."""
        for each, value in self.headers:
            if each == name:
                return value
        return None

    async def head(self, within_s: float | None = None) -> bool:
        """Wait for status and headers; False when `within_s` passed and they are not here yet."""
        give_up_at = NEVER if within_s is None else self._owner.now() + within_s
        while not self._head_seen:
            if self._error is not None:
                if not self._resend_safe:
                    raise self._error
                self._resend_safe = False
                self._error, self._finished = None, False
                await self._owner.resend(self)
            elif self._owner.now() >= give_up_at:
                return False
            else:
                await self._wait(give_up_at)
        return True

    async def ready(self, within_s: float) -> bool:
        """Whether `chunk()` would return at once, after waiting up to `within_s` for that."""
        give_up_at = self._owner.now() + within_s
        while not (self._chunks or self._finished):
            if self._owner.now() >= give_up_at:
                return False
            await self._wait(give_up_at)
        return True

    async def chunk(self) -> bytes:
        """All that arrived since the last call, at least one byte; b"" at the end of the body."""
        chunks = self._chunks
        while not chunks:
            if self._finished:
                if self._error is not None:
                    raise self._error
                return b""
            self._waiter = self._owner.loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        chunks.clear()
        if self._chunks_bytes > READ_BYTES_HIGH and self._connection is not None:
            self._connection.resume()
        self._chunks_bytes = 0
        return data

    def pass_to(self, sink: Callable[[bytes], bool] | None) -> None:
        """Offer what arrives to `sink` first, as soon as it is read and in no task.

        It returns whether it took it; must not raise. What it did not take waits for `chunk()`,
        and nothing is offered while nobody waits there; nor is what comes with the end. For
        who only passes bytes on: to wake a task for them costs more than that.
        """
        self._sink = sink

    async def read(self, bytes_max: int) -> bytes:
        """The whole body. Raises UpstreamBroken when it is longer than `bytes_max`."""
        chunks = self._chunks
        is_here = self._finished and self._error is None and len(chunks) == 1
        if is_here and len(chunks[0]) <= bytes_max:
            # Nearly always: a short answer came in one piece with its head.
            self._chunks_bytes = 0
            return chunks.pop()
        parts = []
        room = bytes_max
        while part := await self.chunk():
            room -= len(part)
            if room < 0:
                self.close()
                raise UpstreamBroken(f"an answer of more than {bytes_max} bytes")
            parts.append(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def quiet_s(self) -> float:
        """For how long nothing has come; 0 where something waits to be read, or nothing can."""
        connection = self._connection
        if connection is None or self._chunks:
            return 0.0
        return self._owner.now() - connection.heard_at

    def lose(self, why: str) -> None:
        """For others than its reader: from now on the far side counts as gone. Idempotent."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.response = None
            self._resend_safe = False
            self._end(UpstreamBroken(f"{self._owner.label}: {why}"))
            connection.abort()

    def close(self) -> None:
        """Give up what has not arrived. Idempotent, never waits; a waiting call raises."""
        if not self._finished:
            self._resend_safe = False
            self._end(UpstreamBroken("given up by the caller"))
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.response = None
            connection.abort()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._finished:
            self.close()

    def expire(self, now: float) -> None:
        """Called by the pool's Deadlines."""
        if now >= self._wake_at:
            self._wake_at = NEVER
            self._wake()
        connection = self._connection
        if connection is None:
            self.deadline = NEVER
            return
        # What waits here unread is the reader's silence, not the far side's.
        heard_at = now if self._chunks else connection.heard_at
        limit = heard_at + self._quiet_max_s
        if now < limit:
            self.deadline = min(limit, self._wake_at)
            return
        self._connection = connection.response = None
        self._resend_safe = False
        self._end(UpstreamTimedOut(f"{self._owner.label}: silent for {self._quiet_max_s:g} s"))
        connection.abort()

    async def _wait(self, give_up_at: float) -> None:
        """Return when anything is new, or soon after `give_up_at`."""
        self._waiter = self._owner.loop.create_future()
        self._wake_at = give_up_at
        if give_up_at < self.deadline:
            self.deadline = give_up_at
            self._owner.watch(give_up_at)
        try:
            await self._waiter
        finally:
            self._waiter = None
            self._wake_at = NEVER

    def _offer(self, waiter: asyncio.Future[None], sink: Callable[[bytes], bool]) -> None:
        chunks = self._chunks
        if not chunks or waiter.done():
            return
        if sink(chunks[0] if len(chunks) == 1 else b"".join(chunks)):
            chunks.clear()
            self._chunks_bytes = 0
        else:
            waiter.set_result(None)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _end(self, error: UpstreamError | None) -> None:
        self._finished = True
        self._error = error
        self._sink = None
        self.deadline = NEVER
        self._wake()


class Connection(asyncio.Protocol):
    """A parser on a transport, and the response that it works for, if any."""

    def __init__(self, owner: Owner, *, reusable: bool) -> None:
        self.response: Response | None = None
        self.heard_at = 0.0
        self.idle_since = 0.0
        self.is_open = False
        self._owner = owner
        self._reusable = reusable
        self._reused = False
        self._transport: asyncio.Transport
        self._parser = httptools.HttpResponseParser(self)
        self._complete = False
        self._framed = False
        self._keep_alive = False
        self._heard = False
        self._progress = False
        self._quiet_bytes = 0
        self._interim = 0
        self._paused = False

    def send(self, response: Response) -> None:
        self.response = response
        self._complete = self._framed = self._heard = False
        self._quiet_bytes = self._interim = 0
        self.heard_at = now = self._owner.now()
        response._connection = self
        response.deadline = until = now + response._quiet_max_s
        self._owner.watch(until)
        head, body = response._request
        if len(body) > JOIN_BYTES_MAX:
            self._transport.writelines((head, body))
        else:
            self._transport.write(head + body)

    def resume(self) -> None:
        if self._paused:
            self._paused = False
            self._transport.resume_reading()

    def abort(self) -> None:
        self.is_open = False
        self._transport.abort()
        self._owner.dropped(self)

    # --- asyncio's calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's do not inherit it.
        self.is_open = True

    def data_received(self, data: bytes) -> None:
        response = self.response
        if response is None:
            # Bytes that answer no request could be taken for the next one's answer.
            if self.is_open:
                self.abort()
            return
        # A head has to be complete in its time: who drips it, or interim ones, says nothing new.
        if response._head_seen:
            self.heard_at = self._owner.now()
        self._heard = True
        self._progress = False
        is_behind = bool(response._chunks)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail(f"not HTTP: {error.__context__ or error}")
            return
        if self._complete:
            self._finish(response)
        elif self._progress:
            self._quiet_bytes = 0
            waiter = response._waiter
            # Who is not waiting may be about to write what came before.
            if not is_behind and waiter is not None and response._sink is not None:
                response._offer(waiter, response._sink)
            if response._chunks_bytes > READ_BYTES_HIGH and not self._paused:
                self._paused = True
                self._transport.pause_reading()
        else:
            # The parser collects header and trailer bytes without a limit of its own.
            self._quiet_bytes += len(data)
            if self._quiet_bytes > HEADER_BYTES_MAX:
                self._fail(f"more than {HEADER_BYTES_MAX} bytes of headers")

    def eof_received(self) -> None:
        response = self.response
        if response is not None and response._head_seen and not self._framed:
            # Without a length the end of the connection is the end of the body.
            self.response = response._connection = None
            response._end(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_open = False
        self._fail(f"connection lost: {exc}" if exc else "connection closed early")
        self._owner.dropped(self)

    # --- the parser's calls

    def on_header(self, name: bytes, value: bytes) -> None:
        response = self.response
        if response is None or self._complete:
            raise ValueError(_BEHIND)
        if response._head_seen:
            return  # A trailer.
        name = name.lower()
        if name == b"content-length":
            self._framed = True
        elif name == b"transfer-encoding":
            # The parser frames some others by the end of the connection, and some as chunks.
            if self._framed or value.strip().lower() != b"chunked":
                raise ValueError("framed in two ways, or in one that is not read here")
            self._framed = True
        response.headers.append((name, value))

    def on_headers_complete(self) -> None:
        response = self.response
        if response is None or self._complete:
            raise ValueError(_BEHIND)
        status = self._parser.get_status_code()
        self._progress = True
        if status < 200:
            if status == 101:
                raise ValueError("an upgrade that nobody asked for")
            response.headers.clear()
            self._framed = False
            self._interim += 1
            if self._interim > INTERIM_MAX:
                raise ValueError("interim answers without end")
            return
        if not 200 <= status <= 599 or self._parser.get_http_version() not in _VERSIONS:
            raise ValueError("a status or a version that there is not")
        if len(response.headers) > HEADERS_MAX:
            raise ValueError(f"more than {HEADERS_MAX} headers")
        if status in (204, 304):
            self._framed = True
        # After the end of the message the parser has forgotten the answer's headers.
        self._keep_alive = self._parser.should_keep_alive()
        response.status = status
        response._head_seen = True
        self.heard_at = self._owner.now()
        if response._silence_timeout_s < response._quiet_max_s:
            response.deadline = until = self.heard_at + response._silence_timeout_s
            self._owner.watch(until)
        response._quiet_max_s = response._silence_timeout_s
        response._wake()

    def on_body(self, body: bytes) -> None:
        response = self.response
        if response is None or self._complete:
            raise ValueError(_BEHIND)
        self._progress = True
        response._chunks.append(body)
        response._chunks_bytes += len(body)
        if response._sink is None:
            waiter = response._waiter
            if waiter is not None and not waiter.done():
                waiter.set_result(None)

    def on_message_complete(self) -> None:
        # Interim answers (1xx) complete too. The response itself ends when the whole
        # read was parsed, so that bytes behind it are an error and not an answer.
        if self.response is not None and self.response._head_seen:
            self._complete = True

    # ---

    def _finish(self, response: Response) -> None:
        self.response = response._connection = None
        response._end(None)
        if self.is_open and self._reusable and self._keep_alive:
            self._reused = True
            self._owner.released(self)
        else:
            self.is_open = False
            self._transport.close()
            self._owner.dropped(self)

    def _fail(self, why: str) -> None:
        response, self.response = self.response, None
        if response is not None:
            response._connection = None
            if self._heard or not self._reused:
                response._resend_safe = False
            response._end(UpstreamBroken(f"{self._owner.label}: {why}"))
        if self.is_open:
            self.abort()
