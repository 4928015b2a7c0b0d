"""Links and streams between two ends in one process."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

import anyio
import anyio.lowlevel

from helexa.mesh.transport import READ_BYTES_MAX, STREAMS_PER_LINK_MAX, LinkClosed, StreamReset
from helexa.protocol.ids import NodeId

PIPE_BYTES_MAX: Final = 1 << 16
DATAGRAM_BYTES_MAX: Final = 1_200
DATAGRAMS_WAITING_MAX: Final = 256


class Signal:
    """Wakes everybody who waits; the waiter looks again for itself."""

    def __init__(self) -> None:
        self._event = anyio.Event()

    def notify(self) -> None:
        self._event.set()
        self._event = anyio.Event()

    async def wait(self) -> None:
        await self._event.wait()


class Pipe:
    """One direction of one stream: at most PIPE_BYTES_MAX wait in it."""

    def __init__(self) -> None:
        self.bytes = bytearray()
        self.finished = False
        self.reset: str | None = None
        self.changed = Signal()

    @property
    def over(self) -> bool:
        """Nothing will ever pass again."""
        return self.reset is not None or (self.finished and not self.bytes)

    def give_up(self, reason: str) -> None:
        if not self.over:
            self.reset = reason
            self.bytes.clear()
        self.changed.notify()


class MemoryStream:
    """`appear` shows the stream to the far side; called at the first thing done with it."""

    def __init__(
        self, link: MemoryLink, inward: Pipe, outward: Pipe, appear: Callable[[], None] | None
    ) -> None:
        self._link = link
        self._in = inward
        self._out = outward
        self._appear = appear
        self._aborted = False

    async def read(self, bytes_max: int = READ_BYTES_MAX) -> bytes:
        await anyio.lowlevel.checkpoint()
        pipe = self._in
        while True:
            self._check(pipe)
            # What a vanished node left in the pipe was never sent.
            if pipe.bytes and not self._link.deaf:
                chunk = bytes(pipe.bytes[:bytes_max])
                del pipe.bytes[:bytes_max]
                self._changed(pipe)
                return chunk
            if pipe.finished and not self._link.deaf:
                return b""
            await pipe.changed.wait()

    async def write(self, data: bytes) -> None:
        pipe, rest = self._out, memoryview(data)
        try:
            await anyio.lowlevel.checkpoint()
            while True:
                self._check(pipe)
                if pipe.finished:
                    raise StreamReset("written to after finish")
                room = PIPE_BYTES_MAX - len(pipe.bytes)
                if room > 0 and rest:
                    pipe.bytes += rest[:room]
                    rest = rest[room:]
                    self._changed(pipe)
                if not rest:
                    return
                await pipe.changed.wait()
        except anyio.get_cancelled_exc_class():
            self.abort()
            raise

    async def finish(self) -> None:
        self._link.check()
        if not self._out.over:
            self._out.finished = True
            self._changed(self._out)

    def abort(self) -> None:
        self._aborted = True
        self._in.give_up("the far side gave up the stream")
        if not self._out.finished:
            self._out.give_up("the far side gave up the stream")
        self._changed(self._out)

    @property
    def over(self) -> bool:
        return self._in.over and self._out.over

    def wake(self) -> None:
        self._in.changed.notify()
        self._out.changed.notify()

    def _check(self, pipe: Pipe) -> None:
        self._link.check()
        if self._aborted and not pipe.finished:
            raise StreamReset("given up on this side")
        if pipe.reset is not None and not self._link.deaf:
            raise StreamReset(pipe.reset)

    def _changed(self, pipe: Pipe) -> None:
        if self._appear is not None:
            appear, self._appear = self._appear, None
            appear()
        pipe.changed.notify()
        if self.over:
            self._link.stream_over()


class MemoryLink:
    """One end; `join` makes two of them a link."""

    def __init__(self, peer: NodeId, remote_address: str, *, dialled: bool) -> None:
        self.peer = peer
        self.remote_address = remote_address
        self.dialled = dialled
        self.ended: LinkClosed | None = None
        self.deaf = False
        """The far end vanished: nothing arrives any more."""
        self._room = Signal()
        self._far: MemoryLink | None = None
        self._opened: list[MemoryStream] = []
        self._streams: list[MemoryStream] = []
        self._arrived: deque[MemoryStream] = deque()
        self._datagrams: deque[bytes] = deque(maxlen=DATAGRAMS_WAITING_MAX)
        self._changed = Signal()

    def join(self, other: MemoryLink) -> None:
        self._far, other._far = other, self

    async def open_stream(self) -> MemoryStream:
        await anyio.lowlevel.checkpoint()
        while True:
            self.check()
            self._opened = [stream for stream in self._opened if not stream.over]
            if len(self._opened) < STREAMS_PER_LINK_MAX:
                break
            await self._room.wait()
        there, back = Pipe(), Pipe()

        def appear() -> None:
            if self._far is not None:
                self._far.take(there, back)

        stream = MemoryStream(self, back, there, appear)
        self._opened.append(stream)
        self._keep(stream)
        return stream

    def take(self, inward: Pipe, outward: Pipe) -> None:
        stream = MemoryStream(self, inward, outward, None)
        self._keep(stream)
        self._arrived.append(stream)
        self._changed.notify()

    def stream_over(self) -> None:
        self._room.notify()
        if self._far is not None:
            self._far._room.notify()  # noqa: SLF001  # The other half of this very link.

    def _keep(self, stream: MemoryStream) -> None:
        self._streams = [known for known in self._streams if not known.over]
        self._streams.append(stream)

    async def accept_stream(self) -> MemoryStream:
        await anyio.lowlevel.checkpoint()
        while True:
            self.check()
            if self._arrived:
                return self._arrived.popleft()
            await self._changed.wait()

    async def send_datagram(self, data: bytes) -> None:
        await anyio.lowlevel.checkpoint()
        self.check()
        if len(data) > DATAGRAM_BYTES_MAX:
            raise ValueError(f"datagram of {len(data)} bytes; at most {DATAGRAM_BYTES_MAX}")
        if self._far is not None:
            self._far.take_datagram(data)

    def take_datagram(self, data: bytes) -> None:
        self._datagrams.append(data)
        self._changed.notify()

    async def receive_datagram(self) -> bytes:
        await anyio.lowlevel.checkpoint()
        while not self._datagrams:
            self.check()
            await self._changed.wait()
        return self._datagrams.popleft()

    @property
    def datagram_bytes_max(self) -> int:
        return DATAGRAM_BYTES_MAX

    @property
    def rtt_s(self) -> float | None:
        return 0.0

    async def close(self, code: int = 0, reason: str = "") -> None:
        self.end_both(
            LinkClosed(reason or "closed on this side", code),
            LinkClosed(reason or "closed by the peer", code),
        )

    async def wait_closed(self) -> LinkClosed:
        while self.ended is None:
            await self._changed.wait()
        return self.ended

    def check(self) -> None:
        if self.ended is not None:
            # A fresh one each time: a traceback is written into what is raised.
            raise LinkClosed(self.ended.reason, self.ended.code)

    def end_both(self, here: LinkClosed, there: LinkClosed) -> None:
        if self._far is not None:
            self._far.end(there)
        self.end(here)

    def end(self, why: LinkClosed) -> None:
        if self.ended is None:
            self.ended = why
        for stream in self._streams:
            stream.wake()
        self._changed.notify()
        self._room.notify()

    def cut(self) -> MemoryLink | None:
        """Part the two ends without telling either; returns the far one, if it lives."""
        far, self._far = self._far, None
        if far is None or far.ended is not None:
            return None
        far._far, far.deaf, self.deaf = None, True, True  # noqa: SLF001  # The other half.
        return far
