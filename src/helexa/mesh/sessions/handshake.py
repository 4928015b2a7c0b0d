"""How two nodes begin: one stream, one Hello each way, one version or a reason why not.

The side that dialled opens the stream, because a transport shows a stream to
the far side only when something was written to it. Both Hellos are framed in
version 0, which never changes, so even builds with no version in common can
tell each other so.
"""

from __future__ import annotations

import enum
from typing import Final, NamedTuple

import anyio

from helexa.mesh.sessions.framing import FrameReader
from helexa.mesh.transport import Link, LinkClosed, Stream, StreamReset
from helexa.protocol.frames import (
    HANDSHAKE_VERSION,
    Frame,
    FrameRejected,
    TagUnknown,
    decode,
    encode,
)
from helexa.protocol.messages import Hello
from helexa.protocol.version import VersionRange, agree

HANDSHAKE_S: Final = 5.0
_HELLO_ID: Final = 1


class CloseCode(enum.IntEnum):
    """What a link's close code says to the peer. Never renumbered."""

    NORMAL = 0
    VERSION_MISMATCH = 1
    BUSY = 2
    HANDSHAKE_FAILED = 3
    FRAMES_REJECTED = 4
    SILENT = 5
    STALLED = 6
    INTERNAL = 7
    DENIED = 8
    """Not let in, and nothing more is said."""
    PENDING = 9
    """Not let in before this node's operator was asked; dial again later."""


class HandshakeFailed(Exception):
    """The peer is who it should be but did not begin as a helexa node does."""


class VersionMismatch(HandshakeFailed):
    """No protocol version is spoken by both sides; the text names both ranges."""


class Greeting(NamedTuple):
    stream: Stream
    """The control stream, ready for frames of `version`."""
    reader: FrameReader
    hello: Hello
    """What the peer said of itself."""
    version: int


async def shake_hands(link: Link, hello: Hello, *, timeout_s: float = HANDSHAKE_S) -> Greeting:
    """Exchange Hellos and agree on a version.

    Raises HandshakeFailed, VersionMismatch or LinkClosed, the link closed with
    the reason, within `timeout_s`.
    """
    try:
        with anyio.fail_after(timeout_s):
            stream, reader, theirs = await _exchange(link, hello)
    except TimeoutError:
        raise await _fail(link, f"no Hello within {timeout_s:g} s") from None
    except (FrameRejected, TagUnknown, StreamReset) as error:
        raise await _fail(link, f"no Hello came first: {error}") from error
    except LinkClosed as closed:
        if closed.code == CloseCode.VERSION_MISMATCH:
            raise VersionMismatch(f"the peer refused: {closed.reason}") from None
        raise
    ours = VersionRange(hello.lowest, hello.highest)
    peers = VersionRange(theirs.lowest, theirs.highest)
    version = agree(ours, peers)
    if version is None:
        reason = f"no common protocol version: {ours} is spoken here, {peers} there"
        await link.close(CloseCode.VERSION_MISMATCH, reason)
        raise VersionMismatch(reason)
    return Greeting(stream, reader, theirs, version)


async def _exchange(link: Link, hello: Hello) -> tuple[Stream, FrameReader, Hello]:
    stream = await (link.open_stream() if link.dialled else link.accept_stream())
    reader = FrameReader(stream)
    mine = encode(Frame(_HELLO_ID, 0, hello), version=HANDSHAKE_VERSION)
    if link.dialled:
        await stream.write(mine)
    payload = await reader.next()
    if payload is None:
        raise FrameRejected("the stream ended")
    theirs = decode(payload, version=HANDSHAKE_VERSION).body
    if not isinstance(theirs, Hello):
        raise FrameRejected(f"a {type(theirs).__name__} came instead")
    if not link.dialled:
        await stream.write(mine)
    return stream, reader, theirs


async def _fail(link: Link, reason: str) -> HandshakeFailed:
    await link.close(CloseCode.HANDSHAKE_FAILED, reason)
    return HandshakeFailed(reason)
