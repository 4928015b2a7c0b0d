"""One iroh connection as a Link, and its streams.

The engine frees a call whose awaiter is cancelled, together with whatever the
call had already read. So calls whose answer must not be lost (reads, accepts)
are made by a `Standing` call that outlives its waiter.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, Final, Generic, TypeVar
from weakref import WeakSet

import anyio
import iroh
from anyio.abc import TaskGroup

from helexa.mesh.transport import READ_BYTES_MAX, STREAMS_PER_LINK_MAX, LinkClosed, StreamReset
from helexa.mesh.transports._engine import closed_by_peer, explain
from helexa.protocol.ids import NodeId

log = logging.getLogger(__name__)

T = TypeVar("T")

PEER_SILENCE_S: Final = 12.0
"""The engine sends something every 5 s but needs 30 s to give a silent peer up."""
REASON_BYTES_MAX: Final = 512
_ABORTED: Final = 1
# The engine zeroes a fresh buffer of the size asked for on every read.
_ENGINE_READ_BYTES: Final = 1 << 16


async def contained(call: Callable[..., Coroutine[Any, Any, None]], *args: Any) -> None:
    """The edge of a task that serves one link: a bug or a panic there must not end the others."""
    try:
        await call(*args)
    except Exception:
        log.exception("the iroh transport failed in %s", getattr(call, "__qualname__", call))


class GivenUp(Exception):
    """The standing call was cancelled on this side."""


class Standing(Generic[T]):
    """One engine call at a time whose answer waits for the next asker.

    A cancelled asker leaves the call running; the next one gets its answer.
    """

    def __init__(self, spawn: Callable[..., None], call: Callable[[], Awaitable[T]]) -> None:
        self._spawn = spawn
        self._call = call
        self._scope: anyio.CancelScope | None = None
        self._done = anyio.Event()
        self._answer: tuple[T] | None = None
        self._error: iroh.IrohError | None = None

    async def next(self) -> T:
        """Raises the engine's own error, or GivenUp when cancelled or when the transport ended."""
        if self._scope is None:
            self._done, self._scope = anyio.Event(), anyio.CancelScope()
            self._spawn(self._run, self._scope)
        await self._done.wait()
        answer, error = self._answer, self._error
        self._scope, self._answer, self._error = None, None, None
        if error is not None:
            raise error
        if answer is None:
            raise GivenUp
        return answer[0]

    def cancel(self) -> None:
        if self._scope is not None:
            self._scope.cancel()

    async def _run(self, scope: anyio.CancelScope) -> None:
        try:
            with scope:
                self._answer = (await self._call(),)
        except iroh.IrohError as error:
            self._error = error
        except GivenUp:
            pass  # The link ended between the asking and the call.
        finally:
            self._done.set()


class IrohStream:
    def __init__(self, link: IrohLink, pair: Any) -> None:
        self._link = link
        self._send: Any = pair.send()
        self._receive: Any = pair.recv()
        self._reads = Standing(link.spawn, self._read_chunk)
        self._rest = b""
        self._writing: anyio.CancelScope | None = None
        self._ended = self._finished = self._aborted = False

    async def read(self, bytes_max: int = READ_BYTES_MAX) -> bytes:
        chunk = self._rest
        if not chunk and not self._ended:
            self._check()
            try:
                chunk = await self._reads.next()
            except iroh.IrohError as error:
                raise self._link.failure(error) from None
            except GivenUp:
                self._check()
                raise LinkClosed("this node stopped") from None
            self._ended = not chunk
        self._rest = chunk[bytes_max:]
        return bytes(chunk[:bytes_max])

    async def write(self, data: bytes) -> None:
        self._check()
        if self._finished:
            raise StreamReset("written to after finish")
        if not data:
            return
        try:
            with anyio.CancelScope() as self._writing:
                await self._send.write_all(data)
                return
        except iroh.IrohError as error:
            raise self._link.failure(error) from None
        except anyio.get_cancelled_exc_class():
            self.abort()
            raise
        finally:
            self._writing = None
        self._check()

    async def finish(self) -> None:
        if self._finished or self._aborted:
            return
        self._check()
        self._finished = True
        try:
            await self._send.finish()
        except iroh.IrohError as error:
            failure = self._link.failure(error)
            # A peer that reads no more needs no end of the stream either.
            if isinstance(failure, LinkClosed):
                raise failure from None

    def abort(self) -> None:
        if self._aborted or (self._finished and self._ended):
            return
        self._aborted = True
        # The engine's lock on a half is held by the call in progress: end that first.
        self._reads.cancel()
        if self._writing is not None:
            self._writing.cancel()
        if self._send is not None:
            self._link.spawn(self._give_up, self._send, self._receive)

    def let_go(self) -> None:
        """The link ended: drop the engine's handles, which would keep its socket open."""
        self._send = self._receive = None

    async def _read_chunk(self) -> bytes:
        if self._receive is None:
            raise GivenUp
        return bytes(await self._receive.read(_ENGINE_READ_BYTES))

    async def _give_up(self, send: Any, receive: Any) -> None:
        with suppress(iroh.IrohError):
            if not self._finished:
                await send.reset(_ABORTED)
        with suppress(iroh.IrohError):
            if not self._ended:
                await receive.stop(_ABORTED)

    def _check(self) -> None:
        self._link.check()
        if self._aborted:
            raise StreamReset("given up on this side")


class IrohLink:
    def __init__(self, tasks: TaskGroup, connection: Any, *, dialled: bool) -> None:
        self._tasks = tasks
        self._connection: Any = connection
        self.peer = NodeId(str(connection.remote_id()))
        self.dialled = dialled
        self.remote_address = _selected_address(connection)
        self.ended: LinkClosed | None = None
        self._over = anyio.Event()
        self._arrivals: Standing[Any] = Standing(self.spawn, self._accept_pair)
        self._streams: WeakSet[IrohStream] = WeakSet()
        self._heard = (-1, 0.0)
        connection.set_max_concurrent_bi_streams(STREAMS_PER_LINK_MAX)
        connection.set_max_concurrent_uni_streams(0)

    def spawn(self, call: Callable[..., Coroutine[Any, Any, None]], *args: Any) -> None:
        """Run in the transport's group; when that is over there is nothing left to do it to."""
        with suppress(RuntimeError):
            self._tasks.start_soon(contained, call, *args)

    async def open_stream(self) -> IrohStream:
        self.check()
        try:
            return self._keep(await self._connection.open_bi())
        except iroh.IrohError as error:
            raise self.failure(error) from None

    async def accept_stream(self) -> IrohStream:
        self.check()
        try:
            return self._keep(await self._arrivals.next())
        except iroh.IrohError as error:
            raise self.failure(error) from None
        except GivenUp:
            self.check()
            raise LinkClosed("this node stopped") from None

    async def send_datagram(self, data: bytes) -> None:
        self.check()
        if len(data) > self.datagram_bytes_max:
            raise ValueError(f"datagram of {len(data)} bytes; at most {self.datagram_bytes_max}")
        try:
            await self._connection.send_datagram_wait(data)
        except iroh.IrohError as error:
            failure = self.failure(error)
            if isinstance(failure, LinkClosed):
                raise failure from None
            # The path changed while it waited, and carries less.
            raise ValueError(f"datagram of {len(data)} bytes: {failure}") from None

    async def receive_datagram(self) -> bytes:
        self.check()
        try:
            return bytes(await self._connection.read_datagram())
        except iroh.IrohError as error:
            raise self.failure(error) from None

    @property
    def datagram_bytes_max(self) -> int:
        return 0 if self._connection is None else int(self._connection.max_datagram_size() or 0)

    @property
    def rtt_s(self) -> float | None:
        milliseconds = None if self._connection is None else self._connection.rtt()
        return None if milliseconds is None else float(milliseconds) / 1000

    async def close(self, code: int = 0, reason: str = "") -> None:
        self.end(LinkClosed(reason or "closed on this side", code), code, reason)

    async def wait_closed(self) -> LinkClosed:
        await self._over.wait()
        assert self.ended is not None
        return self.ended

    def check(self) -> None:
        if self.ended is not None:
            # A fresh one each time: a traceback is written into what is raised.
            raise LinkClosed(self.ended.reason, self.ended.code)

    def end(self, why: LinkClosed, code: int = 0, reason: str = "") -> None:
        """Record the first reason and let go of the connection. Idempotent."""
        if self.ended is not None:
            return
        self.ended = why
        with suppress(iroh.IrohError):
            self._connection.close(code, reason.encode()[:REASON_BYTES_MAX])
        self._connection = None
        for stream in self._streams:
            stream.let_go()
        self._over.set()

    def failure(self, error: iroh.IrohError) -> LinkClosed | StreamReset:
        """What the engine's error means to a caller."""
        if self.ended is None and (cause := self._connection.close_reason()) is not None:
            self.end(_closed(cause))
        if self.ended is not None:
            return LinkClosed(self.ended.reason, self.ended.code)
        return StreamReset(explain(error))

    async def watch(self) -> None:
        """Wait for the engine to end the connection, or for `end` to make it."""
        self.end(_closed(await self._connection.closed()))

    def sweep(self, now_s: float) -> None:
        """Give up a peer from which nothing at all arrived for PEER_SILENCE_S."""
        if self._connection is None:
            return
        count = self._connection.stats().udp_rx_datagrams
        if count != self._heard[0]:
            self._heard = (count, now_s)
        elif now_s - self._heard[1] >= PEER_SILENCE_S:
            self.end(LinkClosed(f"nothing arrived for {PEER_SILENCE_S:.0f} s"))

    async def _accept_pair(self) -> Any:
        # Looked up at the call: a bound method would keep the connection's handle alive.
        if self._connection is None:
            raise GivenUp
        return await self._connection.accept_bi()

    def _keep(self, pair: Any) -> IrohStream:
        self.check()
        stream = IrohStream(self, pair)
        self._streams.add(stream)
        return stream


def _closed(cause: str) -> LinkClosed:
    said = closed_by_peer(cause)
    return (
        LinkClosed(cause) if said is None else LinkClosed(said[1] or "closed by the peer", said[0])
    )


def _selected_address(connection: Any) -> str:
    paths = connection.paths()
    return next((str(path.remote_addr) for path in paths if path.is_selected), "")
