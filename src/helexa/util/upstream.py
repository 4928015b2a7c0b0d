"""The thin HTTP/1.1 client pool that carries inference from hop to hop.

General clients cost many times the CPU a chunk that a proxy can afford, so this
does only what a proxy needs: one request on one connection, the body as it came,
the answer's bytes as they arrive, and the truth about how it ended.

    async with Pool(Tcp("127.0.0.1", 8060)).running() as pool:
        with await pool.request("POST", "/v1/completions", headers, body) as response:
            while chunk := await response.chunk():
                ...

Rules:

- Leaving the `with` before the end of the body drops the connection at once, so
  the far side knows that nobody listens. At the end of the body the connection
  has gone back to the pool by itself.
- Bytes received before a failure are delivered before it is raised: a truncated
  answer ends in UpstreamBroken, never in a quiet b"".
- A kept connection that the far side closed before it answered one byte is
  replaced once, silently, but only where the caller says that a second execution
  does no harm (`resend_safe`; always so for GET), because the request may have run.
- One task at a time waits on a Response. Cancelling it is safe.
- Nothing buffers without bound: past 128 KiB unread, the socket is not read.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import TypeAlias

import anyio
import anyio.abc

from helexa.util.deadlines import NEVER, Deadlines, Watched
from helexa.util.dialling import Dial, DialFailed, Streams, Tcp, Unix
from helexa.util.exchange import (
    Connection,
    Response,
    UpstreamBroken,
    UpstreamError,
    UpstreamTimedOut,
    UpstreamUnreachable,
)

__all__ = [
    "Dial",
    "Headers",
    "Pool",
    "PoolFull",
    "Response",
    "Streams",
    "Tcp",
    "Unix",
    "UpstreamBroken",
    "UpstreamError",
    "UpstreamTimedOut",
    "UpstreamUnreachable",
]

Headers: TypeAlias = Sequence[tuple[bytes, bytes]]


class Running:
    """`async with pool.running() as pool`: a class, because it is compiled with the rest."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._tasks = anyio.create_task_group()

    async def __aenter__(self) -> Pool:
        self._pool.open(await self._tasks.__aenter__())
        return self._pool

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> bool:
        self._pool.close()
        return bool(await self._tasks.__aexit__(kind, error, at))


class PoolFull(UpstreamError):
    """All connections are busy and enough requests wait already."""


class Pool:
    """Connections to one place. Live inside `running()`; at its end every one is closed."""

    loop: asyncio.AbstractEventLoop
    now: Callable[[], float]
    watch: Callable[[float], None]

    def __init__(
        self,
        dial: Dial,
        *,
        connections_max: int = 1024,
        waiting_max: int = 1024,
        idle_s: float = 30.0,
        connect_timeout_s: float = 5.0,
    ) -> None:
        self.label = dial.label
        self.deadline = NEVER
        self._dial = dial
        self._connections_max = connections_max
        self._waiting_max = waiting_max
        self._idle_s = idle_s
        self._connect_timeout_s = connect_timeout_s
        self._version_and_host = b" HTTP/1.1\r\nhost: " + dial.authority.encode() + b"\r\n"
        self._connections: set[Connection] = set()
        self._idle: deque[Connection] = deque()
        self._waiting: deque[asyncio.Future[Connection | None]] = deque()
        self._dialling = 0
        self._is_running = False
        self._tasks: anyio.abc.TaskGroup
        self._deadlines: Deadlines

    @property
    def in_use(self) -> int:
        """Connections that carry a request, or are being made for one."""
        return len(self._connections) + self._dialling - len(self._idle)

    def running(self) -> Running:
        return Running(self)

    def open(self, tasks: anyio.abc.TaskGroup) -> None:
        """`running` calls it. What dials, or carries a connection, runs in `tasks`."""
        self.loop = asyncio.get_running_loop()
        self.now = self.loop.time
        self._deadlines = Deadlines(self._watched)
        self.watch = self._deadlines.watch
        self._tasks = tasks
        self._is_running = True

    def close(self) -> None:
        self._is_running = False
        self._deadlines.close()
        while self._waiting:
            self._hand_over(None)
        for connection in list(self._connections):
            connection.abort()
        self._tasks.cancel_scope.cancel()

    async def request(
        self,
        method: str,
        path: str,
        headers: Headers = (),
        body: bytes = b"",
        *,
        first_byte_timeout_s: float = 300.0,
        silence_timeout_s: float = 300.0,
        resend_safe: bool = False,
    ) -> Response:
        """Send, and wait for status and headers. Raises an UpstreamError."""
        response = await self.send(
            method,
            path,
            headers,
            body,
            first_byte_timeout_s=first_byte_timeout_s,
            silence_timeout_s=silence_timeout_s,
            resend_safe=resend_safe,
        )
        try:
            await response.head()
        except BaseException:
            response.close()
            raise
        return response

    async def send(
        self,
        method: str,
        path: str,
        headers: Headers = (),
        body: bytes = b"",
        *,
        first_byte_timeout_s: float = 300.0,
        silence_timeout_s: float = 300.0,
        resend_safe: bool = False,
    ) -> Response:
        """Send, and return before the answer: `response.head()` waits for it.

        `path` is sent as it is, so it has to be quoted already. `host` and
        `content-length` are added. Raises an UpstreamError when there is no connection.
        """
        if method in ("HEAD", "CONNECT"):
            raise ValueError(f"{method} answers are framed differently and are not read here")
        request = self._head(method, path, headers, body), body
        response = Response(
            self,
            request,
            first_byte_timeout_s=first_byte_timeout_s,
            silence_timeout_s=silence_timeout_s,
            resend_safe=resend_safe or method == "GET",
        )
        if (connection := self._take_idle()) is not None:
            connection.send(response)
        else:
            (await self._connect(fresh=False)).send(response)
        return response

    def _head(self, method: str, path: str, headers: Headers, body: bytes) -> bytes:
        parts = [method.encode(), b" ", path.encode("ascii"), self._version_and_host]
        for name, value in headers:
            parts += (name, b": ", value, b"\r\n")
        if body or method != "GET":
            parts.append(b"content-length: %d\r\n\r\n" % len(body))
            lines = len(headers) + 4
        else:
            parts.append(b"\r\n")
            lines = len(headers) + 3
        head = b"".join(parts)
        # A line break inside a value would be a second header, or a second request.
        if head.count(b"\n") != lines or " " in path:
            raise ValueError("a line break in a header, or a space in the path")
        return head

    # --- connections

    async def resend(self, response: Response) -> None:
        """Send the request again, on a connection that cannot be stale."""
        (await self._connect(fresh=True)).send(response)

    def _take_idle(self) -> Connection | None:
        while self._idle:
            # The last used is the least likely to have been closed meanwhile.
            connection = self._idle.pop()
            if connection.is_open:
                return connection
        return None

    async def _connect(self, *, fresh: bool) -> Connection:
        if not self._is_running:
            raise UpstreamUnreachable(f"{self.label}: the pool is closed")
        if len(self._connections) + self._dialling < self._connections_max:
            self._dialling += 1
        elif fresh and self._idle:
            self._idle.popleft().abort()
            self._dialling += 1
        elif (connection := await self._wait_turn()) is not None:
            return connection
        try:
            return await self._dial_now()
        finally:
            self._dialling -= 1
            self._offer_slot()

    async def _dial_now(self) -> Connection:
        connection = Connection(self, reusable=self._dial.reusable)
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                await self._dial.dial(connection, self._tasks)
        except TimeoutError:
            raise UpstreamUnreachable(
                f"{self.label}: no connection within {self._connect_timeout_s:g} s"
            ) from None
        except DialFailed as error:
            raise UpstreamUnreachable(str(error)) from error
        if not connection.is_open:
            raise UpstreamUnreachable(f"{self.label}: closed at once")
        self._connections.add(connection)
        if not self._is_running:
            connection.abort()
            raise UpstreamUnreachable(f"{self.label}: the pool is closed")
        return connection

    async def _wait_turn(self) -> Connection | None:
        """A connection that came free, or None: a slot to dial in, already counted."""
        if len(self._waiting) >= self._waiting_max:
            raise PoolFull(f"{self.label}: {self._waiting_max} requests wait already")
        turn: asyncio.Future[Connection | None] = self.loop.create_future()
        self._waiting.append(turn)
        try:
            connection = await turn
        except BaseException:
            if turn.done() and not turn.cancelled():
                # It was handed something at the moment it gave up: pass that on.
                self._return(turn.result())
            elif turn in self._waiting:
                self._waiting.remove(turn)
            raise
        if not self._is_running:
            self._return(connection)
            raise UpstreamUnreachable(f"{self.label}: the pool is closed")
        if connection is not None and not connection.is_open:
            self._dialling += 1
            return None
        return connection

    def _return(self, connection: Connection | None) -> None:
        if connection is None:
            self._dialling -= 1
            self._offer_slot()
        elif connection.is_open:
            self.released(connection)

    def _hand_over(self, connection: Connection | None) -> bool:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                self._dialling += connection is None
                turn.set_result(connection)
                return True
        return False

    def _offer_slot(self) -> None:
        if len(self._connections) + self._dialling < self._connections_max:
            self._hand_over(None)

    def released(self, connection: Connection) -> None:
        """A connection is free and healthy."""
        if not self._is_running:
            connection.abort()
        elif not (self._waiting and self._hand_over(connection)):
            connection.idle_since = now = self.now()
            self._idle.append(connection)
            if self.deadline == NEVER:
                self.deadline = now + self._idle_s
                self.watch(self.deadline)

    def dropped(self, connection: Connection) -> None:
        """A connection is gone, or as good as that."""
        if connection in self._connections:
            self._connections.discard(connection)
            if connection in self._idle:
                self._idle.remove(connection)
            self._offer_slot()

    # --- deadlines

    def _watched(self) -> Iterator[Watched]:
        yield self
        for connection in self._connections:
            if connection.response is not None:
                yield connection.response

    def expire(self, now: float) -> None:
        """Drop what was idle too long; the queue is in the order of becoming idle."""
        oldest = now - self._idle_s
        while self._idle and self._idle[0].idle_since <= oldest:
            self._idle.popleft().abort()
        self.deadline = self._idle[0].idle_since + self._idle_s if self._idle else NEVER
