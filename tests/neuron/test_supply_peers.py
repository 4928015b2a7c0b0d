"""Pulls with peers: another picker, pieces that peers gave and that are wrong, and no origin."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.neuron.supplies import is_here, noise, supplied, tiny

from helexa.neuron.models.supply.piece import (
    PIECE_BYTES,
    FindSize,
    Giver,
    PieceRefused,
    PieceStore,
    PieceUnavailable,
    Take,
    content_key,
)
from helexa.neuron.models.supply.records import Stage
from helexa.protocol.ids import ModelId, NodeId
from helexa.protocol.messages import PieceHolder, SourceFile
from helexa.testing.hub import Hub

pytestmark = pytest.mark.anyio
W = ModelId("w")
PEER = PieceHolder(node=NodeId("a" * 64), ticket="t")


class Peer:
    """Gives pieces of `data`, whatever it is."""

    name = "a" * 64
    in_order = False

    def __init__(self, data: bytes) -> None:
        self._data = data

    async def fetch(self, index: int) -> bytes:
        return self._data[index * PIECE_BYTES : (index + 1) * PIECE_BYTES]


class Alternating:
    """Even pieces from the peer, odd ones from the origin where there is one."""

    lanes = 1

    def __init__(self, store: PieceStore, origin: Giver | None, peer: Giver) -> None:
        self.ends: list[PieceUnavailable | PieceRefused | None] = []
        self._store, self._origin, self._peer = store, origin, peer

    async def next(self) -> Take:
        index = next(at for at in range(self._store.layout.count) if not self._store.has(at))
        return Take(index, self._peer if index % 2 == 0 or not self._origin else self._origin)

    def ended(self, take: Take, failure: PieceUnavailable | PieceRefused | None) -> None:
        self.ends.append(failure)
        if failure is not None:
            self._peer = self._origin or self._peer


class Neighbours:
    """`Exchange`."""

    def __init__(self, peer: Giver, sizes: dict[str, int] | None = None) -> None:
        self.shared: list[tuple[str, int]] = []
        self.pickers: list[Alternating] = []
        self._peer = peer
        self._sizes = sizes or {}
        self.find_size: FindSize = self._find_size

    @asynccontextmanager
    async def picker(self, store: PieceStore, origin: Giver | None) -> AsyncIterator[Alternating]:
        self.pickers.append(Alternating(store, origin, self._peer))
        yield self.pickers[-1]

    def share(self, model: ModelId, peers: tuple[PieceHolder, ...]) -> None:
        self.shared.append((model, len(peers)))

    async def _find_size(self, model: ModelId, key: str) -> int:
        del model
        if key not in self._sizes:
            raise PieceUnavailable("no neighbour has it", final=True)
        return self._sizes[key]


async def test_what_peers_gave_is_counted_and_the_origin_sends_only_the_rest(
    tmp_path: Path,
) -> None:
    data = noise(4)
    neighbours = Neighbours(Peer(data))
    async with Hub.running() as hub:
        hub.repo("org/w").commit({"w.gguf": data})
        async with supplied(tmp_path / "models", hub.url, exchange=neighbours) as supply:
            assert is_here(await supply.pull("w", "hf:org/w", peers=(PEER,)))
            assert neighbours.shared == [("w", 1), ("w", 1)]
            (store,) = supply.pulls.of_model(W)
            assert [store.giver(at) for at in range(4)] == [Peer.name, "origin"] * 2
            assert supply.pulls.find(content_key(hashlib.sha256(data).hexdigest())) is store
        assert hub.sent["w.gguf"] == 2 * PIECE_BYTES


async def test_pieces_of_peers_that_make_the_whole_wrong_are_taken_from_the_origin(
    tmp_path: Path,
) -> None:
    data = noise(4)
    async with Hub.running() as hub:
        hub.repo("org/w").commit({"w.gguf": data})
        lies = Neighbours(Peer(noise(4, seed=66)))
        async with supplied(tmp_path / "models", hub.url, exchange=lies) as supply:
            assert is_here(await supply.pull("w", "hf:org/w", peers=(PEER,)))
            assert (supply.folder / "w.gguf").read_bytes() == data
        assert hub.sent["w.gguf"] == len(data)


async def test_a_piece_of_the_wrong_length_is_refused_and_its_giver_told(tmp_path: Path) -> None:
    data = noise(2)
    short = Neighbours(Peer(data[:-5]))
    short._peer._data = data[:100]  # type: ignore[attr-defined]
    async with Hub.running() as hub:
        hub.repo("org/w").commit({"w.gguf": data})
        async with supplied(tmp_path / "models", hub.url, exchange=short) as supply:
            assert is_here(await supply.pull("w", "hf:org/w"))
        assert isinstance(short.pickers[0].ends[0], PieceRefused)


@pytest.mark.parametrize("declares_size", [True, False])
async def test_a_model_comes_from_peers_alone(tmp_path: Path, declares_size: bool) -> None:
    data = tiny(tmp_path)
    sha256 = hashlib.sha256(data).hexdigest()
    file = SourceFile(name="w.gguf", sha256=sha256, size=len(data) if declares_size else 0)
    neighbours = Neighbours(Peer(data), {content_key(sha256): len(data)})
    async with supplied(tmp_path / "models", exchange=neighbours) as supply:
        assert is_here(await supply.pull("w", "peer:", files=(file,), peers=(PEER,)))
        assert supply.listed == ["w"]


async def test_peers_that_all_lie_are_a_failure_and_the_data_is_gone(tmp_path: Path) -> None:
    file = SourceFile(name="w.gguf", sha256="d" * 64, size=2 * PIECE_BYTES)
    async with supplied(tmp_path / "models", exchange=Neighbours(Peer(noise(2)))) as supply:
        record = await supply.pull("w", "peer:", files=(file,))
        assert record.stage is Stage.FAILED
        assert "was declared" in record.reason
        assert supply.leftovers() == []


async def test_a_size_that_no_peer_says_is_a_failure_with_the_reason(tmp_path: Path) -> None:
    file = SourceFile(name="w.gguf", sha256="d" * 64)
    async with supplied(tmp_path / "models", exchange=Neighbours(Peer(b""))) as supply:
        assert "no neighbour has it" in (await supply.pull("w", "peer:", files=(file,))).reason
    async with supplied(tmp_path / "other") as supply:
        assert "exchanges nothing" in (await supply.pull("w", "peer:", files=(file,))).reason


async def test_without_peers_and_without_an_origin_nobody_is_asked(tmp_path: Path) -> None:
    file = SourceFile(name="w.gguf", sha256="d" * 64, size=5)
    async with supplied(tmp_path / "models") as supply:
        record = await supply.pull("w", "peer:", files=(file,))
        assert "nobody is known who has it" in record.reason
