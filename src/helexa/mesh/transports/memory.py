"""A mesh inside one process, for tests and simulations: real contract, no sockets.

A `MemoryNetwork` is the world: transports opened on it reach one another by made-up
addresses. Buffers are bounded, writers wait, resets and closes arrive as with a
real network; what a real one does on purpose or by accident (a node that
vanishes without a word) is a method of the network.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import anyio
from anyio.abc import TaskGroup

from helexa.mesh.identity import NodeKey
from helexa.mesh.transport import DialFailed, Link, LinkClosed, Transport, TransportSettings
from helexa.mesh.transports._memory_link import MemoryLink
from helexa.protocol.ids import NodeId
from helexa.util.background import background
from helexa.util.sockets import Address, AddressTaken

ACCEPTED_WAITING_MAX: Final = 64
_BUSY: Final = 2
_FIRST_PORT: Final = 40_000


class MemoryNetwork:
    """`silence_s` is how long a link lives on after its far end vanished."""

    def __init__(self, *, silence_s: float = 1.0) -> None:
        self.silence_s = silence_s
        self._nodes: dict[str, MemoryTransport] = {}
        self._ports = itertools.count(_FIRST_PORT)

    @asynccontextmanager
    async def open_transport(
        self, key: NodeKey, settings: TransportSettings
    ) -> AsyncIterator[Transport]:
        """See `helexa.mesh.transport.OpenTransport`."""
        bound = settings.bind if settings.bind.port else settings.bind.with_port(next(self._ports))
        if str(bound) in self._nodes:
            raise AddressTaken(f"cannot listen on {bound} (memory): somebody else does")
        async with background() as tasks:
            transport = MemoryTransport(self, key.node_id, bound, tasks)
            self._nodes[str(bound)] = transport
            try:
                yield transport
            finally:
                if self._nodes.get(str(bound)) is transport:
                    del self._nodes[str(bound)]
                transport.stop()

    def vanish(self, transport: Transport) -> None:
        """As if its machine lost power: nobody hears another word from it."""
        assert isinstance(transport, MemoryTransport)
        self._nodes.pop(str(transport.bound), None)
        transport.vanish(self.silence_s)

    def hide(self, transport: Transport) -> None:
        """As if behind a router that lets nobody in: it dials and is called back, no more."""
        self._nodes.pop(str(transport.bound), None)

    def node_at(self, address: str) -> MemoryTransport | None:
        """Who listens at that made-up address."""
        return self._nodes.get(address)


class MemoryTransport:
    """Made by `MemoryNetwork.open_transport`."""

    name = "memory"

    def __init__(
        self, network: MemoryNetwork, node: NodeId, bound: Address, tasks: TaskGroup
    ) -> None:
        self.node = node
        self.bound = bound
        self._network = network
        self._tasks = tasks
        self._links: set[MemoryLink] = set()
        self._inbox, self._accepted = anyio.create_memory_object_stream[MemoryLink](
            ACCEPTED_WAITING_MAX
        )

    @property
    def addresses(self) -> Sequence[str]:
        return (str(self.bound),)

    async def dial(self, peer: NodeId, addresses: Sequence[str], *, timeout_s: float) -> Link:
        where = ", ".join(addresses)
        if not addresses:
            raise DialFailed("no address to dial")
        found = [node for text in addresses if (node := self._network.node_at(text)) is not None]
        target = next((node for node in found if node.node == peer), None)
        if target is not None:
            await anyio.lowlevel.checkpoint()
            return await target.admit(self)
        if found:
            raise DialFailed(f"the node at {where} holds another key than the one dialled")
        await anyio.sleep(timeout_s)
        raise DialFailed(f"no answer within {timeout_s:g} s from {where}")

    async def admit(self, dialler: MemoryTransport) -> MemoryLink:
        """The handshake, seen from the side that is dialled."""
        ours = MemoryLink(dialler.node, str(dialler.bound), dialled=False)
        theirs = MemoryLink(self.node, str(self.bound), dialled=True)
        ours.join(theirs)
        try:
            self._inbox.send_nowait(ours)
        except (anyio.WouldBlock, anyio.ClosedResourceError):
            await ours.close(_BUSY, "too many links wait to be accepted")
            return theirs
        self.keep(ours)
        dialler.keep(theirs)
        return theirs

    async def accept(self) -> Link:
        try:
            return await self._accepted.receive()
        except (anyio.EndOfStream, anyio.ClosedResourceError):
            raise LinkClosed("this node stopped") from None

    def keep(self, link: MemoryLink) -> None:
        """Note a link that ends with this node."""
        self._links = {other for other in self._links if other.ended is None}
        self._links.add(link)

    def stop(self) -> None:
        """End every link with a word to its peer."""
        self._inbox.close()
        self._accepted.close()
        for link in self._links:
            link.end_both(LinkClosed("this node stopped", 0), LinkClosed("the node stopped", 0))

    def vanish(self, silence_s: float) -> None:
        """Cut every link without a word; the far ends notice after `silence_s`."""
        for link in self._links:
            survivor = link.cut()
            if survivor is not None:
                self._tasks.start_soon(_notice, survivor, silence_s)
        self._links.clear()


async def _notice(link: MemoryLink, silence_s: float) -> None:
    await anyio.sleep(silence_s)
    link.end(LinkClosed(f"nothing arrived for {silence_s:g} s"))
