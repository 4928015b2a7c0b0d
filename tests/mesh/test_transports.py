"""Every transport passes the conformance suite."""

from __future__ import annotations

import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio
import pytest

from helexa.mesh.identity import NodeKey
from helexa.mesh.ticket import Ticket
from helexa.mesh.transports import iroh, tls
from helexa.mesh.transports.memory import MemoryNetwork
from helexa.testing import transport_suite
from helexa.testing.transport_suite import LOOPBACK

pytestmark = pytest.mark.anyio

DOOMED_NODE = """
import importlib
import sys

import anyio
from helexa.mesh.identity import NodeKey
from helexa.mesh.ticket import Ticket
from helexa.testing.transport_suite import LOOPBACK

async def main():
    key = NodeKey.generate()
    transports = importlib.import_module(f"helexa.mesh.transports.{sys.argv[1]}")
    async with transports.open_transport(key, LOOPBACK) as transport:
        ticket = Ticket(node=key.node_id, addresses={transport.name: tuple(transport.addresses)})
        print(ticket, flush=True)
        links = []
        while True:
            links.append(await transport.accept())

anyio.run(main, backend_options={"use_uvloop": True})
"""


@dataclass
class Doomed:
    node_id: str
    addresses: tuple[str, ...]
    die: object


class RealLab:
    """A transport on real sockets; one that dies does so with its process."""

    def __init__(self, name, open_transport):
        self._name = name
        self.open_transport = open_transport

    @asynccontextmanager
    async def doomed(self):
        # Only another process can be killed without its engine or kernel saying goodbye.
        argv = [sys.executable, "-c", DOOMED_NODE, self._name]
        async with await anyio.open_process(argv) as process:
            try:
                ticket = Ticket.parse((await process.stdout.receive()).decode())

                async def die():
                    process.kill()
                    await process.wait()

                yield Doomed(ticket.node, ticket.addresses[self._name], die)
            finally:
                if process.returncode is None:
                    process.kill()


class MemoryLab:
    def __init__(self):
        self.network = MemoryNetwork(silence_s=0.1)
        self.open_transport = self.network.open_transport

    @asynccontextmanager
    async def doomed(self):
        key = NodeKey.generate()
        async with self.open_transport(key, LOOPBACK) as transport:

            async def die():
                self.network.vanish(transport)

            yield Doomed(key.node_id, transport.addresses, die)


LABS = {
    "iroh": lambda: RealLab("iroh", iroh.open_transport),
    "tls": lambda: RealLab("tls", tls.open_transport),
    "memory": MemoryLab,
}


@pytest.mark.parametrize("make_lab", LABS.values(), ids=LABS)
@pytest.mark.parametrize("check", transport_suite.CHECKS, ids=transport_suite.name)
async def test_a_transport_keeps_the_contract(check, make_lab):
    await check(make_lab())
