"""Where strangers stand until they have proven who they are: few places, a short time each.

A stranger costs a socket, a TLS state and some arithmetic, so there is a bound
on how many are served at once, and one on those of one source. When it is full
the one that stood there longest goes: an honest handshake takes milliseconds,
and whoever is still there among hundreds of newer ones is not about to finish.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import secrets
import socket
from collections.abc import Callable
from typing import Final, Generic, TypeVar

import anyio
from anyio.abc import TaskGroup

from helexa.mesh.identity import NodeKey
from helexa.mesh.transports import _tls_wire as wire
from helexa.mesh.transports._tls_channel import PART_S, Channel, deafen
from helexa.mesh.transports._tls_proof import (
    proven_client,
    server_context,
    speaks_helexa,
    tls_fault,
)
from helexa.mesh.transports._tls_wire import NONCE_BYTES, WireViolation
from helexa.protocol.ids import NodeId
from helexa.util.logs import every

log = logging.getLogger(__name__)

T = TypeVar("T")

HANDSHAKE_S: Final = 5.0
STRANGERS_MAX: Final = 512
STRANGERS_PER_SOURCE_MAX: Final = 128
"""A quarter: it takes several networks to fill the door, and then each keeps its share."""
NO_SOCKETS_PAUSE_S: Final = 0.5
_IPV6_SITE_BITS: Final = 64

_seldom: Final = every(10.0)


class Places(Generic[T]):
    """Who stands in the door, by source. Decides who goes when somebody comes."""

    def __init__(self, most: int, most_per_source: int) -> None:
        self._most = most
        self._most_per_source = most_per_source
        self._by_source: dict[str, dict[T, None]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def enter(self, source: str, guest: T) -> T | None:
        """Take a place. Returns the guest that lost its own, if one had to."""
        crowd = self._by_source.get(source)
        if (crowd is None or len(crowd) < self._most_per_source) and self._count >= self._most:
            # The source with the most places pays, never one that has few.
            source_out = max(self._by_source, key=lambda name: len(self._by_source[name]))
            out = self._oldest(source_out)
        elif crowd is not None and len(crowd) >= self._most_per_source:
            out = self._oldest(source)
        else:
            out = None
        self._by_source.setdefault(source, {})[guest] = None
        self._count += 1
        return out

    def leave(self, source: str, guest: T) -> None:
        """Idempotent: one that was sent away comes by here too."""
        crowd = self._by_source.get(source)
        if crowd is None or guest not in crowd:
            return
        del crowd[guest]
        self._count -= 1
        if not crowd:
            del self._by_source[source]

    def _oldest(self, source: str) -> T:
        oldest = next(iter(self._by_source[source]))
        self.leave(source, oldest)
        return oldest


class Door:
    """`admit` is called with each channel whose client has proven its id, and gives it a sink."""

    def __init__(
        self, key: NodeKey, inbox: memoryview, admit: Callable[[Channel, NodeId], None]
    ) -> None:
        self.refused = 0
        """Handshakes that ended without a proven client, by its fault or for lack of places."""
        self._node = key.node_id
        self._context = server_context(key)
        self._inbox = inbox
        self._admit = admit
        self._places: Places[_Stranger] = Places(STRANGERS_MAX, STRANGERS_PER_SOURCE_MAX)
        self._untouched: set[socket.socket] = set()
        """Accepted, while the task that attends to it has not begun."""

    async def receive(self, listener: socket.socket, tasks: TaskGroup) -> None:
        """Take what comes to `listener` until cancelled."""
        try:
            while True:
                await anyio.wait_readable(listener)
                try:
                    # One a turn of the loop, so that those who stand here get on meanwhile.
                    arrived, remote = listener.accept()
                except (BlockingIOError, InterruptedError, ConnectionError):
                    continue  # Gone again before it was taken.
                except OSError as error:
                    # No file descriptors left, most likely: the loop would spin on it.
                    if _seldom():
                        log.warning("cannot accept connections: %s", error.strerror or error)
                    await anyio.sleep(NO_SOCKETS_PAUSE_S)
                    continue
                self._untouched.add(arrived)
                tasks.start_soon(self._attend, arrived, _source(remote[0]))
        finally:
            for arrived in self._untouched:
                arrived.close()

    async def _attend(self, arrived: socket.socket, source: str) -> None:
        self._untouched.discard(arrived)
        arrived.setblocking(False)
        channel = Channel(self._inbox)
        stranger = channel.sink = _Stranger(self._node, channel)
        if (sent_away := self._places.enter(source, stranger)) is not None:
            sent_away.send_away()
        why = f"took longer than {HANDSHAKE_S:g} s"
        try:
            with anyio.move_on_after(HANDSHAKE_S), stranger.scope:
                await asyncio.get_running_loop().connect_accepted_socket(
                    lambda: channel,
                    arrived,
                    ssl=self._context,
                    ssl_handshake_timeout=2 * HANDSHAKE_S,
                    ssl_shutdown_timeout=PART_S,
                )
                why = await stranger.outcome
            if stranger.proven is not None:
                self._admit(channel, stranger.proven)
        except OSError as error:
            why = f"no TLS: {tls_fault(error)}"
        except Exception:
            log.exception("the tls transport failed at a handshake", extra={"source": source})
            why = "a fault of this node"
        finally:
            self._places.leave(source, stranger)
            if channel.sink is stranger:
                deafen(channel)
                channel.abort()
        if stranger.proven is None and why != _LEFT:
            self._refuse(source, stranger.sent_away or why)

    def _refuse(self, source: str, why: str) -> None:
        self.refused += 1
        if _seldom():
            log.info(
                "refused a handshake: %s",
                why,
                extra={"source": source, "refused": self.refused, "missed": _seldom.missed},
            )


_LEFT: Final = "left before it said who it is"
"""No offence: a dialler that tries several addresses stays with the fastest."""


class _Stranger:
    """What the door says to a client, and what it made of the answer."""

    def __init__(self, node: NodeId, channel: Channel) -> None:
        self.scope = anyio.CancelScope()
        self.sent_away = ""
        self.proven: NodeId | None = None
        self.outcome: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """Why the handshake is over."""
        self._node = node
        self._channel = channel
        self._nonce = secrets.token_bytes(NONCE_BYTES)

    def send_away(self) -> None:
        self.sent_away = "stood here longest when others came"
        self.scope.cancel()

    def on_open(self) -> None:
        if (tls := self._channel.tls) is None or not speaks_helexa(tls):
            self._over("does not speak this protocol")
            return
        self._channel.send(wire.CHALLENGE, 0, self._nonce)

    def on_frame(self, kind: int, stream: int, body: bytes) -> None:  # noqa: ARG002  # None yet.
        if kind != wire.PROOF or self.outcome.done():
            raise WireViolation(f"a frame of kind {kind} in the handshake")
        self.proven = proven_client(self._node, self._nonce, body)
        self._over("the challenge was not answered with the key of the id that was claimed")

    def on_data(self, stream: int, piece: bytes) -> None:  # noqa: ARG002
        raise WireViolation("data before the handshake")

    def on_writable(self) -> None:
        pass

    def on_violation(self, what: str) -> None:
        self.proven = None
        self._over(what)

    def on_lost(self, why: str) -> None:  # noqa: ARG002  # It may go without a reason.
        self.proven = None
        self._over(_LEFT)

    def _over(self, why: str) -> None:
        if not self.outcome.done():
            self.outcome.set_result(why)


def _source(host: str) -> str:
    """What counts as one source: an address, or a site of IPv6, which is given 2^64 of them."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, _IPV6_SITE_BITS), strict=False))
