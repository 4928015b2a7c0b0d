"""The control protocol over a link, on the real transport and on the one in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest

from helexa.mesh.identity import NodeKey
from helexa.mesh.session import Inbound, Session
from helexa.mesh.transport import Link, OpenTransport, TransportSettings
from helexa.mesh.transports import iroh
from helexa.mesh.transports.memory import MemoryNetwork
from helexa.protocol.messages import (
    Drain,
    Hello,
    Ok,
    Role,
    Wire,
)
from helexa.util.sockets import Address

pytestmark = pytest.mark.anyio
LOOPBACK = TransportSettings(bind=Address("127.0.0.1", 0))


@pytest.fixture(params=["iroh", "memory"])
def open_transport(request) -> OpenTransport:
    if request.param == "iroh":
        return iroh.open_transport
    return MemoryNetwork(silence_s=0.2).open_transport


@asynccontextmanager
async def linked(open_transport: OpenTransport) -> AsyncIterator[tuple[Link, Link]]:
    async with (
        open_transport(NodeKey.generate(), LOOPBACK) as here,
        open_transport(accepting := NodeKey.generate(), LOOPBACK) as there,
    ):
        dialled = await here.dial(accepting.node_id, there.addresses, timeout_s=5)
        yield dialled, await there.accept()


async def test_an_ask_gets_its_answer(open_transport):
    async def answer(inbound: Inbound) -> Wire:
        return Ok()

    async def nothing(session, request, stream):
        pass

    hello = Hello(role=Role.NEURON, lowest=1, highest=1)

    async def side(link, scope):
        async with Session.running(link, hello, answer, nothing) as session:
            assert await session.ask(Drain()) == Ok()
            await session.wait_closed()

    async with linked(open_transport) as (one, other), anyio.create_task_group() as tasks:
        tasks.start_soon(side, other, None)
        async with Session.running(one, hello, answer, nothing) as session:
            assert await session.ask(Drain()) == Ok()
