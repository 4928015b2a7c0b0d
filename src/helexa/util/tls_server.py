"""TLS for a server's sockets: a pair that can change while it serves, and its handshakes.

    async with TlsServer.running(files, name="gateway") as tls:
        async with serving(app, sockets, limits, ..., tls=tls):
            ...

New files are taken when they stand still, or at `reread`. Connections go on with what
they began with. A pair that cannot serve changes nothing but `fault`.
"""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, Self

import anyio
from anyio import to_thread

from helexa.util.background import background
from helexa.util.tls_pair import TlsFiles, TlsPair, TlsUnusable, read_pair

log = logging.getLogger(__name__)

LOOK_EVERY_S: Final = 2.0
ENDS_SOON_S: Final = 14 * 86_400.0


class TlsServer:
    """Made by `running`."""

    def __init__(self, files: TlsFiles, name: str) -> None:
        """Raises TlsUnusable."""
        self.files = files
        self.name = name
        """Of what is served, for the log."""
        self.fault = ""
        """Why the files as they are now are not what is served; empty when they are."""
        self._read = self._seen = files.stamp()
        self.pair: TlsPair = read_pair(files)
        self._wanted = anyio.Event()
        self._read_again = anyio.Event()
        self._tell()

    @classmethod
    @asynccontextmanager
    async def running(
        cls, files: TlsFiles, *, name: str, every_s: float = LOOK_EVERY_S
    ) -> AsyncIterator[Self]:
        """Raises TlsUnusable."""
        tls = cls(files, name)
        async with background() as tasks:
            tasks.start_soon(tls._follow, every_s)
            yield tls

    @property
    def context(self) -> ssl.SSLContext:
        """For the next handshake."""
        return self.pair.context

    def reread(self) -> None:
        """Take the files as they are now, soon."""
        self._wanted.set()

    async def read_again(self) -> None:
        """Return when the files were read the next time, whatever came of it."""
        await self._read_again.wait()

    async def _follow(self, every_s: float) -> None:
        while True:
            asked = False
            with anyio.move_on_after(every_s):
                await self._wanted.wait()
                asked = True
            self._wanted = anyio.Event()
            stamp = await to_thread.run_sync(self.files.stamp)
            # Two files are never written in one step: they count when they stand still.
            still, self._seen = stamp == self._seen, stamp
            if asked or (still and stamp != self._read):
                self._read = stamp
                await self._take()

    async def _take(self) -> None:
        try:
            self.pair = await to_thread.run_sync(read_pair, self.files)
        except TlsUnusable as error:
            self.fault = str(error)
            log.warning("%s: the new certificate is not taken: %s", self.name, error)
        else:
            self.fault = ""
            log.info("%s: the certificate was read again", self.name)
            self._tell()
        self._read_again.set()
        self._read_again = anyio.Event()

    def _tell(self) -> None:
        left_s = self.pair.valid_until_s - time.time()
        if left_s <= ENDS_SOON_S:
            words = "expired" if left_s <= 0 else "will expire"
            day = time.strftime("%Y-%m-%d", time.gmtime(self.pair.valid_until_s))
            log.warning("%s: %s %s on %s", self.name, self.files.certificate, words, day)
