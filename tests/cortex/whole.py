"""A whole cortex that serves its sockets, and a neuron of a test's own on its mesh."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
from tests.cortex.fleets import capability
from tests.cortex.scripted import BIND, Scripted, hello

from helexa.config import load
from helexa.config.federation import FederationStore
from helexa.cortex.app import Cortex, running
from helexa.cortex.settings import CortexSettings, MeshSettings, ModelEntry, OrchestratorSettings
from helexa.mesh.identity import NodeKey
from helexa.mesh.node import MeshNode
from helexa.mesh.transports.memory import MemoryNetwork
from helexa.protocol.messages import (
    Ok,
    ProvisioningResponse,
    PullModel,
    Register,
    ReportHealth,
    Role,
    Wire,
)
from helexa.protocol.work import Load, ModelProgress, ModelState, Phase, Progress, ReplicaLoad
from helexa.util.background import background
from helexa.util.sockets import Address

LOOPBACK = Address("127.0.0.1", 0)


@dataclass(frozen=True)
class Whole:
    cortex: Cortex
    neuron: Scripted
    token: str

    @property
    def url(self) -> str:
        assert self.cortex.orchestrator_url is not None
        return self.cortex.orchestrator_url


def obedient(message: Wire) -> Wire | None:
    """A neuron that says that it did whatever it was told."""
    if (command := getattr(message, "command", None)) is not None:
        model = message.model  # type: ignore[union-attr]
        return ProvisioningResponse(command=command, model=model, state=ModelState.LOADED)
    return Ok()


def report(sequence: int) -> ReportHealth:
    progress = Progress(phase=Phase.DOWNLOADING, bytes_done=sequence, bytes_total=1_000, eta_s=1.0)
    return ReportHealth(
        load=Load(
            sequence=sequence,
            replicas=(ReplicaLoad(model=capability().model, running=1, slots=4),),
            progress=(ModelProgress(model=capability("comes").model, progress=progress),),
        )
    )


@asynccontextmanager
async def whole(home: Path, *models: ModelEntry) -> AsyncIterator[Whole]:
    """Yields when the neuron `n1` is registered: `m` is loaded there, `cold` is not, and `comes`
    is being pulled.
    """
    network = MemoryNetwork()
    settings = CortexSettings(
        home=home,
        mesh_socket=BIND.bind,
        orchestrator_socket=LOOPBACK,
        mesh=MeshSettings(lan=False, neurons="open"),
        orchestrator=OrchestratorSettings(provision=False),
        models=models,
    )
    policy = FederationStore.of(load({"home": ("--home", str(home.parent))}, {}))
    opens = {"memory": network.open_transport}
    neuron = Scripted(NodeKey.generate())
    neuron.answers = obedient
    transports = {"memory": (network.open_transport, BIND)}
    held = (
        capability(),
        capability("cold", ModelState.UNLOADED),
        capability("comes", ModelState.DOWNLOADING),
    )
    async with (
        running(settings, policy=policy, open_transports=opens) as cortex,
        MeshNode.running(neuron.key, hello(Role.NEURON), transports, neuron) as mesh,
        background() as tasks,
    ):
        tasks.start_soon(mesh.keep_connected, cortex.place.node.ticket())
        with anyio.fail_after(10):
            await neuron.connected.wait()
        register = Register(descriptor=neuron.descriptor("n1"), capabilities=held, ticket="t")
        await neuron.session.ask(register, timeout_s=5)

        async def reports() -> None:
            for sequence in range(1, 100_000):
                await neuron.session.tell(report(sequence))
                await anyio.sleep(0.5)

        async def says() -> None:
            """What a test wants it to announce, one after another once it was told to pull."""
            while True:
                if any(isinstance(one, PullModel) for one in neuron.asked) and neuron.then:
                    await anyio.sleep(0.7)
                    await neuron.session.tell(neuron.then.pop(0))
                await anyio.sleep(0.05)

        tasks.start_soon(reports)
        tasks.start_soon(says)
        yield Whole(cortex, neuron, cortex.admin_token_path.read_text().strip())
