"""What one connection of a server says of both directions of its transport."""

from __future__ import annotations

import asyncio


class FlowControl:
    def __init__(self, transport: asyncio.Transport) -> None:
        self.write_paused = False
        self._transport = transport
        self._read_paused = False
        self._writable: asyncio.Future[None] | None = None

    async def drain(self) -> None:
        """Wait until what was written has left, nearly."""
        while self.write_paused:
            if self._writable is None:
                self._writable = asyncio.get_running_loop().create_future()
            # Shielded, because others may wait for the same.
            await asyncio.shield(self._writable)

    def pause_reading(self) -> None:
        if not self._read_paused:
            self._read_paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self._read_paused:
            self._read_paused = False
            self._transport.resume_reading()

    def pause_writing(self) -> None:
        self.write_paused = True

    def resume_writing(self) -> None:
        self.write_paused = False
        if self._writable is not None:
            self._writable.set_result(None)
            self._writable = None
