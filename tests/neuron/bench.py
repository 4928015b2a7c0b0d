"""What the neuron's tests stand on: a journal that hears fake children, a roster and an API."""

from __future__ import annotations

import asyncio
import json
import socket
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import psutil

from helexa.neuron import budget
from helexa.neuron.serving.app import Routes
from helexa.neuron.serving.doors import Door, MeshDoor
from helexa.neuron.serving.execute import Executor
from helexa.neuron.serving.metrics import NeuronMetrics
from helexa.neuron.serving.pictures.composition import pictures_of
from helexa.neuron.settings import NeuronSettings
from helexa.neuron.supervisor.grants import Machine
from helexa.neuron.supervisor.roster import Roster, World
from helexa.testing.fake_runtime import OFFERED, FakeRuntime, Shelf
from helexa.util.http_server import ServerLimits, serving
from helexa.util.sockets import Address, listen_tcp
from helexa.util.upstream import Pool, Tcp

PATIENCE_S = 30.0


class Journal:
    """What fake children say, in order."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.setblocking(False)

    async def heard(self, event: str) -> dict[str, Any]:
        """The next note of that kind; others before it are skipped."""
        with anyio.fail_after(PATIENCE_S):
            while True:
                note = json.loads(await asyncio.get_running_loop().sock_recv(self._socket, 1 << 16))
                if note["event"] == event:
                    return note

    def close(self) -> None:
        self._socket.close()


def is_alive(pid: int) -> bool:
    """A zombie that nobody has reaped yet holds nothing any more."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@dataclass
class Bench:
    """A roster and the neuron's HTTP API over it, without a mesh."""

    roster: Roster
    executor: Executor
    client: Pool
    port: int

    async def post(self, path: str, body: Any, *, headers: dict[str, str] | None = None) -> Reply:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self._ask("POST", path, data, headers)

    async def get(self, path: str, headers: dict[str, str] | None = None) -> Reply:
        return await self._ask("GET", path, b"", headers)

    async def _ask(
        self, method: str, path: str, body: bytes, headers: dict[str, str] | None
    ) -> Reply:
        sent = [(k.encode(), v.encode()) for k, v in (headers or {}).items()]
        with anyio.fail_after(PATIENCE_S):
            with await self.client.request(method, path, sent, body) as response:
                content = await response.read(1 << 24)
                return Reply(response.status, dict(response.headers), content)


@dataclass
class Reply:
    status: int
    headers: dict[bytes, bytes]
    content: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.content)

    @property
    def error(self) -> dict[str, Any]:
        return self.json["error"]

    @property
    def events(self) -> list[Any]:
        """Payloads of an event stream, comments left out."""
        return events_of(self.content)


def events_of(content: bytes) -> list[Any]:
    payloads = [
        event.removeprefix(b"data: ")
        for event in content.split(b"\n\n")
        if event.startswith(b"data: ")
    ]
    return ["[DONE]" if each == b"[DONE]" else json.loads(each) for each in payloads]


@asynccontextmanager
async def bench(
    fake: FakeRuntime,
    models: dict[str, int],
    /,
    *,
    memory_bytes: int = 1 << 30,
    keepalive_s: float = 10.0,
    door: Door | None = None,
    machine: Machine | None = None,
    **settings: Any,
) -> AsyncIterator[Bench]:
    """Asked as by a cortex, unless another `door` is named."""
    wanted = NeuronSettings(home=Path("/nowhere"), models_dir=Path("/nowhere"), **settings)
    with tempfile.TemporaryDirectory(prefix="hx-") as run:
        async with _bench(
            fake, models, Path(run), memory_bytes, keepalive_s, wanted, door or MeshDoor(), machine
        ) as live:
            yield live


@asynccontextmanager
async def _bench(
    fake: FakeRuntime,
    models: dict[str, int],
    run: Path,
    memory_bytes: int,
    keepalive_s: float,
    wanted: NeuronSettings,
    door: Door,
    machine: Machine | None,
) -> AsyncIterator[Bench]:
    memory = budget.Memory(total=memory_bytes, available=memory_bytes, reserve=0)
    world = World(
        memory=lambda: memory,
        machine=machine or Machine(),
        run=run,
        random=lambda: 0.0,
        find_adapter=lambda _files, _name: (fake, OFFERED),
    )
    roster = Roster(Shelf(models), wanted, world)
    metrics = NeuronMetrics(roster)
    executor = Executor(
        roster,
        metrics,
        body_bytes_max=wanted.body_bytes_max,
        keepalive_s=keepalive_s,
        pictures=pictures_of(wanted),
    )
    routes = Routes(roster, executor, metrics.metrics, dict)
    listener = listen_tcp(Address("127.0.0.1", 0))
    port = listener.getsockname()[1]
    async with (
        roster.running(),
        serving(
            routes.behind(door, management=True),
            [listener],
            ServerLimits(),
            error_body=lambda _status, _message: b"{}",
            shutdown_grace_s=1.0,
        ),
        Pool(Tcp("127.0.0.1", port)).running() as client,
    ):
        yield Bench(roster, executor, client, port)
