"""The contract of a mesh transport, in one file.

A transport turns (node id, addresses) into a Link: a connection whose far end
has proven that it holds that id's key. A link carries many ordered byte streams
and small unordered datagrams. Everything above - sessions, control, inference -
is written against these protocols, so a second transport is one new file in
`transports/` that passes `helexa.testing.transport_suite`.

Rules for an implementation:

- A Link exists only when both ends are authenticated; `peer` is proven, never claimed.
- Every wait has a bound: `dial` by its argument, a dead peer by the transport's
  own keep-alive, so that a pending call on a dead link raises LinkClosed.
- Writes wait for the peer to read (backpressure); nothing buffers without bound.
- Any call may be cancelled; a cancelled call leaves the link usable. A cancelled
  read or accept loses nothing; a cancelled write aborts its stream, since nobody
  could say how much of it went out.
- A stream has one reader and one writer at a time; they may be different tasks.
- Foreign exceptions never leave: callers see LinkClosed, StreamReset or DialFailed.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final, Protocol

from helexa.mesh.identity import NodeKey
from helexa.protocol.ids import NodeId
from helexa.util.sockets import Address

READ_BYTES_MAX: Final = 1 << 18
STREAMS_PER_LINK_MAX: Final = 1_024


class LinkClosed(Exception):
    """The link is gone. `code` is what the side that closed it said, None when nobody did."""

    def __init__(self, reason: str, code: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.code = code


class StreamReset(Exception):
    """The far side gave up this stream; the link lives on."""


class DialFailed(Exception):
    """No link could be made: unreachable, refused, wrong key, or out of time. Says which."""


class Stream(Protocol):
    """An ordered byte stream both ways. The far side sees it once bytes were written."""

    async def read(self, bytes_max: int = READ_BYTES_MAX) -> bytes:
        """At least one byte, or b"" once the far side finished. Raises StreamReset, LinkClosed."""
        ...

    async def write(self, data: bytes) -> None:
        """Return when the transport took all of `data`. Raises StreamReset, LinkClosed."""
        ...

    async def finish(self) -> None:
        """No more writes; the far side reads the rest, then b"". Reading goes on. Idempotent."""
        ...

    def abort(self) -> None:
        """Give up what is not complete; the far side gets StreamReset. Never waits, idempotent.

        A direction that was finished is complete and still arrives whole, so
        `finally: stream.abort()` is right for whoever is done with a stream.
        """
        ...


class Link(Protocol):
    """A connection to a node that has proven its id; see the rules above."""

    peer: NodeId
    dialled: bool
    """Whether this side dialled."""
    remote_address: str
    """For logs; may be empty."""

    async def open_stream(self) -> Stream:
        """A new stream; the peer accepts it once bytes were written. Raises LinkClosed."""
        ...

    async def accept_stream(self) -> Stream:
        """The next stream that the peer opened. Raises LinkClosed."""
        ...

    async def send_datagram(self, data: bytes) -> None:
        """At most `datagram_bytes_max`; may be lost, repeated or reordered. Raises LinkClosed."""
        ...

    async def receive_datagram(self) -> bytes:
        """The next one that arrived. Raises LinkClosed."""
        ...

    @property
    def datagram_bytes_max(self) -> int:
        """What fits into one datagram on this link."""
        ...

    @property
    def rtt_s(self) -> float | None:
        """The transport's own estimate, where it has one."""
        ...

    async def close(self, code: int = 0, reason: str = "") -> None:
        """Close for both sides; the peer's calls raise LinkClosed with code and reason."""
        ...

    async def wait_closed(self) -> LinkClosed:
        """Return (never raise) why the link ended."""
        ...


class Transport(Protocol):
    """One node's place in one network: it dials and is dialled."""

    name: str

    @property
    def addresses(self) -> Sequence[str]:
        """Where this node can be dialled, for a ticket: `IP:PORT`, no wildcards."""
        ...

    @property
    def bound(self) -> Address:
        """What it listens on, with the real port."""
        ...

    async def dial(self, peer: NodeId, addresses: Sequence[str], *, timeout_s: float) -> Link:
        """Raises DialFailed within `timeout_s`, also for a peer that answers with another key."""
        ...

    async def accept(self) -> Link:
        """The next authenticated inbound link. Raises LinkClosed when the transport ends."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TransportSettings:
    """`bind` may name port 0. `relays` are URLs; none means no relay and no look-up anywhere."""

    bind: Address
    relays: tuple[str, ...] = ()


class OpenTransport(Protocol):
    """What each file in `transports/` exports as `open_transport`.

    Raises `helexa.util.sockets.AddressTaken` when it cannot bind.
    """

    def __call__(
        self, key: NodeKey, settings: TransportSettings
    ) -> AbstractAsyncContextManager[Transport]: ...
