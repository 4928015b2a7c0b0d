"""Cortexes that this node met before, so that it finds back when its first contact is gone.

A file beside the node's key, written now and then and at the end. It is a
cache: whatever is wrong with it costs a log line and a search, never a start.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Annotated, Final

import anyio
import msgspec
from msgspec import Meta

from helexa.mesh.ticket import TICKET_CHARS_MAX, Ticket, TicketMalformed
from helexa.protocol.ids import NodeId
from helexa.util.background import background

log = logging.getLogger(__name__)

PEERS_MAX: Final = 256
"""The least recently seen go first. Of a mesh of thousands a few that still live are enough."""
SAVE_EVERY_S: Final = 60.0
FILE_BYTES_MAX: Final = 2 << 20
_FRESH: Final = 2
"""Of what `best` gives, one in so many is chosen at random: the most recently seen may all have
stood in one rack."""


class _Peer(msgspec.Struct, frozen=True):
    ticket: Annotated[str, Meta(max_length=TICKET_CHARS_MAX)]
    seen_s: int


class _File(msgspec.Struct, frozen=True):
    version: int
    peers: list[_Peer]


class PeerCache:
    """Read at construction; kept on disk inside `running`. Times are whole seconds since 1970."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._peers: dict[NodeId, tuple[Ticket, int]] = {}
        self._changed = False
        for peer in _load(path):
            with suppress(TicketMalformed):
                self._keep(Ticket.parse(peer.ticket), peer.seen_s)

    def __len__(self) -> int:
        return len(self._peers)

    @asynccontextmanager
    async def running(self, *, save_every_s: float = SAVE_EVERY_S) -> AsyncIterator[PeerCache]:
        """Save what changed every so often inside the block, and once at its end."""
        try:
            async with background() as tasks:
                tasks.start_soon(self._save_now_and_then, save_every_s)
                yield self
        finally:
            self.save()

    def remember(self, ticket: Ticket, now_s: float) -> None:
        """That node was reached by, or says of itself, this. Its invite is not kept: it is a secret
        and was used.
        """
        if ticket.addresses:
            self._keep(msgspec.structs.replace(ticket, invite=b""), int(now_s))
            self._changed = True

    def forget(self, node: NodeId) -> None:
        """It said goodbye for good, or was denied."""
        self._changed |= self._peers.pop(node, None) is not None

    def best(self, most: int, random: Callable[[], float]) -> list[Ticket]:
        """At most that many, in the order of trying: recently seen ones mixed with random others.

        `random` gives numbers from 0 up to, but not including, 1.
        """
        by_time = sorted(self._peers.values(), key=lambda peer: -peer[1])
        chosen: list[Ticket] = []
        while by_time and len(chosen) < most:
            turn = len(chosen) % _FRESH
            at = 0 if turn == 0 else int(random() * len(by_time))
            chosen.append(by_time.pop(at)[0])
        return chosen

    def save(self) -> None:
        """Write the file if anything changed. A disk that refuses costs a log line."""
        if not self._changed:
            return
        peers = [_Peer(str(ticket), seen_s) for ticket, seen_s in self._peers.values()]
        draft = self._path.with_name(f".{self._path.name}.new")
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Not forced to the disk: half a file after a power cut is set aside at
            # the next start, and a disk that is slow would stop the event loop.
            draft.write_bytes(msgspec.json.encode(_File(1, peers)))
            draft.replace(self._path)
        except OSError as error:
            log.warning("peers are not remembered: %s: %s", self._path, error.strerror or error)
        else:
            self._changed = False

    async def _save_now_and_then(self, every_s: float) -> None:
        while True:
            await anyio.sleep(every_s)
            self.save()

    def _keep(self, ticket: Ticket, seen_s: int) -> None:
        self._peers[ticket.node] = (ticket, seen_s)
        if len(self._peers) > PEERS_MAX:
            del self._peers[min(self._peers, key=lambda node: self._peers[node][1])]


def _load(path: Path) -> list[_Peer]:
    try:
        with path.open("rb") as file:
            return _read(file.read(FILE_BYTES_MAX + 1))
    except FileNotFoundError:
        return []
    except (OSError, ValueError, RecursionError) as error:
        aside = path.with_name(f"{path.name}.damaged")
        with suppress(OSError):
            path.replace(aside)
        log.warning("remembered peers cannot be read: %s", error, extra={"set_aside": str(aside)})
        return []


def _read(content: bytes) -> list[_Peer]:
    if len(content) > FILE_BYTES_MAX:
        raise ValueError(f"larger than {FILE_BYTES_MAX} bytes")
    read = msgspec.json.decode(content, type=_File)
    if read.version != 1:
        raise ValueError(f"of version {read.version}, which another build wrote")
    return read.peers
