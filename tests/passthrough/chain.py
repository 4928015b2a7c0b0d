"""A gateway, a neuron and a child process that writes down what it was asked: all real but the
model.
"""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio.from_thread
from anyio.from_thread import BlockingPortal
from tests.gateway.parts import KEY, MODEL, Answer, MemoryFleet, MemoryKeys, MemoryWay
from tests.neuron.bench import bench

from helexa.cortex.gateway.app import gateway
from helexa.cortex.settings import CortexSettings
from helexa.protocol.ids import NodeId
from helexa.testing.fake_runtime import FakeRuntime
from helexa.util.http_server import ServerLimits, serving
from helexa.util.metrics import Metrics
from helexa.util.sockets import Address, listen_tcp
from helexa.util.upstream import Pool, Tcp

CONTEXT_TOKENS = 1 << 20
_NOTHING = (
    b'data: {"choices":[{"index":0,"delta":{"content":"."},"text":".","finish_reason":"stop"}]}\n\n'
)
_COUNTS = b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1}}\n\n'
USUAL = _NOTHING + _COUNTS + b"data: [DONE]\n\n"


@dataclass
class Chain:
    portal: BlockingPortal
    client: Pool
    heard: Path
    says: Path

    def ask(self, path: str, body: bytes) -> Answer:
        return self.portal.call(self._ask, path, body)

    async def _ask(self, path: str, body: bytes) -> Answer:
        headers = [(b"authorization", b"Bearer " + KEY.encode())]
        with anyio.fail_after(30):
            with await self.client.request("POST", path, headers, body) as response:
                return Answer(response, await response.read(1 << 24))

    def received(self, path: str, body: bytes, says: bytes = USUAL) -> str:
        """What the runtime was asked for a request that was answered."""
        self.heard.unlink(missing_ok=True)
        self.says.write_bytes(says)
        answer = self.ask(path, body)
        assert answer.status == 200, answer.body
        return self.heard.read_bytes().decode()


@contextmanager
def chain() -> Iterator[Chain]:
    with (
        anyio.from_thread.start_blocking_portal("asyncio", {"use_uvloop": True}) as portal,
        portal.wrap_async_context_manager(_chain(portal)) as made,
    ):
        yield made


@asynccontextmanager
async def _chain(portal: BlockingPortal) -> AsyncIterator[Chain]:
    with tempfile.TemporaryDirectory(prefix="hx-") as folder:
        heard, says = Path(folder) / "heard", Path(folder) / "says"
        says.write_bytes(USUAL)
        flags = ("--records", str(heard), "--recites", str(says))
        fake = FakeRuntime(flags={MODEL: flags})
        async with bench(fake, {MODEL: 1}, context_tokens=CONTEXT_TOKENS) as neuron:
            fleet = MemoryFleet()
            fleet.ways[NodeId("0" * 64)] = MemoryWay(neuron.client, ())
            app = gateway(
                CortexSettings(home=Path("/nowhere")),
                keys=MemoryKeys(),
                fleet=fleet,
                metrics=Metrics(),
            )
            listener = listen_tcp(Address("127.0.0.1", 0))
            port = listener.getsockname()[1]
            async with (
                serving(
                    app,
                    [listener],
                    ServerLimits(),
                    error_body=lambda _status, _message: b"{}",
                    shutdown_grace_s=1.0,
                ),
                Pool(Tcp("127.0.0.1", port)).running() as client,
            ):
                yield Chain(portal, client, heard, says)
