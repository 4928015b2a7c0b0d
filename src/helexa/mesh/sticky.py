"""A node that was given port 0 comes back on the port it had, so that its tickets stay good."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

from helexa.mesh.identity import NodeKey
from helexa.mesh.transport import OpenTransport, Transport, TransportSettings
from helexa.util.sockets import Address, AddressTaken


def sticky_port(open_transport: OpenTransport, path: Path) -> OpenTransport:
    """`open_transport`, where port 0 means the port noted in `path` as long as that is free."""

    @asynccontextmanager
    async def opened(key: NodeKey, settings: TransportSettings) -> AsyncIterator[Transport]:
        async with AsyncExitStack() as stack:
            transport: Transport | None = None
            wanted = remembered_port(path, settings.bind)
            if wanted != settings.bind:
                # Taken by somebody else meanwhile: an address that changes beats a
                # node that does not start.
                with suppress(AddressTaken):
                    transport = await stack.enter_async_context(
                        open_transport(key, replace(settings, bind=wanted))
                    )
            if transport is None:
                transport = await stack.enter_async_context(open_transport(key, settings))
            if settings.bind.port == 0:
                _note(path, transport.bound.port)
            yield transport

    return opened


def remembered_port(path: Path, bind: Address) -> Address:
    """`bind` with the port noted in `path`, where it names none and one is noted."""
    if bind.port:
        return bind
    try:
        port = int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return bind
    return bind.with_port(port) if 0 < port <= 65535 else bind


def _note(path: Path, port: int) -> None:
    # Half a note reads as another port at worst, and the next start takes a free one.
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.write_text(f"{port}\n", encoding="ascii")
