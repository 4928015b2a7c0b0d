"""The line to one other neuron: its session, made where none stands, and requests over it."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import anyio
import msgspec

from helexa.mesh.node import MeshNode
from helexa.mesh.sessions.handshake import HandshakeFailed
from helexa.mesh.sessions.session import Session
from helexa.mesh.ticket import Ticket, TicketMalformed
from helexa.mesh.transport import DialFailed, LinkClosed, Stream
from helexa.neuron.exchange.wire import CLAIM, MAP, MAP_BYTES_MAX, ROOT, Handed, PieceMap
from helexa.neuron.models.supply.piece import PieceRefused, PieceUnavailable
from helexa.protocol.ids import NodeId, new_request_id
from helexa.protocol.messages import ExecuteRequest, PieceHolder
from helexa.util.upstream import Pool, Response, Streams, UpstreamError

ANSWER_S: Final = 10.0
"""For the first byte, and for the next one after any."""
PIECE_S: Final = 60.0
"""For a whole piece of 4 MiB: below 70 KB/s another source is better."""
PIECE_S_PER_BYTE: Final = PIECE_S / (4 << 20)
STREAMS_MAX: Final = 16
_SMALL_BYTES_MAX: Final = 64 * 1024


class LineDown(Exception):
    """There is no link, or it carries nothing."""


class NotThere(Exception):
    """It answers, and has or gives no such file."""


class PieceBusy(PieceUnavailable):
    """Later, from the same one."""


class Lines:
    """Sessions with other neurons. One dial at a time to each."""

    def __init__(self, mesh: MeshNode) -> None:
        self._mesh = mesh
        self._dialling: dict[NodeId, anyio.Lock] = {}

    def standing(self, node: NodeId) -> Session | None:
        return self._mesh.session_with(node)

    async def session(self, holder: PieceHolder) -> Session:
        """Raises LineDown."""
        lock = self._dialling.setdefault(holder.node, anyio.Lock())
        try:
            async with lock:
                if (standing := self.standing(holder.node)) is not None:
                    return standing
                return await self._dial(holder)
        finally:
            if not lock.statistics().tasks_waiting and not lock.locked():
                self._dialling.pop(holder.node, None)

    async def _dial(self, holder: PieceHolder) -> Session:
        try:
            ticket = Ticket.parse(holder.ticket)
            if ticket.node != holder.node:
                raise LineDown("its ticket is another node's")
            return await self._mesh.connect(ticket)
        except (TicketMalformed, DialFailed, HandshakeFailed, LinkClosed) as error:
            raise LineDown(str(error)) from error

    @asynccontextmanager
    async def to(self, holder: PieceHolder) -> AsyncIterator[Line]:
        async def opened() -> Stream:
            session = await self.session(holder)
            return await session.open_data(ExecuteRequest(request=new_request_id()))

        streams = Streams(opened, label=f"neuron {holder.node[:10]}")
        async with Pool(streams, connections_max=STREAMS_MAX).running() as pool:
            yield Line(holder, pool)


class Line:
    """Requests to one neuron about pieces."""

    def __init__(self, holder: PieceHolder, pool: Pool) -> None:
        self.node = holder.node
        self._pool = pool

    async def map(self, key: str, *, epoch: int, since: int, wait_s: int) -> PieceMap:
        """Raises LineDown, NotThere and PieceBusy; msgspec.MsgspecError for what is no map."""
        path = f"{ROOT}{key}/{MAP}?epoch={epoch}&since={since}&wait={wait_s}"
        try:
            with await self._ask("GET", path, wait_s + ANSWER_S) as response:
                body = await response.read(MAP_BYTES_MAX)
        except UpstreamError as error:
            raise LineDown(str(error)) from error
        return msgspec.msgpack.decode(body, type=PieceMap)

    async def claim(self, key: str, wanted: int) -> tuple[int, ...]:
        """Nothing where it does not answer."""
        try:
            with await self._ask("POST", f"{ROOT}{key}/{CLAIM}?wanted={wanted}") as response:
                body = await response.read(_SMALL_BYTES_MAX)
            return msgspec.msgpack.decode(body, type=Handed).pieces
        except (UpstreamError, LineDown, NotThere, PieceUnavailable, msgspec.MsgspecError):
            return ()

    async def piece(
        self, key: str, index: int, length: int, expected: bytes, seen: Callable[[int], None]
    ) -> bytes:
        """Raises PieceUnavailable, and PieceRefused for other bytes than `expected`."""
        made, parts = hashlib.sha256(), []
        left = length
        try:
            with anyio.fail_after(max(PIECE_S, length * PIECE_S_PER_BYTE)):
                with await self._ask("GET", f"{ROOT}{key}/{index}") as response:
                    while part := await response.chunk():
                        left -= len(part)
                        if left < 0:
                            raise PieceRefused(f"piece {index} is longer than it should be")
                        made.update(part)
                        parts.append(part)
                        seen(len(part))
        except TimeoutError:
            raise PieceUnavailable(f"{self.node[:10]} gives its pieces too slowly") from None
        except (UpstreamError, LineDown, NotThere) as error:
            raise PieceUnavailable(f"{self.node[:10]}: {error}") from error
        if left:
            raise PieceRefused(f"piece {index} is shorter than it should be")
        if made.digest() != expected:
            raise PieceRefused(f"piece {index} has other bytes than it should have")
        return b"".join(parts)

    async def _ask(self, method: str, path: str, first_byte_s: float = ANSWER_S) -> Response:
        response = await self._pool.request(
            method, path, first_byte_timeout_s=first_byte_s, silence_timeout_s=ANSWER_S
        )
        if response.status != 200:
            response.close()
            if response.status in (429, 503):
                raise PieceBusy(f"{self.node[:10]} is busy")
            raise NotThere(f"{self.node[:10]} answers with {response.status}")
        return response


class PeerGiver:
    """`Giver` of one file's pieces, over a line. `expected` says what a piece hashes to."""

    in_order = False

    def __init__(self, line: Line, key: str, span: Callable[[int], tuple[int, int]]) -> None:
        self.name: str = line.node
        self.bytes_seen = 0
        self._line = line
        self._key = key
        self._span = span
        self.expected: Callable[[int], bytes | None] = _unknown

    async def claim(self, wanted: int) -> tuple[int, ...]:
        return await self._line.claim(self._key, wanted)

    async def fetch(self, index: int) -> bytes:
        expected = self.expected(index)
        if expected is None:
            raise PieceUnavailable(f"nobody can say any more what piece {index} should be")
        _, length = self._span(index)
        return await self._line.piece(self._key, index, length, expected, self._see)

    def _see(self, count: int) -> None:
        self.bytes_seen += count


def _unknown(index: int) -> bytes | None:
    del index
    return None
