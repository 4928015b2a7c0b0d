"""One stream of a `tls` link: its buffers, its credit, and how each direction ends.

A direction is over once its sender said FIN or RESET. The link forgets a stream
when both are over; since frames arrive in order, both ends then agree on how
many streams there are. The peer may send what it has credit for, and gets more
as bytes are read here, so a reader that sleeps costs its window and holds up
nobody else.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final, Protocol

import anyio

from helexa.mesh.transport import READ_BYTES_MAX, StreamReset
from helexa.mesh.transports._tls_wire import (
    CHUNK_BYTES_MAX,
    CREDIT,
    FIN,
    RESET,
    STOP,
    WireViolation,
)

WINDOW_BYTES_MIN: Final = 1 << 17
"""What a peer may send unasked; for all streams of a link together 128 MiB."""
WINDOW_BYTES_MAX: Final = 1 << 19
"""A window grows to this as it is read: 500 MB/s at 1 ms, 5 MB/s at 100 ms."""

_GIVEN_UP_THERE: Final = "the far side gave up the stream"


class Mux(Protocol):
    """What a stream needs of its link."""

    @property
    def paused(self) -> bool: ...

    def check(self) -> None:
        """Raises LinkClosed when the link ended."""
        ...

    def send_data(self, stream: TlsStream, chunk: bytes | memoryview) -> None: ...

    def enqueue(self, stream: TlsStream) -> None:
        """Send the stream's `pending` as credit and the connection allow."""
        ...

    def send(self, kind: int, stream: TlsStream, body: bytes = b"") -> None: ...

    def borrow(self, count: int) -> bool:
        """Whether a window may grow by `count`; given back when the stream is forgotten."""
        ...

    def forget(self, stream: TlsStream) -> None:
        """Both directions are over."""
        ...


class TlsStream:
    """`number` is 0 while the peer does not know of a stream that was opened here."""

    __slots__ = (
        "_aborted",
        "_allowance",
        "_at",
        "_chunks",
        "_finished",
        "_in_over",
        "_in_reset",
        "_mux",
        "_out_over",
        "_reader",
        "_stopped",
        "_unreported",
        "_window",
        "_writer",
        "accepted",
        "credit",
        "number",
        "pending",
    )

    def __init__(self, mux: Mux, number: int = 0) -> None:
        self.number = number
        self.accepted = number == 0
        """Whether somebody here has it; before that, nobody here answers for it either."""
        self.credit = WINDOW_BYTES_MIN
        self.pending: memoryview | None = None
        """What the write in progress has still to send."""
        self._mux = mux
        self._chunks: deque[bytes] = deque()
        self._at = 0
        """How much of the first chunk was read."""
        self._allowance = self._window = WINDOW_BYTES_MIN
        self._unreported = 0
        self._in_over = self._in_reset = self._out_over = False
        self._finished = self._aborted = self._stopped = False
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[bool] | None = None
        """Its result says whether all of `pending` was sent."""

    # --- the contract

    async def read(self, bytes_max: int = READ_BYTES_MAX) -> bytes:
        while True:
            self._mux.check()
            if self._in_reset:
                raise StreamReset("given up on this side" if self._aborted else _GIVEN_UP_THERE)
            if self._chunks:
                return self._take(bytes_max)
            if self._in_over:
                return b""
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None

    async def write(self, data: bytes) -> None:
        self._may_write()
        size = len(data)
        if not size:
            return
        if size <= self.credit and size <= CHUNK_BYTES_MAX and not self._mux.paused:
            self.credit -= size
            self._mux.send_data(self, data)
            return
        self.pending = memoryview(data)
        self._writer = asyncio.get_running_loop().create_future()
        try:
            self._mux.enqueue(self)
            if not await self._writer:
                self._may_write()
                raise StreamReset(_GIVEN_UP_THERE)
        except anyio.get_cancelled_exc_class():
            self.abort()
            raise
        finally:
            self.pending = self._writer = None

    async def finish(self) -> None:
        if self._finished or self._aborted:
            return
        self._mux.check()
        self._finished = True
        self._end_out(FIN)

    def abort(self) -> None:
        if self._aborted:
            return
        self._aborted = True
        # What was read to its end stays at its end; the rest is lost.
        self._in_reset = self._in_reset or not self._in_over or bool(self._chunks)
        self._chunks.clear()
        self.wake()
        if not self.number:
            self._in_over = self._out_over = True
            self._mux.forget(self)
            return
        if not self._in_over:
            self._mux.send(STOP, self)
        self._end_out(RESET)

    # --- what the link tells

    @property
    def borrowed(self) -> int:
        return self._window - WINDOW_BYTES_MIN

    @property
    def over(self) -> bool:
        return self._in_over and self._out_over

    def arrive(self, piece: bytes) -> None:
        self._allowance -= len(piece)
        if self._in_over or self._allowance < 0:
            raise WireViolation("bytes beyond a stream's end or its credit")
        if self._aborted:
            return
        self._chunks.append(piece)
        self._wake_reader()

    def finished_there(self) -> None:
        self._end_in()

    def reset_there(self) -> None:
        self._in_reset = True
        self._chunks.clear()
        self._end_in()
        self._answer_stop()

    def stopped_there(self) -> None:
        self._stopped = True
        self._fail_write()
        self._answer_stop()

    def accept(self) -> None:
        """Somebody here has it now."""
        self.accepted = True
        self._answer_stop()

    def advance(self, count: int) -> bool:
        """So much of `pending` was sent. Whether more may go now."""
        assert self.pending is not None
        self.pending = self.pending[count:] or None
        if self.pending is None and self._writer is not None and not self._writer.done():
            self._writer.set_result(True)
        return self.pending is not None and self.credit > 0

    def wake(self) -> None:
        """Whoever waits looks again, and finds what changed."""
        self._wake_reader()
        self._fail_write()

    # --- details

    def _may_write(self) -> None:
        self._mux.check()
        if self._aborted:
            raise StreamReset("given up on this side")
        if self._finished:
            raise StreamReset("written to after finish")
        if self._stopped:
            raise StreamReset(_GIVEN_UP_THERE)

    def _take(self, bytes_max: int) -> bytes:
        first = self._chunks[0]
        if self._at or len(first) > bytes_max:
            piece = first[self._at : self._at + bytes_max]
            self._at += len(piece)
            if self._at == len(first):
                self._chunks.popleft()
                self._at = 0
        else:
            piece = self._chunks.popleft()
        if not self._in_over:
            self._report(len(piece))
        return piece

    def _report(self, count: int) -> None:
        """Give credit back by the quarter window; a window that is read may grow."""
        self._unreported += count
        if self._unreported * 4 < self._window:
            return
        amount, self._unreported = self._unreported, 0
        if self._window < WINDOW_BYTES_MAX and self._mux.borrow(self._window):
            amount += self._window
            self._window *= 2
        self._allowance += amount
        self._mux.send(CREDIT, self, amount.to_bytes(4, "big"))

    def _answer_stop(self) -> None:
        # Not before somebody has the stream: the peer counts it as open until then,
        # and so cannot make this side hold more of them than the bound. One that was
        # given up altogether is nobody's.
        if self._stopped and (self.accepted or self._in_reset):
            self._end_out(RESET)

    def _end_in(self) -> None:
        if self._in_over:
            raise WireViolation("a stream that ends twice")
        self._in_over = True
        self._wake_reader()
        if self._out_over:
            self._mux.forget(self)

    def _end_out(self, kind: int) -> None:
        if self._out_over:
            return
        self._out_over = True
        self._mux.send(kind, self)
        if self._in_over:
            self._mux.forget(self)

    def _wake_reader(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def _fail_write(self) -> None:
        self.pending = None
        if self._writer is not None and not self._writer.done():
            self._writer.set_result(False)
