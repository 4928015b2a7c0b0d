"""The one writer of a stream: frames from many tasks, written whole and together.

A cancelled write aborts its stream, so whoever wants to be cancellable hands
the frame over and lets the writer write. What waits meanwhile goes out in one
write, because each costs the transport the same however small it is.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final

import anyio

from helexa.mesh.transport import LinkClosed, Stream, StreamReset

FRAMES_WAITING_MAX: Final = 256
WRITE_BYTES_MAX: Final = 1 << 18


class Outbox:
    """At most FRAMES_WAITING_MAX frames wait in it."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._post, self._frames = anyio.create_memory_object_stream[bytes](FRAMES_WAITING_MAX)
        self.frames_sent = 0
        self.bytes_sent = 0

    async def put(self, frame: bytes) -> bool:
        """Wait for room; False when nothing is sent any more."""
        try:
            await self._post.send(frame)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            return False
        return True

    def put_or_drop(self, frame: bytes) -> None:
        """For answers to the peer's own traffic: one that reads nothing gets none."""
        with suppress(anyio.WouldBlock, anyio.BrokenResourceError, anyio.ClosedResourceError):
            self._post.send_nowait(frame)

    def close(self) -> None:
        """No more frames; those that wait are still written, and then the end of the stream."""
        self._post.close()

    async def drain(self, stall_s: float) -> bool:
        """Write until closed. False when the peer read nothing for `stall_s`."""
        with self._frames, suppress(LinkClosed, StreamReset):
            async for frame in self._frames:
                batch = self._batch(frame)
                with anyio.move_on_after(stall_s) as patience:
                    await self._stream.write(joined := b"".join(batch))
                if patience.cancelled_caught:
                    return False
                self.frames_sent += len(batch)
                self.bytes_sent += len(joined)
            await self._stream.finish()
        return True

    def _batch(self, first: bytes) -> list[bytes]:
        batch, size = [first], len(first)
        with suppress(anyio.WouldBlock, anyio.EndOfStream):
            while size < WRITE_BYTES_MAX:
                batch.append(self._frames.receive_nowait())
                size += len(batch[-1])
        return batch
