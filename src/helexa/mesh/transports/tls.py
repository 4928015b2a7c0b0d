"""The mesh over TCP with TLS 1.3: for one network, one data centre, and machines without iroh.

One connection a link, with all its streams, so that a node that dialled out of
a private network is called back over the connection it made, and opening a
stream costs nothing. Credit for each stream keeps a slow reader from holding up
the others. Nothing but keys is trusted: see `_tls_proof`.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from typing import Final
from weakref import WeakSet

import anyio

from helexa.mesh.identity import NodeKey
from helexa.mesh.transport import DialFailed, Link, LinkClosed, Transport, TransportSettings
from helexa.mesh.transports import _tls_wire as wire
from helexa.mesh.transports._addresses import dialable, is_wildcard, numeric
from helexa.mesh.transports._tls_channel import INBOX_BYTES, PART_S, Channel
from helexa.mesh.transports._tls_dial import Dialler
from helexa.mesh.transports._tls_door import Door
from helexa.mesh.transports._tls_link import TlsLink
from helexa.protocol.ids import NodeId
from helexa.util.background import background
from helexa.util.sockets import Address, AddressTaken, listen_tcp

ACCEPTED_WAITING_MAX: Final = 64
_BUSY: Final = 2


class TlsTransport:
    """Made by `open_transport`."""

    name = "tls"

    def __init__(self, key: NodeKey, listeners: Sequence[socket.socket]) -> None:
        # For all connections: each uses it up within one callback.
        inbox = memoryview(bytearray(INBOX_BYTES))
        self.door = Door(key, inbox, self._admit)
        self._dialler = Dialler(key, inbox, self._begin_dialled)
        self._bound = [_bound(listener) for listener in listeners]
        self._links: set[TlsLink] = set()
        self._channels: WeakSet[Channel] = WeakSet()
        """Also those whose link ended, while the peer takes leave."""
        self._stopped = False
        self._inbox, self._accepted = anyio.create_memory_object_stream[TlsLink](
            ACCEPTED_WAITING_MAX
        )

    @property
    def bound(self) -> Address:
        """What was asked for, with the real port; a wildcard listens in the other family too."""
        return self._bound[0]

    @property
    def addresses(self) -> Sequence[str]:
        """`IP:PORT` of each interface behind what it listens on, loopback last."""
        return tuple(dialable(self._bound))

    @property
    def refused(self) -> int:
        """Inbound handshakes that were refused since the transport was opened, a count."""
        return self.door.refused

    async def dial(self, peer: NodeId, addresses: Sequence[str], *, timeout_s: float) -> Link:
        """A link with `peer` at the first of `addresses` (IPs, 16 at most) where its key answers.

        Raises DialFailed within `timeout_s`, with the reason of each address.
        """
        if self._stopped:
            raise DialFailed("this node stopped")
        return await self._dialler.dial(peer, addresses, timeout_s=timeout_s)

    async def accept(self) -> Link:
        """The next link whose client has proven its id. Raises LinkClosed when the node stops."""
        try:
            return await self._accepted.receive()
        except (anyio.EndOfStream, anyio.ClosedResourceError):
            raise LinkClosed("this node stopped") from None

    async def stop(self) -> None:
        """End every link with a word to its peer; return when their sockets are closed."""
        self._stopped = True
        self._inbox.close()
        self._accepted.close()
        farewell = wire.close_body(0, "the node stopped")
        for link in tuple(self._links):
            link.end(LinkClosed("this node stopped", 0), farewell)
        with anyio.CancelScope(shield=True):
            # Each is cut at PART_S by itself, and gone a moment later.
            with anyio.move_on_after(2 * PART_S):
                for channel in tuple(self._channels):
                    await channel.gone.wait()

    def _admit(self, channel: Channel, peer: NodeId) -> None:
        link = self._begin(channel, peer, dialled=False)
        channel.send(wire.WELCOME)
        try:
            self._inbox.send_nowait(link)
        except (anyio.WouldBlock, anyio.ClosedResourceError):
            reason = "too many links wait to be accepted"
            link.end(LinkClosed(reason, _BUSY), wire.close_body(_BUSY, reason))

    def _begin_dialled(self, channel: Channel, peer: NodeId) -> TlsLink:
        return self._begin(channel, peer, dialled=True)

    def _begin(self, channel: Channel, peer: NodeId, *, dialled: bool) -> TlsLink:
        link = TlsLink(channel, peer, dialled=dialled, on_end=self._links.discard)
        channel.sink = link
        self._links.add(link)
        self._channels.add(channel)
        if self._stopped:
            link.end(LinkClosed("this node stopped", 0))
        return link


@asynccontextmanager
async def open_transport(key: NodeKey, settings: TransportSettings) -> AsyncIterator[Transport]:
    """See `helexa.mesh.transport.OpenTransport`; relays are for others and left alone here.

    Raises AddressTaken. On leaving, every link's peer is told, for a second at most.
    """
    bind = await numeric(settings.bind, socket.SOCK_STREAM)
    with ExitStack() as listening:
        listeners = [listening.enter_context(each) for each in _listen(bind)]
        async with background() as tasks:
            transport = TlsTransport(key, listeners)
            for listener in listeners:
                tasks.start_soon(transport.door.receive, listener, tasks)
            try:
                yield transport
            finally:
                tasks.cancel_scope.cancel()
                await transport.stop()


def _listen(bind: Address) -> list[socket.socket]:
    """One listener, or one for each IP family where `bind` is a wildcard."""
    first = listen_tcp(bind, v6_only=True)
    listeners = [first]
    if is_wildcard(bind):
        other = Address("0.0.0.0" if ":" in bind.host else "::", _bound(first).port)
        # A machine without that family, or somebody else's port there: one is enough.
        with suppress(AddressTaken):
            listeners.append(listen_tcp(other, v6_only=True))
    return listeners


def _bound(listener: socket.socket) -> Address:
    host, port = listener.getsockname()[:2]
    return Address(str(host), int(port))
