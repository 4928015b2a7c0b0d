"""The side that gives: maps, pieces and claims, to those whom a cortex admitted and to nobody else.

What a peer may not have looks like what is not there.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final
from urllib.parse import parse_qs

import anyio
import msgspec

from helexa.neuron.exchange.board import Boards
from helexa.neuron.exchange.circles import Circles
from helexa.neuron.exchange.figures import Figures
from helexa.neuron.exchange.wire import (
    CLAIM,
    CLAIM_MAX,
    DIGEST_HEADER,
    EXCHANGED_BYTES_MAX,
    MAP,
    MAP_TYPE,
    MAP_WAIT_MAX_S,
    ROOT,
    Handed,
)
from helexa.neuron.models.supply.piece import PieceMissing, PieceShelf, PieceStore
from helexa.protocol.errors import Busy, HelexaError, RouteUnknown, envelope
from helexa.protocol.ids import NodeId
from helexa.util.http_server import Receive, Scope, Send

UPLOADS_MAX: Final = 8
UPLOADS_PER_PEER_MAX: Final = 3
POLLS_PER_PEER_MAX: Final = 32
"""One for each file that it is about to get."""
_BLOCK: Final = 256 * 1024
_NUMBER_CHARS_MAX: Final = 20

_encode: Final = msgspec.msgpack.Encoder().encode


class Giving:
    """`app` is for the streams of admitted peers: their ids are its requests' clients."""

    def __init__(
        self, shelf: PieceShelf, circles: Circles, boards: Boards, figures: Figures
    ) -> None:
        self._shelf = shelf
        self._circles = circles
        self._boards = boards
        self._figures = figures
        self._uploads: Counter[NodeId] = Counter()
        self._polls: Counter[NodeId] = Counter()

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        del receive
        try:
            await self._answer(scope, send)
        except HelexaError as error:
            headers = [(b"content-type", b"application/json")]
            if error.retry_after_s is not None:
                headers.append((b"retry-after", b"%d" % error.retry_after_s))
            await _send_whole(send, error.status, headers, envelope(error))

    async def _answer(self, scope: Scope, send: Send) -> None:
        method, path = scope["method"], scope["path"]
        peer = NodeId((scope["client"] or ("",))[0])
        key, _, what = path.removeprefix(ROOT).partition("/")
        store = self._store(peer, key) if path.startswith(ROOT) else None
        if store is None or store.layout.piece_bytes > EXCHANGED_BYTES_MAX:
            raise RouteUnknown(method=method, path=path)
        query = _query(scope)
        if (method, what) == ("GET", MAP):
            await self._map(peer, store, query, send)
        elif (method, what) == ("POST", CLAIM):
            await self._claim(peer, store, query, send)
        elif method == "GET" and what.isdecimal() and len(what) < _NUMBER_CHARS_MAX:
            await self._piece(peer, store, int(what), send)
        else:
            raise RouteUnknown(method=method, path=path)

    def _store(self, peer: NodeId, key: str) -> PieceStore | None:
        for model in self._circles.models_for(peer):
            for store in self._shelf.of_model(model):
                if store.layout.key == key:
                    return store
        return None

    async def _map(
        self, peer: NodeId, store: PieceStore, query: dict[str, int], send: Send
    ) -> None:
        board = self._boards.of(store)
        epoch, since = query.get("epoch", 0), query.get("since", 0)
        with _counted(self._polls, peer, POLLS_PER_PEER_MAX):
            await board.newer(epoch, since, min(query.get("wait", 0), MAP_WAIT_MAX_S))
        if store.model not in self._circles.models_for(peer):
            raise RouteUnknown(method="GET", path=ROOT)
        said = _encode(board.said(epoch, since, anyio.current_time()))
        await _send_whole(send, 200, [(b"content-type", MAP_TYPE)], said)

    async def _claim(
        self, peer: NodeId, store: PieceStore, query: dict[str, int], send: Send
    ) -> None:
        board = self._boards.of(store)
        wanted = min(query.get("wanted", 1), CLAIM_MAX)
        pieces: tuple[int, ...] = ()
        if board.swarm is not None:
            pieces = board.swarm.hand_over(peer, wanted, anyio.current_time())
        await _send_whole(send, 200, [(b"content-type", MAP_TYPE)], _encode(Handed(pieces=pieces)))

    async def _piece(self, peer: NodeId, store: PieceStore, index: int, send: Send) -> None:
        if self._uploads.total() >= UPLOADS_MAX:
            raise Busy(reason=f"{UPLOADS_MAX} pieces are on their way already.")
        with _counted(self._uploads, peer, UPLOADS_PER_PEER_MAX):
            try:
                data = await store.read(index)
            except PieceMissing as error:
                raise RouteUnknown(method="GET", path=ROOT) from error
            digest = store.digest(index) or hashlib.sha256(data).digest()
            headers = [
                (b"content-type", b"application/octet-stream"),
                (b"content-length", b"%d" % len(data)),
                (DIGEST_HEADER, digest.hex().encode()),
            ]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            view = memoryview(data)
            for at in range(0, len(data), _BLOCK):
                more = at + _BLOCK < len(data)
                block = bytes(view[at : at + _BLOCK])
                await send({"type": "http.response.body", "body": block, "more_body": more})
            self._figures.given_bytes += len(data)


@contextmanager
def _counted(counter: Counter[NodeId], peer: NodeId, most: int) -> Iterator[None]:
    if counter[peer] >= most:
        raise Busy(reason=f"{most} of these are going on for this peer already.")
    counter[peer] += 1
    try:
        yield
    finally:
        counter[peer] -= 1
        if not counter[peer]:
            del counter[peer]


def _query(scope: Scope) -> dict[str, int]:
    """Numbers alone; what is none is left out."""
    told = parse_qs(scope["query_string"].decode("latin-1"), max_num_fields=8)
    return {
        name: int(values[0])
        for name, values in told.items()
        if values[0].isascii() and values[0].isdecimal() and len(values[0]) < _NUMBER_CHARS_MAX
    }


async def _send_whole(
    send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes
) -> None:
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body})
