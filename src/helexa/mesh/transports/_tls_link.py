"""A `tls` link: all its streams, datagrams and signs of life on one connection.

Streams that wait to write stand in a queue and go in turn, one chunk each. The
dialler numbers the streams it opens 1, 3, 5 .., the acceptor 2, 4, 6 ..; a stream
gets its number with its first frame, so numbers arrive without gaps and a frame
for an unknown one is either late or wrong.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Final

import anyio
import anyio.lowlevel

from helexa.mesh.transport import STREAMS_PER_LINK_MAX, LinkClosed
from helexa.mesh.transports import _tls_wire as wire
from helexa.mesh.transports._tls_channel import Channel, deafen
from helexa.mesh.transports._tls_stream import TlsStream
from helexa.mesh.transports._tls_wire import CHUNK_BYTES_MAX, DATAGRAM_BYTES_MAX, WireViolation
from helexa.protocol.ids import NodeId
from helexa.util.logs import every

log = logging.getLogger(__name__)

BEAT_S: Final = 1.5
QUIET_BEATS_MAX: Final = 3
"""Beats and not seconds: a node that slept itself finds the words of its peers still waiting."""
DATAGRAMS_WAITING_MAX: Final = 256
WINDOWS_BYTES_MAX: Final = 16 << 20
"""What the windows of one link may grow by, all together."""
VIOLATION: Final = 3
_NUMBER_MAX: Final = (1 << 32) - 2
_RTT_WEIGHT: Final = 1 / 8

_seldom: Final = every(10.0)


class TlsLink:
    """`on_end` is called once, when the link ended."""

    def __init__(
        self, channel: Channel, peer: NodeId, *, dialled: bool, on_end: Callable[[TlsLink], None]
    ) -> None:
        self.peer = peer
        self.dialled = dialled
        self.remote_address = channel.remote_address
        self.ended: LinkClosed | None = None
        self.rtt_s: float | None = None
        self._channel = channel
        self._on_end = on_end
        self._next, self._peer_next = (1, 2) if dialled else (2, 1)
        self._streams: dict[int, TlsStream] = {}
        """Those that the peer knows of too."""
        self._opened: set[TlsStream] = set()
        """Those opened here that are not over, whether or not the peer knows of them."""
        self._arrived: dict[int, TlsStream] = {}
        self._queue: deque[TlsStream] = deque()
        self._datagrams: deque[bytes] = deque(maxlen=DATAGRAMS_WAITING_MAX)
        self._spare = WINDOWS_BYTES_MAX
        self._room, self._news = _Signal(), _Signal()
        self._over = anyio.Event()
        self._loop = asyncio.get_running_loop()
        self._quiet = 0
        self._pings = 0
        self._pinged_at_s = 0.0
        self._timer = self._loop.call_later(BEAT_S, self._beat)

    # --- the contract

    async def open_stream(self) -> TlsStream:
        while True:
            self.check()
            if len(self._opened) < STREAMS_PER_LINK_MAX:
                break
            await self._room.wait()
        stream = TlsStream(self)
        self._opened.add(stream)
        return stream

    async def accept_stream(self) -> TlsStream:
        while True:
            self.check()
            if self._arrived:
                stream = self._arrived.pop(next(iter(self._arrived)))
                stream.accept()
                return stream
            await self._news.wait()

    async def send_datagram(self, data: bytes) -> None:
        await anyio.lowlevel.checkpoint()
        self.check()
        if len(data) > DATAGRAM_BYTES_MAX:
            raise ValueError(f"datagram of {len(data)} bytes; at most {DATAGRAM_BYTES_MAX}")
        if not self.paused:
            self._channel.send(wire.DATAGRAM, 0, data)

    async def receive_datagram(self) -> bytes:
        while True:
            self.check()
            if self._datagrams:
                return self._datagrams.popleft()
            await self._news.wait()

    @property
    def datagram_bytes_max(self) -> int:
        return DATAGRAM_BYTES_MAX

    async def close(self, code: int = 0, reason: str = "") -> None:
        self.end(LinkClosed(reason or "closed on this side", code), wire.close_body(code, reason))

    async def wait_closed(self) -> LinkClosed:
        await self._over.wait()
        assert self.ended is not None
        return self.ended

    def end(self, why: LinkClosed, farewell: bytes | None = None) -> None:
        """Record the first reason, tell the peer where there is something to tell. Idempotent."""
        if self.ended is not None:
            return
        self.ended = why
        self._timer.cancel()
        if farewell is None:
            deafen(self._channel)
            self._channel.abort()
        else:
            self._channel.part(farewell)
        for stream in {*self._streams.values(), *self._opened}:
            stream.wake()
        for emptied in (self._streams, self._opened, self._arrived, self._queue, self._datagrams):
            emptied.clear()
        self._room.notify()
        self._news.notify()
        self._over.set()
        self._on_end(self)

    # --- for its streams

    @property
    def paused(self) -> bool:
        return self._channel.paused

    def check(self) -> None:
        if self.ended is not None:
            # A fresh one each time: a traceback is written into what is raised.
            raise LinkClosed(self.ended.reason, self.ended.code)

    def send_data(self, stream: TlsStream, chunk: bytes | memoryview) -> None:
        self._channel.send_data(stream.number or self._number(stream), chunk)

    def send(self, kind: int, stream: TlsStream, body: bytes = b"") -> None:
        if self.ended is None:
            self._channel.send(kind, stream.number or self._number(stream), body)

    def enqueue(self, stream: TlsStream) -> None:
        self._queue.append(stream)
        self._send_in_turn()

    def borrow(self, count: int) -> bool:
        if count > self._spare:
            return False
        self._spare -= count
        return True

    def forget(self, stream: TlsStream) -> None:
        self._spare += stream.borrowed
        self._streams.pop(stream.number, None)
        self._arrived.pop(stream.number, None)
        if stream in self._opened:
            self._opened.discard(stream)
            self._room.notify()

    # --- for its channel

    def on_open(self) -> None:
        raise AssertionError("a link begins on an open channel")

    def on_writable(self) -> None:
        self._send_in_turn()

    def on_lost(self, why: str) -> None:
        self.end(LinkClosed(why))

    def on_violation(self, what: str) -> None:
        if _seldom():
            log.warning(
                "closed a link whose peer broke the protocol: %s",
                what,
                extra={"peer": self.peer, "at": self.remote_address, "missed": _seldom.missed},
            )
        reason = f"broke the protocol: {what}"
        self.end(LinkClosed(f"the peer {reason}", VIOLATION), wire.close_body(VIOLATION, reason))

    def on_data(self, number: int, piece: bytes) -> None:
        (self._streams.get(number) or self._arrive(number)).arrive(piece)

    def on_frame(self, kind: int, number: int, body: bytes) -> None:
        match kind:
            case wire.CREDIT:
                self._more_credit(number, int.from_bytes(body, "big"))
            case wire.FIN:
                (self._streams.get(number) or self._arrive(number)).finished_there()
            case wire.RESET:
                if (stream := self._streams.get(number)) is None:
                    raise WireViolation("the end of a stream that is not open")
                stream.reset_there()
            case wire.STOP:
                if (stream := self._known(number)) is not None:
                    stream.stopped_there()
            case wire.DATAGRAM:
                self._datagrams.append(body)
                self._news.notify()
            case wire.PING:
                # Not into a full pipe: a peer that asks and never reads gets nothing.
                if not self.paused:
                    self._channel.send(wire.PONG, 0, body)
            case wire.PONG:
                self._ponged(int.from_bytes(body, "big"))
            case wire.CLOSE:
                code, reason = wire.read_close(body)
                self.end(LinkClosed(reason or "closed by the peer", code))
            case _:
                raise WireViolation(f"a frame of kind {kind} on a link")

    # --- details

    def _number(self, stream: TlsStream) -> int:
        """Name a stream that was opened here, at its first frame."""
        self.check()
        if self._next > _NUMBER_MAX:
            # Two thousand million streams: a fresh link is cheaper than reusing numbers.
            self.end(LinkClosed("the link used up its streams"), wire.close_body(0, "used up"))
            self.check()
        stream.number = self._next
        self._next += 2
        self._streams[stream.number] = stream
        return stream.number

    def _arrive(self, number: int) -> TlsStream:
        """A stream that the peer opens with the frame at hand."""
        if number != self._peer_next:
            raise WireViolation("bytes for a stream that is not open")
        if len(self._streams) - len(self._opened) >= STREAMS_PER_LINK_MAX:
            raise WireViolation("more streams than a link may have")
        self._peer_next += 2
        stream = self._streams[number] = self._arrived[number] = TlsStream(self, number)
        self._news.notify()
        return stream

    def _known(self, number: int) -> TlsStream | None:
        """The stream, None when it is over here already and the frame is merely late."""
        stream = self._streams.get(number)
        own = (number ^ self._next) & 1 == 0
        if stream is None and not 0 < number < (self._next if own else self._peer_next):
            raise WireViolation("a frame for a stream that was never opened")
        return stream

    def _more_credit(self, number: int, amount: int) -> None:
        stream = self._known(number)
        if stream is None:
            return
        waits_for_credit = stream.pending is not None and not stream.credit
        stream.credit += amount
        if waits_for_credit and stream.credit:
            self.enqueue(stream)

    def _send_in_turn(self) -> None:
        while self._queue and not self.paused:
            stream = self._queue.popleft()
            size = min(len(stream.pending or b""), stream.credit, CHUNK_BYTES_MAX)
            if not size or stream.pending is None:
                continue  # Given up meanwhile, or back in the queue when credit comes.
            stream.credit -= size
            self.send_data(stream, stream.pending[:size])
            if stream.advance(size):
                self._queue.append(stream)

    def _beat(self) -> None:
        """Ask for a sign of life; give up a peer that gave none for some beats."""
        self._quiet = 0 if self._channel.heard else self._quiet + 1
        self._channel.heard = False
        if self._quiet >= QUIET_BEATS_MAX:
            self.end(LinkClosed(f"nothing arrived for {BEAT_S * QUIET_BEATS_MAX:g} s"))
            return
        self._timer = self._loop.call_later(BEAT_S, self._beat)
        if not self.paused:
            self._pings += 1
            self._pinged_at_s = time.perf_counter()
            self._channel.send(wire.PING, 0, self._pings.to_bytes(8, "big"))

    def _ponged(self, number: int) -> None:
        # An answer to an older ping, or made up, measures nothing.
        if number != self._pings or not self._pinged_at_s:
            return
        # The loop's own clock stands still within a turn, which is all that a LAN needs.
        took_s = time.perf_counter() - self._pinged_at_s
        self._pinged_at_s = 0.0
        before = took_s if self.rtt_s is None else self.rtt_s
        self.rtt_s = before + (took_s - before) * _RTT_WEIGHT


class _Signal:
    """Wakes everybody who waits; the waiter looks again for itself."""

    def __init__(self) -> None:
        self._event = anyio.Event()

    def notify(self) -> None:
        self._event.set()
        self._event = anyio.Event()

    async def wait(self) -> None:
        await self._event.wait()
