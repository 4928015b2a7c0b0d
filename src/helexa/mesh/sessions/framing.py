"""Frames on a mesh stream: reading them one by one, and streams that begin with one."""

from __future__ import annotations

from helexa.mesh.transport import READ_BYTES_MAX, Stream
from helexa.protocol.frames import LENGTH_BYTES, FrameRejected, decode, length_of
from helexa.protocol.messages import ExecuteRequest


class FrameReader:
    """Cuts a stream into frames. Holds at most one frame and one read's worth beyond it."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._buffer = bytearray()
        self.bytes_read = 0
        """Grows with every arriving byte: a peer that sends half a frame is still alive."""

    async def next(self) -> bytes | None:
        """What follows the length prefix of the next frame, or None at the end of the stream.

        Raises FrameRejected for a length that no frame has, and for a stream
        that ends inside a frame: after either the stream is of no more use.
        Cancelled, it loses nothing.
        """
        while True:
            if len(self._buffer) >= LENGTH_BYTES:
                length = length_of(bytes(self._buffer[:LENGTH_BYTES]))
                end = LENGTH_BYTES + length
                if len(self._buffer) >= end:
                    payload = bytes(self._buffer[LENGTH_BYTES:end])
                    del self._buffer[:end]
                    return payload
            chunk = await self._stream.read()
            if not chunk:
                if self._buffer:
                    raise FrameRejected(f"the stream ends {len(self._buffer)} bytes into a frame")
                return None
            self.bytes_read += len(chunk)
            self._buffer += chunk

    def rest(self) -> bytes:
        """What was read beyond the last frame; handed over once."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        return rest


class OpenedStream:
    """A stream whose first frame is sent together with the caller's first bytes.

    A write costs the transport the same however small it is, so the frame does
    not get one of its own unless the caller reads first.
    """

    def __init__(self, stream: Stream, opening: bytes) -> None:
        self._stream = stream
        self._opening = opening

    async def read(self, bytes_max: int = READ_BYTES_MAX) -> bytes:
        if self._opening:
            await self.write(b"")
        return await self._stream.read(bytes_max)

    async def write(self, data: bytes) -> None:
        opening, self._opening = self._opening, b""
        await self._stream.write(opening + data if opening else data)

    async def finish(self) -> None:
        if self._opening:
            await self.write(b"")
        await self._stream.finish()

    def abort(self) -> None:
        self._stream.abort()


class ResumedStream:
    """A stream whose first bytes were read already, while its first frame was."""

    def __init__(self, stream: Stream, rest: bytes) -> None:
        self._stream = stream
        self._rest = rest

    async def read(self, bytes_max: int = READ_BYTES_MAX) -> bytes:
        if self._rest:
            chunk, self._rest = self._rest[:bytes_max], self._rest[bytes_max:]
            return chunk
        return await self._stream.read(bytes_max)

    async def write(self, data: bytes) -> None:
        await self._stream.write(data)

    async def finish(self) -> None:
        await self._stream.finish()

    def abort(self) -> None:
        self._stream.abort()


async def read_opening(stream: Stream, version: int) -> tuple[ExecuteRequest, Stream] | None:
    """The frame that a data stream begins with, and the bytes after it as a stream.

    None for a stream that ended without a word: what a cancelled `open_stream`
    may leave. Raises FrameRejected, TagUnknown, StreamReset, LinkClosed.
    """
    reader = FrameReader(stream)
    payload = await reader.next()
    if payload is None:
        return None
    request = decode(payload, version=version).body
    if not isinstance(request, ExecuteRequest):
        raise FrameRejected(f"a data stream that begins with {type(request).__name__}")
    rest = reader.rest()
    return request, ResumedStream(stream, rest) if rest else stream
