"""From a node id and some addresses to a link with the node that holds that id's key.

Addresses are tried in order, each with a head start before the next joins in.
The first one at which the wanted key answers wins, and only there does this
node say who it is.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable, Sequence
from typing import Final

import anyio
from anyio.abc import TaskGroup

from helexa.mesh.identity import NodeKey
from helexa.mesh.transport import DialFailed, LinkClosed
from helexa.mesh.transports import _tls_wire as wire
from helexa.mesh.transports._tls_channel import PART_S, Channel, deafen
from helexa.mesh.transports._tls_link import TlsLink
from helexa.mesh.transports._tls_proof import (
    client_context,
    prove,
    server_id,
    speaks_helexa,
    tls_fault,
)
from helexa.mesh.transports._tls_wire import WireViolation, read_close
from helexa.protocol.ids import NodeId
from helexa.util.sockets import Address

HEAD_START_S: Final = 0.1
ADDRESSES_MAX: Final = 16
"""A ticket is somebody else's words: it does not make this node knock on a thousand doors."""


class Dialler:
    """`begin` makes the link of a channel at the moment the far end lets this node in."""

    def __init__(
        self, key: NodeKey, inbox: memoryview, begin: Callable[[Channel, NodeId], TlsLink]
    ) -> None:
        self._key = key
        self._inbox = inbox
        self._begin = begin
        self._context = client_context()

    async def dial(self, peer: NodeId, addresses: Sequence[str], *, timeout_s: float) -> TlsLink:
        """Raises DialFailed within `timeout_s`."""
        if peer == self._key.node_id:
            raise DialFailed("that is this node itself")
        targets = _targets(addresses)
        try:
            with anyio.fail_after(timeout_s):
                return await (await self._reach(peer, targets, timeout_s)).introduce()
        except TimeoutError:
            where = ", ".join(map(str, targets))
            raise DialFailed(f"no answer within {timeout_s:g} s from {where}") from None

    async def _reach(self, peer: NodeId, targets: Sequence[Address], timeout_s: float) -> _Client:
        """The first of the targets at which the wanted key answers."""
        clients = [_Client(self._key, peer, target, self._begin) for target in targets]
        winner: list[_Client] = []

        async def attempt(client: _Client, failed: anyio.Event, tasks: TaskGroup) -> None:
            await self._connect(client, timeout_s)
            if client.fault:
                failed.set()
            elif not winner:
                winner.append(client)
                tasks.cancel_scope.cancel()

        try:
            async with anyio.create_task_group() as tasks:
                for client in clients:
                    failed = anyio.Event()
                    tasks.start_soon(attempt, client, failed, tasks)
                    with anyio.move_on_after(HEAD_START_S):
                        await failed.wait()
            if not winner:
                raise DialFailed("; ".join(dict.fromkeys(client.fault for client in clients)))
        finally:
            for client in clients:
                if client not in winner:
                    client.give_up()
        return winner[0]

    async def _connect(self, client: _Client, timeout_s: float) -> None:
        client.channel = Channel(self._inbox)
        client.channel.sink = client
        try:
            await asyncio.get_running_loop().create_connection(
                lambda: client.channel,
                client.target.host,
                client.target.port,
                ssl=self._context,
                server_hostname="",
                # Its own deadline is behind the dial's.
                ssl_handshake_timeout=timeout_s + 1,
                ssl_shutdown_timeout=PART_S,
            )
        except OSError as error:
            client.fault = client.fault or f"{client.target}: {tls_fault(error)}"


class _Client:
    """What this node says where it dialled, and what it made of the answers."""

    channel: Channel

    def __init__(
        self,
        key: NodeKey,
        peer: NodeId,
        target: Address,
        begin: Callable[[Channel, NodeId], TlsLink],
    ) -> None:
        self.target = target
        self.fault = ""
        self._key = key
        self._peer = peer
        self._begin = begin
        self._nonce = b""
        self._link: TlsLink | None = None
        self._news = anyio.Event()

    async def introduce(self) -> TlsLink:
        """Answer the challenge and wait to be let in. Raises DialFailed."""
        try:
            await self._until(lambda: bool(self._nonce))
            self.channel.send(wire.PROOF, 0, prove(self._key, self._peer, self._nonce))
            await self._until(lambda: self._link is not None)
        except BaseException:
            self.give_up()
            raise
        assert self._link is not None
        return self._link

    def give_up(self) -> None:
        if self._link is not None:
            self._link.end(LinkClosed("the dial was given up"))
        elif hasattr(self, "channel"):
            deafen(self.channel)
            self.channel.abort()

    async def _until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            if self.fault:
                raise DialFailed(self.fault)
            await self._news.wait()
            self._news = anyio.Event()

    # --- what the channel tells

    def on_open(self) -> None:
        tls = self.channel.tls
        if tls is None or not speaks_helexa(tls):
            self._fail(f"whoever listens at {self.target} is no helexa node")
        elif server_id(tls) != self._peer:
            self._fail(f"the node at {self.target} holds another key than the one dialled")

    def on_frame(self, kind: int, stream: int, body: bytes) -> None:  # noqa: ARG002  # None yet.
        if self.fault:
            return
        if kind == wire.CHALLENGE and not self._nonce:
            self._nonce = body
        elif kind == wire.WELCOME and self._nonce:
            # At once: what comes behind the welcome is for the link.
            self._link = self._begin(self.channel, self._peer)
        elif kind == wire.CLOSE:
            self._fail(f"{self.target}: {read_close(body)[1] or 'closed in the handshake'}")
        else:
            raise WireViolation(f"a frame of kind {kind} in the handshake")
        self._news.set()

    def on_data(self, stream: int, piece: bytes) -> None:  # noqa: ARG002
        raise WireViolation("data before the handshake")

    def on_writable(self) -> None:
        pass

    def on_violation(self, what: str) -> None:
        self._fail(f"{self.target}: {what}")

    def on_lost(self, why: str) -> None:
        self._fail(f"{self.target}: {why} in the handshake")

    def _fail(self, fault: str) -> None:
        self.fault = self.fault or fault
        self._news.set()


def _targets(addresses: Sequence[str]) -> list[Address]:
    if not addresses:
        raise DialFailed("no address to dial")
    targets: dict[Address, None] = {}
    wrong = ""
    for text in addresses:
        try:
            address = Address.parse(text)
            ipaddress.ip_address(address.host)
        except ValueError as error:
            wrong = wrong or f"not an address to dial: {error}"
        else:
            targets[address] = None
    if not targets:
        raise DialFailed(wrong)
    return list(targets)[:ADDRESSES_MAX]
