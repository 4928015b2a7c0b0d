"""The mesh over iroh: QUIC between keys, with no authority and no look-up service.

Writes cost some 150 us each however small they are: callers coalesce.
"""

from __future__ import annotations

import gc
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import anyio
import iroh
from anyio.abc import TaskGroup

from helexa.mesh.identity import NodeKey
from helexa.mesh.transport import (
    DialFailed,
    Link,
    LinkClosed,
    Transport,
    TransportSettings,
)
from helexa.mesh.transports import _engine
from helexa.mesh.transports._addresses import dialable, is_wildcard, numeric
from helexa.mesh.transports._engine import explain
from helexa.mesh.transports._iroh_link import IrohLink, contained
from helexa.protocol.ids import NodeId
from helexa.util.background import background
from helexa.util.sockets import Address, AddressTaken

ALPN: Final = b"helexa/mesh/1"
"""Never changes: which protocol version a link speaks is agreed by `Hello`."""
HANDSHAKES_MAX: Final = 64
HANDSHAKE_S: Final = 5.0
ACCEPTED_WAITING_MAX: Final = 64
SWEEP_EVERY_S: Final = 2.0
CLOSE_S: Final = 0.5
FREE_CHECK_S: Final = 0.002
_BUSY: Final = 2


class IrohTransport:
    """Made by `open_transport`."""

    name = "iroh"

    def __init__(
        self, endpoint: Any, tasks: TaskGroup, bind: Address, relays: Sequence[str]
    ) -> None:
        self._endpoint: Any | None = endpoint
        self._tasks = tasks
        self._relays = relays
        self._links: set[IrohLink] = set()
        sockets = [Address.parse(text) for text in endpoint.bound_sockets()]
        six = ":" in bind.host
        self.bound = next(found for found in sockets if (":" in found.host) == six)
        self._wild = [found for found in sockets if is_wildcard(found)]
        self._inbox, self._accepted = anyio.create_memory_object_stream[IrohLink](
            ACCEPTED_WAITING_MAX
        )

    @property
    def addresses(self) -> Sequence[str]:
        direct = dialable(self._wild or [self.bound])
        relay = self._endpoint.addr().relay_url() if self._relays and self._endpoint else None
        return (*direct, relay) if relay else tuple(direct)

    async def dial(self, peer: NodeId, addresses: Sequence[str], *, timeout_s: float) -> Link:
        where = _endpoint_addr(peer, addresses)
        if self._endpoint is None:
            raise DialFailed("this node stopped")
        try:
            with anyio.fail_after(timeout_s):
                connection = await self._endpoint.connect(where, ALPN)
        except TimeoutError:
            raise DialFailed(
                f"no answer within {timeout_s:g} s from {', '.join(addresses)}"
            ) from None
        except iroh.IrohError as error:
            raise DialFailed(_why_not_dialled(explain(error), addresses)) from None
        return self._adopt(connection, dialled=True)

    async def accept(self) -> Link:
        try:
            return await self._accepted.receive()
        except (anyio.EndOfStream, anyio.ClosedResourceError):
            raise LinkClosed("this node stopped") from None

    def _adopt(self, connection: Any, *, dialled: bool) -> IrohLink:
        link = IrohLink(self._tasks, connection, dialled=dialled)
        self._links.add(link)
        self._tasks.start_soon(contained, self._follow, link)
        return link

    async def _follow(self, link: IrohLink) -> None:
        try:
            await link.watch()
        finally:
            self._links.discard(link)
            link.end(LinkClosed("this node stopped", 0))

    async def take_incoming(self, endpoint: Any) -> None:
        """Take what dials this node, until the endpoint ends."""
        handshakes = anyio.Semaphore(HANDSHAKES_MAX)
        while (incoming := await endpoint.accept_next()) is not None:
            try:
                handshakes.acquire_nowait()
            except anyio.WouldBlock:
                # No reply: under a flood an answer would only help the flooder.
                await incoming.ignore()
                continue
            self._tasks.start_soon(contained, self._shake_hands, incoming, handshakes)

    async def _shake_hands(self, incoming: Any, handshakes: anyio.Semaphore) -> None:
        try:
            with anyio.move_on_after(HANDSHAKE_S), suppress(iroh.IrohError):
                # Half full: from now on an address must prove that it hears us.
                crowded = handshakes.value < HANDSHAKES_MAX // 2
                if crowded and not await incoming.remote_addr_validated():
                    await incoming.retry()
                    return
                connection = await (await incoming.accept()).connect()
                link = self._adopt(connection, dialled=False)
                try:
                    self._inbox.send_nowait(link)
                except anyio.WouldBlock:
                    await link.close(_BUSY, "too many links wait to be accepted")
        finally:
            handshakes.release()

    async def sweep(self) -> None:
        """Give up peers from which nothing arrives any more, until cancelled."""
        while True:
            await anyio.sleep(SWEEP_EVERY_S)
            for link in tuple(self._links):
                link.sweep(anyio.current_time())

    def stop(self) -> None:
        """End every link with a word to its peer; nothing is accepted any more."""
        self._endpoint = None
        self._inbox.close()
        self._accepted.close()
        for link in tuple(self._links):
            link.end(LinkClosed("this node stopped", 0), 0, "the node stopped")


@asynccontextmanager
async def open_transport(key: NodeKey, settings: TransportSettings) -> AsyncIterator[Transport]:
    """See `helexa.mesh.transport.OpenTransport`."""
    _engine.prepare()
    bind = await numeric(settings.bind, socket.SOCK_DGRAM)
    endpoint = await _bind(key, bind, _relay_mode(settings.relays))
    bound = [Address.parse(text) for text in endpoint.bound_sockets()]
    try:
        async with background() as tasks:
            transport = IrohTransport(endpoint, tasks, bind, settings.relays)
            try:
                tasks.start_soon(transport.take_incoming, endpoint)
                tasks.start_soon(transport.sweep)
                yield transport
            finally:
                transport.stop()
    finally:
        with anyio.CancelScope(shield=True), anyio.move_on_after(CLOSE_S):
            # Waits for what was dialled in vain to be forgotten, which is seconds.
            await endpoint.close()
        with anyio.CancelScope(shield=True), anyio.move_on_after(CLOSE_S):
            # The engine lets go of its sockets when the last handle is dropped, and a
            # little later at that, on a thread of its own. A cancelled call keeps its
            # handle in the cycle of its traceback: collect that, or a node restarted
            # within the process finds its own address taken.
            endpoint = None
            gc.collect()
            while not all(map(_is_free, bound)):  # noqa: ASYNC110  # The engine tells nobody.
                await anyio.sleep(FREE_CHECK_S)


class _Preset(iroh.Preset):
    """The builder's own door: the options object can bind one address only."""

    def __init__(self, key: NodeKey, relays: iroh.RelayMode, binds: Sequence[Address]) -> None:
        self._key, self._relays, self._binds = key, relays, binds

    def apply(self, builder: Any) -> None:
        # "Minimal" is the only preset that asks no public server for anything.
        builder.apply_minimal()
        builder.relay_mode(self._relays)
        builder.secret_key(self._key.secret_bytes)
        builder.alpns([ALPN])
        for address in self._binds:
            builder.bind_addr(str(address))


async def _bind(key: NodeKey, bind: Address, relays: iroh.RelayMode) -> Any:
    last = ""
    # The engine listens on a wildcard of the other IP family unless told where,
    # which would turn 127.0.0.1 into a node open to the world by IPv6. A machine
    # without that family refuses the companion; then there is nothing to open.
    for binds in ((bind, _companion(bind)), (bind,)):
        try:
            return await iroh.Endpoint.bind(
                iroh.EndpointOptions(preset=_Preset(key, relays, binds))
            )
        except iroh.IrohError as error:
            last = explain(error)
    raise AddressTaken(f"cannot listen on {bind} (UDP): {last}")


def _relay_mode(urls: Sequence[str]) -> iroh.RelayMode:
    if not urls:
        return iroh.RelayMode.disabled()
    try:
        return iroh.RelayMode.custom_from_urls(list(urls))
    except iroh.IrohError as error:
        raise ValueError(f"not the URLs of relays: {', '.join(urls)}: {explain(error)}") from None


def _is_free(bound: Address) -> bool:
    family = socket.AF_INET6 if ":" in bound.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((bound.host, bound.port))
        except OSError:
            return False
    return True


def _companion(bind: Address) -> Address:
    wild = is_wildcard(bind)
    if ":" in bind.host:
        return Address("0.0.0.0", bind.port) if wild else Address("127.0.0.1", 0)
    return Address("::", bind.port) if wild else Address("::1", 0)


def _endpoint_addr(peer: NodeId, addresses: Sequence[str]) -> Any:
    relays = [text for text in addresses if text.startswith(("https://", "http://"))]
    direct = [text for text in addresses if text not in relays]
    if not addresses:
        # The engine would search for half a minute before it says so.
        raise DialFailed("no address to dial")
    try:
        return iroh.EndpointAddr(
            iroh.EndpointId.from_string(peer), relays[0] if relays else None, direct
        )
    except iroh.IrohError as error:
        raise DialFailed(f"not an address to dial: {explain(error)}") from None


def _why_not_dialled(reason: str, addresses: Sequence[str]) -> str:
    if "invalid peer certificate" in reason:
        return f"the node at {', '.join(addresses)} holds another key than the one dialled"
    return f"{', '.join(addresses)}: {reason}"
