"""Real neurons that exchange pieces over real links, beside an origin with a rate."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import anyio
import pytest
from tests.neuron.exchanging import PATIENCE_S, Fleet, begun, fleet, settled
from tests.neuron.supplies import is_here, noise

from helexa.mesh.sessions.handshake import CloseCode
from helexa.mesh.sessions.session import PeerRefused
from helexa.mesh.ticket import Ticket
from helexa.neuron.app import Neuron
from helexa.neuron.exchange.line import Line, LineDown, Lines, NotThere
from helexa.neuron.models.supply.disk_pieces import DiskPieces
from helexa.neuron.models.supply.journal import Entry
from helexa.neuron.models.supply.piece import ORIGIN, PIECE_BYTES, content_key
from helexa.neuron.models.supply.records import Stage
from helexa.protocol.ids import ModelId
from helexa.protocol.messages import (
    ModelSource,
    PieceHolder,
    PullModel,
    RequestHealth,
    SharePieces,
    SourceFile,
)
from helexa.testing.hub import Hub

pytestmark = pytest.mark.anyio

W = ModelId("w")
SOURCE = "hf:org/w"


def key_of(data: bytes) -> str:
    return content_key(hashlib.sha256(data).hexdigest())


@asynccontextmanager
async def hub_with(data: bytes, rate_bytes_per_s: float = 20e6) -> AsyncIterator[Hub]:
    async with Hub.running() as hub:
        hub.repo("org/w").commit({"w.gguf": data})
        hub.mood.rate_bytes_per_s = rate_bytes_per_s
        yield hub


async def here(fleet: Fleet, neuron: Neuron, data: bytes) -> None:
    """It has the right file."""
    assert is_here(await settled(neuron, W))
    assert (fleet.models(fleet.neurons.index(neuron)) / "w.gguf").read_bytes() == data


async def whole(fleet: Fleet, neuron: Neuron) -> DiskPieces:
    """It has pulled the file from the origin."""
    await fleet.pull(neuron, W, SOURCE, ())
    assert is_here(await settled(neuron, W))
    (store,) = neuron.pulls.of_model(W)
    assert isinstance(store, DiskPieces)
    return store


@asynccontextmanager
async def line(taker: Neuron, holder: PieceHolder) -> AsyncIterator[Line]:
    async with Lines(taker.mesh).to(holder) as made:
        yield made


async def test_an_origin_sends_a_file_once_to_four_neurons(tmp_path: Path) -> None:
    data = noise(12.3)
    async with hub_with(data) as hub, fleet(tmp_path, 4, hub=hub.url) as four:
        for neuron in four.neurons:
            await four.pull(neuron, W, SOURCE, four.neurons)
        for neuron in four.neurons:
            await here(four, neuron, data)
        assert len(data) <= hub.sent["w.gguf"] <= 1.1 * len(data)
        given = sum(one.exchange.figures.given_bytes for one in four.neurons)
        taken = sum(one.exchange.figures.taken_bytes for one in four.neurons)
        assert taken == 4 * len(data) - hub.sent["w.gguf"]
        assert given >= taken


async def test_where_one_has_the_whole_the_origin_sends_nothing(tmp_path: Path) -> None:
    data = noise(6.5)
    async with hub_with(data) as hub, fleet(tmp_path, 3, hub=hub.url) as three:
        holder, *others = three.neurons
        await whole(three, holder)
        hub.sent.clear()
        await three.share(holder, W, others)
        for neuron in others:
            await three.pull(neuron, W, SOURCE, three.neurons)
        for neuron in others:
            await here(three, neuron, data)
        assert not hub.sent["w.gguf"]


async def test_one_that_begins_late_takes_what_is_there_from_the_others(tmp_path: Path) -> None:
    data = noise(10)
    async with hub_with(data) as hub, fleet(tmp_path, 3, hub=hub.url) as three:
        *early, late = three.neurons
        for neuron in early:
            await three.pull(neuron, W, SOURCE, early)
        await begun(early[0], W, pieces=4)
        for neuron in early:
            await three.share(neuron, W, three.neurons)
        await three.pull(late, W, SOURCE, three.neurons)
        for neuron in three.neurons:
            await here(three, neuron, data)
        assert hub.sent["w.gguf"] <= 1.1 * len(data)


async def test_a_peer_that_dies_midway_loses_its_part_to_the_others(tmp_path: Path) -> None:
    data = noise(10)
    async with (
        hub_with(data, 10e6) as hub,
        fleet(tmp_path, 2, hub=hub.url) as three,
        AsyncExitStack() as its_life,
    ):
        mortal = await its_life.enter_async_context(three.another(hub=hub.url))
        for neuron in three.neurons:
            await three.pull(neuron, W, SOURCE, three.neurons)
        await begun(mortal, W, pieces=1)
        await its_life.aclose()
        for neuron in three.neurons[:2]:
            await here(three, neuron, data)


async def test_a_peer_that_gives_other_bytes_than_it_says_is_dropped(tmp_path: Path) -> None:
    data = noise(5)
    async with hub_with(data) as hub, fleet(tmp_path, 2, hub=hub.url) as two:
        poisoner, victim = two.neurons
        store = await whole(two, poisoner)
        true_read = store.read

        async def read(index: int) -> bytes:
            return b"poison" + (await true_read(index))[6:]

        store.read = read  # type: ignore[method-assign]
        await two.share(poisoner, W, two.neurons)
        await two.pull(victim, W, SOURCE, two.neurons)
        await here(two, victim, data)
        said = victim.exchange.standing()
        assert said["refused_pieces"] >= 1
        assert [(one["node"], one["model"]) for one in said["dropped"]] == [(poisoner.node_id, W)]
        assert "other bytes" in said["dropped"][0]["reason"]
        assert said["dropped_peers"] == 1


async def test_a_peer_that_attests_what_it_made_up_is_found_by_the_origin(tmp_path: Path) -> None:
    data = noise(4)
    async with hub_with(data) as hub, fleet(tmp_path, 2, hub=hub.url) as two:
        liar, victim = two.neurons
        store = await whole(two, liar)
        made_up = noise(4, seed=666)
        store.data.write_bytes(made_up)
        for index in range(4):
            piece = made_up[index * PIECE_BYTES : (index + 1) * PIECE_BYTES]
            store._entries[index] = Entry(hashlib.sha256(piece).digest(), ORIGIN)
        await two.share(liar, W, two.neurons)
        await two.pull(victim, W, SOURCE, two.neurons)
        await here(two, victim, data)
        said = victim.exchange.standing()
        assert [one["node"] for one in said["dropped"]] == [liar.node_id]
        assert "attests" in said["dropped"][0]["reason"]


async def test_who_is_not_admitted_gets_nothing(tmp_path: Path) -> None:
    data = noise(1.5)
    async with hub_with(data) as hub, fleet(tmp_path, 2, hub=hub.url) as two:
        holder, stranger = two.neurons
        await whole(two, holder)
        await two.share(stranger, "anything", [holder])
        session = await stranger.mesh.connect(Ticket.parse(holder.ticket))
        with anyio.fail_after(PATIENCE_S):
            ended = await session.wait_closed()
        assert ended.code == CloseCode.DENIED
        await two.share(holder, "another", [stranger])
        async with line(stranger, two.home.holder(holder.node_id)) as asked:
            with pytest.raises(NotThere):
                await asked.map(key_of(data), epoch=0, since=0, wait_s=0)
        await two.share(holder, W, [stranger])
        async with line(stranger, two.home.holder(holder.node_id)) as asked:
            assert (await asked.map(key_of(data), epoch=0, since=0, wait_s=0)).verified
            await two.share(holder, W, [])
            with pytest.raises(NotThere):
                await asked.map(key_of(data), epoch=0, since=0, wait_s=0)
            await two.share(holder, "another", [])
            with pytest.raises(LineDown):
                await asked.map(key_of(data), epoch=0, since=0, wait_s=0)


async def test_who_is_admitted_to_pieces_commands_nothing(tmp_path: Path) -> None:
    async with fleet(tmp_path, 2) as two:
        holder, taker = two.neurons
        await two.share(holder, W, [taker])
        await two.share(taker, W, [holder])
        session = await taker.mesh.connect(Ticket.parse(holder.ticket))
        for message in (
            RequestHealth(),
            SharePieces(model=W, peers=(two.home.holder(taker.node_id),)),
            PullModel(command="c", model=W, source=ModelSource(source="file:/etc/passwd")),
        ):
            with pytest.raises(PeerRefused):
                await session.ask(message)


async def test_files_come_from_peers_alone_and_they_say_how_long_they_are(tmp_path: Path) -> None:
    data = noise(5.5)
    async with hub_with(data) as hub, fleet(tmp_path, 3, hub=hub.url) as three:
        holder, *others = three.neurons
        await whole(three, holder)
        await three.share(holder, W, others)
        file = SourceFile(name="w.gguf", sha256=hashlib.sha256(data).hexdigest())
        for neuron in others:
            await three.pull(neuron, W, "peer:", three.neurons, files=(file,))
        for neuron in others:
            await here(three, neuron, data)


async def test_a_holder_that_nobody_can_dial_calls_those_that_may_take(tmp_path: Path) -> None:
    data = noise(2)
    async with hub_with(data) as hub, fleet(tmp_path, 2, hub=hub.url) as two:
        hidden, taker = two.neurons
        await whole(two, hidden)
        hub.sent.clear()
        nowhere = Ticket(node=hidden.node_id, addresses={"tls": ("127.0.0.1:9",)})
        two.home.tickets[hidden.node_id] = str(nowhere)
        file = SourceFile(name="w.gguf", sha256=hashlib.sha256(data).hexdigest(), size=len(data))
        await two.share(hidden, W, [taker])
        await two.pull(taker, W, "peer:", two.neurons, files=(file,))
        await here(two, taker, data)


async def test_all_that_have_it_lie_and_there_is_no_origin(tmp_path: Path) -> None:
    data = noise(2)
    async with hub_with(data) as hub, fleet(tmp_path, 2, hub=hub.url) as two:
        liar, victim = two.neurons
        store = await whole(two, liar)
        made_up = noise(2, seed=666)
        store.data.write_bytes(made_up)
        for index in range(2):
            piece = made_up[index * PIECE_BYTES : (index + 1) * PIECE_BYTES]
            store._entries[index] = Entry(hashlib.sha256(piece).digest(), ORIGIN)
        await two.share(liar, W, [victim])
        file = SourceFile(name="w.gguf", sha256=hashlib.sha256(data).hexdigest(), size=len(data))
        await two.pull(victim, W, "peer:", two.neurons, files=(file,))
        record = await settled(victim, W)
        assert record.stage is Stage.FAILED
        assert "was declared" in record.reason
