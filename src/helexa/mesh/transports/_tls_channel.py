"""One TLS connection as frames: what is left of it when TLS and sockets are taken away.

Whoever acts on the frames is the channel's `sink`: the handshake first, the link
after it. Reading is never paused, since what may arrive is bounded by credit and
small frames; writing of stream bytes heeds `paused`, and small frames beside it
may pile up only so far.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from typing import Final, Protocol, cast

import anyio

from helexa.mesh.transports._tls_wire import CLOSE, DATA, Decoder, Sink, WireViolation, frame

log = logging.getLogger(__name__)

INBOX_BYTES: Final = 1 << 18
"""What uvloop takes from a socket at once."""
WRITE_BUFFER_BYTES: Final = 1 << 17
"""Beyond it streams wait. Short, because what is in it goes out before any other stream's bytes."""
SMALL_FRAMES_BYTES_MAX: Final = 1 << 20
"""Answers owed to a peer that reads nothing; more than that is no slow network."""
PART_S: Final = 0.5
"""How long a peer has to take the farewell before the connection is cut."""


class Listener(Sink, Protocol):
    def on_open(self) -> None:
        """The TLS handshake is done."""
        ...

    def on_writable(self) -> None:
        """What was held up by `paused` may go on."""
        ...

    def on_violation(self, what: str) -> None: ...

    def on_lost(self, why: str) -> None:
        """The connection is gone; nothing else will come."""
        ...


class Channel(asyncio.BufferedProtocol):
    """`inbox` may be shared by all channels of a loop: it is used up before a callback returns."""

    def __init__(self, inbox: memoryview) -> None:
        self.sink: Listener = _DEAF
        self.paused = False
        self.heard = False
        """Whether anything arrived since somebody last cleared this."""
        self.remote_address = ""
        self.gone = anyio.Event()
        self._inbox = inbox
        self._decoder = Decoder()
        self._transport: asyncio.Transport | None = None
        self._cut: asyncio.TimerHandle | None = None

    # --- what the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        peer = transport.get_extra_info("peername")
        if peer:
            host, port = peer[:2]
            self.remote_address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self.sink.on_open()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  # The same for any size.
        return self._inbox

    def buffer_updated(self, nbytes: int) -> None:
        self.heard = True
        try:
            self._decoder.feed(self._inbox[:nbytes], self)
        except WireViolation as broken:
            self.sink.on_violation(str(broken))
        except Exception:
            # The edge towards the loop, which would log it as a fault of its own.
            log.exception("the tls transport failed at a frame", extra={"at": self.remote_address})
            self.abort()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._cut is not None:
            self._cut.cancel()
        self.gone.set()
        self.sink.on_lost(_why_lost(exc))

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        self.sink.on_writable()

    # --- frames in, on to whoever is the sink at that very frame

    def on_data(self, stream: int, piece: bytes) -> None:
        self.sink.on_data(stream, piece)

    def on_frame(self, kind: int, stream: int, body: bytes) -> None:
        if self._cut is not None and kind == CLOSE:
            # Both said farewell at once, and each would wait for the other to hang up.
            self.abort()
            return
        self.sink.on_frame(kind, stream, body)

    # --- frames out

    @property
    def tls(self) -> ssl.SSLObject | None:
        return None if self._transport is None else self._transport.get_extra_info("ssl_object")

    def send_data(self, stream: int, chunk: bytes | memoryview) -> None:
        """At most CHUNK_BYTES_MAX, and not while `paused`."""
        if self._transport is not None:
            self._transport.write(frame(DATA, stream, chunk))

    def send(self, kind: int, stream: int = 0, body: bytes = b"") -> None:
        transport = self._transport
        if transport is None:
            return
        transport.write(frame(kind, stream, body))
        if self.paused and transport.get_write_buffer_size() > SMALL_FRAMES_BYTES_MAX:
            self.abort()
            self.sink.on_lost("the peer does not read what it is sent")

    def part(self, farewell: bytes) -> None:
        """Say CLOSE with that body, and cut when the peer hung up, or PART_S later.

        The peer hangs up first: a socket closed over bytes that nobody read
        would take the farewell away from it.
        """
        self.sink = _DEAF
        if self._transport is None:
            return
        self._transport.write(frame(CLOSE, 0, farewell))
        self._cut = asyncio.get_running_loop().call_later(PART_S, self.abort)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()
            self._transport = None


class _Deaf:
    """The sink of a connection that is over: whatever still arrives is dropped."""

    def on_open(self) -> None:
        pass

    def on_writable(self) -> None:
        pass

    def on_violation(self, what: str) -> None:
        pass

    def on_lost(self, why: str) -> None:
        pass

    def on_data(self, stream: int, piece: bytes) -> None:
        pass

    def on_frame(self, kind: int, stream: int, body: bytes) -> None:
        pass


_DEAF: Final = _Deaf()


def deafen(channel: Channel) -> None:
    """Nobody acts any more on what this connection brings."""
    channel.sink = _DEAF


def _why_lost(error: Exception | None) -> str:
    if error is None:
        return "the peer hung up"
    text = error.strerror if isinstance(error, OSError) else None
    return f"the connection broke: {text or str(error) or type(error).__name__}"
