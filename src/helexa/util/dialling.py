"""The ways to open a connection to an HTTP server: TCP with or without TLS, a Unix socket, or
any byte stream.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

import anyio.abc

from helexa.util.byte_streams import ByteStream, StreamTransport


class DialFailed(Exception):
    """No connection; says why, for logs."""


class Dial(Protocol):
    @property
    def label(self) -> str:
        """What logs call the place."""
        ...

    @property
    def authority(self) -> str:
        """The value of the Host header."""
        ...

    @property
    def reusable(self) -> bool:
        """Whether a connection may carry a second request."""
        ...

    async def dial(self, protocol: asyncio.Protocol, tasks: anyio.abc.TaskGroup) -> None:
        """Return when `protocol.connection_made` was called. Raises DialFailed."""
        ...


@dataclass(frozen=True, slots=True)
class Tcp:
    host: str
    port: int
    tls: ssl.SSLContext | None = None
    server_name: str | None = None
    """What the certificate must name, where it is not `host`."""

    reusable = True

    @property
    def label(self) -> str:
        return f"{self._name}:{self.port}"

    @property
    def authority(self) -> str:
        # Some of the world's servers know themselves by their bare name only.
        return self._name if self.port == (443 if self.tls else 80) else self.label

    @property
    def _name(self) -> str:
        return f"[{self.host}]" if ":" in self.host else self.host

    async def dial(self, protocol: asyncio.Protocol, tasks: anyio.abc.TaskGroup) -> None:
        del tasks
        try:
            transport, _ = await asyncio.get_running_loop().create_connection(
                lambda: protocol,
                self.host,
                self.port,
                ssl=self.tls,
                server_hostname=(self.server_name or self.host) if self.tls else None,
            )
        except OSError as error:
            raise DialFailed(f"{self.label}: {error}") from error
        # Delayed acknowledgements held a first chunk back by 22 ms where a peer forgot this.
        if (raw := transport.get_extra_info("socket")) is not None:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


@dataclass(frozen=True, slots=True)
class Unix:
    path: str

    reusable = True
    authority = "localhost"

    @property
    def label(self) -> str:
        return f"unix:{self.path}"

    async def dial(self, protocol: asyncio.Protocol, tasks: anyio.abc.TaskGroup) -> None:
        del tasks
        try:
            await asyncio.get_running_loop().create_unix_connection(lambda: protocol, self.path)
        except OSError as error:
            raise DialFailed(f"{self.label}: {error}") from error


@dataclass(frozen=True, slots=True)
class Streams:
    """One request on each stream: opening one is cheap, and its end tells the far side."""

    open: Callable[[], Awaitable[ByteStream]]
    label: str = "stream"

    reusable = False
    authority = "localhost"

    async def dial(self, protocol: asyncio.Protocol, tasks: anyio.abc.TaskGroup) -> None:
        try:
            stream = await self.open()
        except Exception as error:
            # Whose exceptions these are is the caller's secret; to a pool they mean one thing.
            raise DialFailed(f"{self.label}: {error}") from error
        tasks.start_soon(StreamTransport(stream, protocol).run)
