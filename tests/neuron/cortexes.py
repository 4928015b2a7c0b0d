"""A cortex that remembers what a neuron told it, on the far end of a real session in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import anyio

from helexa.mesh.identity import NodeKey
from helexa.mesh.node import MeshNode
from helexa.mesh.sessions.session import Inbound, Session
from helexa.mesh.transport import Stream, TransportSettings
from helexa.mesh.transports.memory import MemoryNetwork
from helexa.protocol.ids import ModelId
from helexa.protocol.messages import (
    AnnounceCapabilities,
    ExecuteRequest,
    Goodbye,
    Hello,
    ProvisioningResponse,
    Register,
    Registered,
    ReportHealth,
    Role,
    Wire,
)
from helexa.protocol.version import VERSION, VERSION_MIN
from helexa.protocol.work import ModelState
from helexa.util.sockets import Address

T = TypeVar("T")
PATIENCE_S = 30.0


class Cortex:
    """Its session with the one neuron, and everything that came over it."""

    def __init__(self) -> None:
        self.mesh: MeshNode
        self.session: Session | None = None
        self.sessions = 0
        self.told: list[Wire] = []
        self._news = anyio.Event()

    async def until(self, seen: Callable[[], T | None]) -> T:
        """Wait until `seen` finds something in what was told."""
        with anyio.fail_after(PATIENCE_S):
            while (found := seen()) is None:
                await self._news.wait()
            return found

    async def heard(self, kind: type[T]) -> T:
        return await self.until(
            lambda: next((each for each in self.told if isinstance(each, kind)), None)
        )

    async def state(self, model: str, state: ModelState) -> None:
        """Wait for an announcement that says so."""

        def announced() -> bool | None:
            latest = [one for one in self.told if isinstance(one, AnnounceCapabilities)][-1:]
            found = [c for one in latest for c in one.capabilities if c.model == model]
            return True if found and found[0].state is state else None

        await self.until(announced)

    async def connected(self) -> Session:
        return await self.until(lambda: self.session)

    async def ask(self, message: Wire) -> Wire:
        return await (await self.connected()).ask(message, timeout_s=PATIENCE_S)

    async def begin(self, message: Wire) -> ProvisioningResponse:
        """The first word on how it goes."""
        said: list[ProvisioningResponse] = []
        with anyio.CancelScope() as scope:

            def hear(progress: ProvisioningResponse) -> None:
                said.append(progress)
                scope.cancel()

            session = await self.connected()
            await session.ask(message, timeout_s=PATIENCE_S, on_progress=hear)
        return said[0]

    # --- helexa.mesh.node.Host

    async def on_session(self, session: Session) -> None:
        self.session, self.sessions = session, self.sessions + 1
        self._tell()
        await session.wait_closed()
        self.session = None
        self._tell()

    async def on_message(self, inbound: Inbound) -> Wire | None:
        self.told.append(inbound.message)
        self._tell()
        match inbound.message:
            case Register():
                return Registered(health_every_s=0.1, name="test")
            case AnnounceCapabilities() | ReportHealth() | Goodbye():
                return None
            case _:
                raise AssertionError(f"a neuron said {inbound.message}")

    async def on_stream(self, session: Session, request: ExecuteRequest, stream: Stream) -> None:
        raise AssertionError("neurons open no streams")

    def _tell(self) -> None:
        news, self._news = self._news, anyio.Event()
        news.set()


@asynccontextmanager
async def cortex(network: MemoryNetwork, *, role: Role = Role.CORTEX) -> AsyncIterator[Cortex]:
    made = Cortex()
    hello = Hello(role=role, lowest=VERSION_MIN, highest=VERSION)
    settings = TransportSettings(bind=Address("memory", 0))
    async with MeshNode.running(
        NodeKey.generate(), hello, {"iroh": (network.open_transport, settings)}, made
    ) as made.mesh:
        yield made


MODEL = ModelId("tiny")
