"""Any ordered byte stream, dressed as an asyncio transport.

A mesh link's streams have no socket, and the HTTP code of both sides is written
against asyncio's transports. This is the adapter: two pumps between a stream
and a protocol, with the protocol's own flow control on top.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final, Protocol

import anyio
import anyio.abc

WRITE_BYTES_HIGH: Final = 64 * 1024
"""More than this waiting to be written, and the protocol is asked to pause."""


class ByteStream(Protocol):
    """What is needed of a stream; `helexa.mesh.transport.Stream` is one."""

    async def read(self) -> bytes: ...

    async def write(self, data: bytes) -> None: ...

    async def finish(self) -> None: ...

    def abort(self) -> None: ...


class StreamTransport(asyncio.Transport):
    """Calls `connection_made` when constructed and `connection_lost` at the end of `run`."""

    def __init__(self, stream: ByteStream, protocol: asyncio.Protocol, *, peer: str = "") -> None:
        """`peer` names the far end, where somebody proved who it is."""
        super().__init__(extra={"peername": (peer, 0)} if peer else None)
        self._stream = stream
        self._protocol = protocol
        self._outgoing: list[bytes] = []
        self._outgoing_bytes = 0
        self._outgoing_some = asyncio.Event()
        self._reading = asyncio.Event()
        self._reading.set()
        self._paused = False
        self._closing = False
        self._aborted = False
        self._scope = anyio.CancelScope()
        self._reader_scope = anyio.CancelScope()
        protocol.connection_made(self)

    async def run(self) -> None:
        """Carry bytes both ways until either side ends; never raises for the stream's failures."""
        lost: Exception | None = None
        try:
            with self._scope:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._read)
                    await self._write()
                    tasks.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            # The stream's own errors belong to a layer that this one cannot name.
            foreign, ours = group.split(Exception)
            if ours is not None:
                raise ours from None
            if foreign is not None:
                lost = _first(foreign)
        finally:
            if lost is not None or self._aborted or not self._closing:
                self._stream.abort()
            self._closing = True
            self._protocol.connection_lost(lost)

    async def _read(self) -> None:
        with self._reader_scope:
            while True:
                await self._reading.wait()
                data = await self._stream.read()
                if not data:
                    break
                self._protocol.data_received(data)
            if not self._protocol.eof_received():
                self.close()

    async def _write(self) -> None:
        while True:
            await self._outgoing_some.wait()
            self._outgoing_some.clear()
            # All that waits in one write: a stream's write can cost 150 us however small.
            data = b"".join(self._outgoing)
            self._outgoing.clear()
            if data:
                await self._stream.write(data)
                self._outgoing_bytes -= len(data)
                if self._paused and self._outgoing_bytes <= WRITE_BYTES_HIGH // 4:
                    self._paused = False
                    self._protocol.resume_writing()
            if self._closing and not self._outgoing:
                await self._stream.finish()
                return

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        if self._closing:
            return
        self._outgoing.append(bytes(data))
        self._outgoing_bytes += len(data)
        self._outgoing_some.set()
        if not self._paused and self._outgoing_bytes > WRITE_BYTES_HIGH:
            self._paused = True
            self._protocol.pause_writing()

    def can_write_eof(self) -> bool:
        # A stream could, but then nobody would read on: `close` says the same in one step.
        return False

    def get_write_buffer_size(self) -> int:
        return self._outgoing_bytes

    def pause_reading(self) -> None:
        self._reading.clear()

    def resume_reading(self) -> None:
        self._reading.set()

    def is_reading(self) -> bool:
        return self._reading.is_set()

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        """Write what waits, finish, and end."""
        if not self._closing:
            self._closing = True
            self._reader_scope.cancel()
            self._outgoing_some.set()

    def abort(self) -> None:
        """End now; the far side sees a reset."""
        self._closing = self._aborted = True
        self._stream.abort()
        self._scope.cancel()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert isinstance(protocol, asyncio.Protocol)
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol


def _first(group: BaseExceptionGroup[Exception]) -> Exception:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
