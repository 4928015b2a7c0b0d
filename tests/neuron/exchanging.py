"""Real neurons on loopback, and the cortex that tells them to pull and to share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio

from helexa.mesh.identity import NodeKey
from helexa.mesh.node import MeshNode
from helexa.mesh.sessions.session import Inbound, Session
from helexa.mesh.transport import Stream, TransportSettings
from helexa.mesh.transports import load_all
from helexa.neuron.app import Neuron, running
from helexa.neuron.models.supply.piece import PieceStore
from helexa.neuron.models.supply.records import Record
from helexa.neuron.settings import NeuronSettings
from helexa.protocol.ids import ModelId, NodeId
from helexa.protocol.messages import (
    ExecuteRequest,
    Hello,
    ModelSource,
    PieceHolder,
    PullModel,
    Register,
    Registered,
    Role,
    SharePieces,
    SourceFile,
    Wire,
)
from helexa.protocol.version import VERSION, VERSION_MIN
from helexa.util.sockets import Address

PATIENCE_S = 90.0
LOOPBACK = Address("127.0.0.1", 0)


class Home:
    """The cortex: it takes everybody in, and says what it is told to say."""

    def __init__(self) -> None:
        self.mesh: MeshNode
        self.sessions: dict[NodeId, Session] = {}
        self.tickets: dict[NodeId, str] = {}
        self._news = anyio.Event()

    async def until(self, holds: Callable[[], Any]) -> None:
        with anyio.fail_after(PATIENCE_S):
            while not holds():
                await self._news.wait()

    def holder(self, node: NodeId) -> PieceHolder:
        return PieceHolder(node=node, ticket=self.tickets[node])

    async def ask(self, node: NodeId, message: Wire) -> Wire:
        return await self.sessions[node].ask(message, timeout_s=PATIENCE_S)

    # --- helexa.mesh.node.Host

    async def on_session(self, session: Session) -> None:
        self.sessions[session.peer] = session
        await session.wait_closed()

    async def on_message(self, inbound: Inbound) -> Wire | None:
        if not isinstance(inbound.message, Register):
            return None
        self.tickets[inbound.session.peer] = inbound.message.ticket
        news, self._news = self._news, anyio.Event()
        news.set()
        return Registered(health_every_s=1.0)

    async def on_stream(self, session: Session, request: ExecuteRequest, stream: Stream) -> None:
        raise AssertionError("neurons open no streams to cortexes")


@dataclass
class Fleet:
    folder: Path
    home: Home
    neurons: list[Neuron] = field(default_factory=list)

    def models(self, number: int) -> Path:
        return self.folder / f"n{number}" / "models"

    @asynccontextmanager
    async def another(self, **more: Any) -> AsyncIterator[Neuron]:
        """One more neuron, registered."""
        home = self.folder / f"n{len(self.neurons)}"
        wanted: dict[str, Any] = {
            "home": home,
            "models_dir": home / "models",
            "control_socket": LOOPBACK,
            "api_socket": LOOPBACK,
            "cortexes": (str(self.home.mesh.ticket()),),
            "demo_models": False,
            "disk_reserve": 0,
            "pull_stall_s": 5.0,
            "shutdown_grace_s": 0.0,
            "lan": False,
        }
        settings = NeuronSettings(**(wanted | more))
        async with running(settings, open_transports=load_all(("tls",), each=True)) as neuron:
            self.neurons.append(neuron)
            await self.home.until(lambda: neuron.node_id in self.home.tickets)
            yield neuron

    async def pull(
        self,
        neuron: Neuron,
        model: str,
        source: str,
        peers: Iterable[Neuron],
        files: tuple[SourceFile, ...] = (),
    ) -> None:
        """Begun."""
        holders = tuple(self.home.holder(one.node_id) for one in peers if one is not neuron)
        wanted = ModelSource(source=source, files=files)
        asked = PullModel(command="c", model=ModelId(model), source=wanted, peers=holders)
        with anyio.CancelScope() as first_word:
            await self.home.sessions[neuron.node_id].ask(
                asked, timeout_s=PATIENCE_S, on_progress=lambda _: first_word.cancel()
            )

    async def share(self, neuron: Neuron, model: str, takers: Iterable[Neuron]) -> None:
        holders = tuple(self.home.holder(one.node_id) for one in takers if one is not neuron)
        await self.home.ask(neuron.node_id, SharePieces(model=ModelId(model), peers=holders))


async def settled(neuron: Neuron, model: str) -> Record:
    with anyio.fail_after(PATIENCE_S):
        record = await neuron.pulls.settled(ModelId(model))
    assert record is not None
    return record


async def begun(neuron: Neuron, model: str, pieces: int) -> PieceStore:
    """The store of its one file, once it has so many pieces."""
    looked = anyio.Event()

    def look() -> None:
        stores = neuron.pulls.of_model(ModelId(model))
        if stores and stores[0].have_count >= pieces:
            looked.set()

    # Told of every change of its list; pieces are none, so the store is watched besides.
    neuron.roster.observe(look)
    look()
    with anyio.fail_after(PATIENCE_S):
        while not looked.is_set():
            stores = neuron.pulls.of_model(ModelId(model))
            if stores:
                with stores[0].observe(lambda _: look()):
                    look()
                    await looked.wait()
            else:
                with anyio.move_on_after(0.05):
                    await looked.wait()
    return neuron.pulls.of_model(ModelId(model))[0]


@asynccontextmanager
async def fleet(folder: Path, count: int, **more: Any) -> AsyncIterator[Fleet]:
    home = Home()
    hello = Hello(role=Role.CORTEX, lowest=VERSION_MIN, highest=VERSION)
    transports = {
        name: (opener, TransportSettings(bind=LOOPBACK))
        for name, opener in load_all(("tls",), each=True).items()
    }
    async with (
        MeshNode.running(NodeKey.generate(), hello, transports, home) as home.mesh,
        AsyncExitStack() as stack,
    ):
        made = Fleet(folder, home)
        for _ in range(count):
            await stack.enter_async_context(made.another(**more))
        yield made
