"""A neuron that does what a test says, on the far end of a real session over the memory mesh."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anyio

from helexa.cortex.orchestrator import policies
from helexa.cortex.orchestrator.live_policy import FixedPolicy
from helexa.cortex.orchestrator.neurons import Neurons
from helexa.cortex.orchestrator.place.opening import opened
from helexa.cortex.orchestrator.reception import Timing
from helexa.cortex.settings import CortexSettings, MeshSettings
from helexa.mesh.identity import NodeKey
from helexa.mesh.node import MeshNode
from helexa.mesh.sessions.session import Inbound, Session
from helexa.mesh.transport import Stream, TransportSettings
from helexa.mesh.transports.memory import MemoryNetwork
from helexa.protocol.ids import OperatorId
from helexa.protocol.messages import ExecuteRequest, Hello, Ok, Role, Wire
from helexa.protocol.version import VERSION, VERSION_MIN
from helexa.protocol.work import Fingerprint, NeuronDescriptor
from helexa.util.background import background
from helexa.util.sockets import Address

BIND = TransportSettings(bind=Address("127.0.0.1", 0))


def hello(role: Role) -> Hello:
    return Hello(role=role, lowest=VERSION_MIN, highest=VERSION)


class Fabric:
    """One cortex's mesh side, and a network on which scripted neurons find it."""

    def __init__(self, network: MemoryNetwork, mesh: MeshNode, neurons: Neurons) -> None:
        self.network = network
        self.mesh = mesh
        self.neurons = neurons
        self._seen: list[dict[str, Any]] = []
        self._news = anyio.Event()

    def heard(self, event: Any) -> None:
        self._seen.append(dict(event))
        self._news.set()
        self._news = anyio.Event()

    async def wait_event(self, name: str) -> dict[str, Any]:
        with anyio.fail_after(10):
            while True:
                for event in self._seen:
                    if event["event"] == name:
                        self._seen.remove(event)
                        return event
                await self._news.wait()


@asynccontextmanager
async def fabric() -> AsyncIterator[Fabric]:
    network = MemoryNetwork()
    late: list[Fabric] = []
    neurons = Neurons(
        policy=policies.named("least_loaded"),
        timing=Timing(0.5, 2.0),
        name="test",
        monotonic=anyio.current_time,
        random=random.Random(1).random,
        events=lambda event: late[0].heard(event),  # noqa: PLW0108 - `late` is filled below
    )
    with TemporaryDirectory() as home:
        settings = CortexSettings(
            home=Path(home),
            mesh_socket=BIND.bind,
            mesh=MeshSettings(lan=False, neurons="open"),
        )
        running = opened(
            settings,
            NodeKey.generate(),
            neurons,
            policy=FixedPolicy(settings.federation),
            roles=(),
            lends=False,
            open_transports={"memory": network.open_transport},
        )
        async with running as place:
            late.append(Fabric(network, place.node, neurons))
            yield late[0]


class Scripted:
    """The neuron's side: its session once there is one, and what it answers."""

    def __init__(self, key: NodeKey) -> None:
        self.key = key
        self.node = key.node_id
        self.answers: Callable[[Wire], Wire | None] = lambda _message: Ok()
        self.asked: list[Wire] = []
        self.then: list[Wire] = []
        """What it says of itself afterwards, for those tests that let it."""
        self.session: Session
        self.mesh: MeshNode
        self.connected = anyio.Event()
        self.serve: Callable[[Stream], Any] | None = None

    def descriptor(self, name: str = "scripted") -> NeuronDescriptor:
        return NeuronDescriptor(
            node=self.node,
            operator=OperatorId(self.node),
            version="0",
            name=name,
            hardware=Fingerprint(machine="x", system="y"),
        )

    async def on_session(self, session: Session) -> None:
        self.session = session
        self.connected.set()
        await session.wait_closed()

    async def on_message(self, inbound: Inbound) -> Wire | None:
        self.asked.append(inbound.message)
        return self.answers(inbound.message)

    async def on_stream(self, _session: Session, _request: ExecuteRequest, stream: Stream) -> None:
        assert self.serve is not None
        await self.serve(stream)


@asynccontextmanager
async def scripted(world: Fabric, key: NodeKey | None = None) -> AsyncIterator[Scripted]:
    """A connected neuron that has not registered yet."""
    neuron = Scripted(key or NodeKey.generate())
    transports = {"memory": (world.network.open_transport, BIND)}
    running = MeshNode.running(neuron.key, hello(Role.NEURON), transports, neuron)
    async with running as mesh, background() as tasks:
        neuron.mesh = mesh
        tasks.start_soon(mesh.keep_connected, world.mesh.ticket())
        with anyio.fail_after(10):
            await neuron.connected.wait()
        yield neuron
