"""A node that was given port 0 comes back on the port it had, so that its tickets stay good.

One note serves all transports of a node: those over TCP and those over UDP then
share a number, and an operator has one to let through a firewall.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from helexa.mesh.identity import NodeKey
from helexa.mesh.transport import OpenTransport, Transport, TransportSettings
from helexa.util.sockets import Address, AddressTaken, listen_tcp

PORTS_TRIED_MAX: Final = 16
"""UDP holds few ports on most machines: the first is free for both nearly always."""


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


def note_shared_port(path: Path, bind: Address) -> Address:
    """`bind` on a port that TCP and UDP can both listen on, noted in `path`; port 0 alone changes.

    Call it before transports are opened by `sticky_port` with that path: they
    find the note. The port noted before is kept while it is free for both. It
    is free now, not reserved: who loses it to somebody else takes another, as
    ever. Where no port is found, `bind` comes back and each transport finds its
    own. Opens and closes sockets; raises nothing but what writing `path` raises.
    """
    if bind.port:
        return bind
    noted = remembered_port(path, bind)
    if noted.port and _free_for_both(noted) is not None:
        return noted
    for _ in range(PORTS_TRIED_MAX):
        port = _free_for_both(bind)
        if port is not None:
            _note(path, port)
            return bind.with_port(port)
    return bind


def remembered_port(path: Path, bind: Address) -> Address:
    """`bind` with the port noted in `path`, where it names none and one is noted."""
    if bind.port:
        return bind
    try:
        port = int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return bind
    return bind.with_port(port) if 0 < port <= 65535 else bind


def _free_for_both(address: Address) -> int | None:
    """The port, or the one that the system chose for 0, if both can listen there."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        with (
            listen_tcp(address, v6_only=True) as tcp,
            socket.socket(family, socket.SOCK_DGRAM) as udp,
        ):
            port = int(tcp.getsockname()[1])
            udp.bind((address.host, port))
            return port
    except (OSError, AddressTaken):
        return None


def _note(path: Path, port: int) -> None:
    # Half a note reads as another port at worst, and the next start takes a free one.
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.write_text(f"{port}\n", encoding="ascii")
