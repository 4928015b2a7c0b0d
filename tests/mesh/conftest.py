"""Links between two nodes, over each transport."""

from __future__ import annotations

from contextlib import asynccontextmanager

import pytest

from helexa.mesh.identity import NodeKey
from helexa.mesh.transports import iroh, tls
from helexa.mesh.transports.memory import MemoryNetwork
from helexa.testing.transport_suite import LOOPBACK


class Roads:
    """A transport's way to open nodes, and two of them joined by one link."""

    def __init__(self, name, open_transport):
        self.name = name
        self.open_transport = open_transport

    @asynccontextmanager
    async def linked(self):
        key = NodeKey.generate()
        async with (
            self.open_transport(NodeKey.generate(), LOOPBACK) as here,
            self.open_transport(key, LOOPBACK) as there,
        ):
            dialled = await here.dial(key.node_id, there.addresses, timeout_s=10)
            yield dialled, await there.accept()


@pytest.fixture(params=["iroh", "tls", "memory"])
def roads(request):
    real = {"iroh": iroh.open_transport, "tls": tls.open_transport}
    if request.param in real:
        return Roads(request.param, real[request.param])
    return Roads("memory", MemoryNetwork(silence_s=30).open_transport)
