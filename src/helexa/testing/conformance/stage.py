"""A neuron for the length of a block, with the model that is looked at."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, cast

import msgspec

from helexa.mesh.transports.memory import MemoryNetwork
from helexa.neuron import budget
from helexa.neuron.app import running
from helexa.neuron.serving.app import Routes
from helexa.neuron.serving.doors import MeshDoor
from helexa.neuron.serving.execute import Executor
from helexa.neuron.serving.metrics import NeuronMetrics
from helexa.neuron.settings import ModelSettings, NeuronSettings
from helexa.neuron.supervisor.roster import Roster, World
from helexa.runtime.contract import Capabilities, ModelFiles, RuntimeAdapter
from helexa.testing.conformance.knowledge import ANY, DEMO, ECHO, VISION_DEMO, Knowledge
from helexa.testing.conformance.subject import PATIENCE_S, Subject
from helexa.testing.fake_runtime import FakeRuntime, Shelf
from helexa.util.http_server import ServerLimits, serving
from helexa.util.sockets import Address, listen_tcp
from helexa.util.upstream import Pool, Tcp

SLOTS: Final = 2
CONTEXT_TOKENS: Final = 1024
_KNOWN: Final = {"helexa-demo": DEMO, "helexa-demo-vision": VISION_DEMO}


@asynccontextmanager
async def staged_fake(fake: FakeRuntime, model: str = "m") -> AsyncIterator[Subject]:
    """A runtime that is in no folder, and its model that is on no disk."""

    def find(_files: ModelFiles, _name: str) -> tuple[RuntimeAdapter, Capabilities]:
        # Its name is frozen, which is more than the protocol asks for.
        return cast("RuntimeAdapter", fake), fake.offered

    room = budget.Memory(total=1 << 30, available=1 << 30, reserve=0)
    served = ModelSettings(slots=SLOTS, context_tokens=CONTEXT_TOKENS)
    settings = NeuronSettings(home=Path(), models_dir=Path(), models={model: served})
    with tempfile.TemporaryDirectory(prefix="hx-") as folder:
        world = World(
            memory=lambda: room,
            run=Path(folder),
            find_adapter=find,
        )
        roster = Roster(Shelf({model: 1}), settings, world)
        metrics = NeuronMetrics(roster)
        executor = Executor(
            roster, metrics, body_bytes_max=settings.body_bytes_max, keepalive_s=10.0
        )
        routes = Routes(roster, executor, metrics.metrics, dict)
        listener = listen_tcp(Address("127.0.0.1", 0))
        async with (
            roster.running(),
            serving(
                routes.behind(MeshDoor(), management=True),
                [listener],
                ServerLimits(),
                error_body=lambda _status, _message: b"{}",
                shutdown_grace_s=1.0,
            ),
            Pool(Tcp("127.0.0.1", listener.getsockname()[1])).running() as client,
        ):
            yield Subject(model=model, roster=roster, client=client, knowledge=ECHO)


def usually(arguments: tuple[str, ...] = (), **more: Any) -> ModelSettings:
    """How a model is served that is looked at; `arguments` are for its runtime."""
    usual = ModelSettings(slots=SLOTS, context_tokens=CONTEXT_TOKENS, arguments=arguments)
    return msgspec.structs.replace(usual, **more)


def knowledge_of(model: str) -> Knowledge:
    """By the beginning of its name: the demo models in whatever form they were made into."""
    for name in sorted(_KNOWN, key=len, reverse=True):
        if model.rpartition("/")[2].startswith(name):
            return _KNOWN[name]
    return ANY


@asynccontextmanager
async def staged(
    model: str,
    *,
    runtime: str,
    models_dir: Path | None = None,
    served: ModelSettings | None = None,
    more: Mapping[str, Any] | None = None,
    knowledge: Knowledge | None = None,
    cannot: Mapping[str, str] | None = None,
    patience_s: float = PATIENCE_S,
) -> AsyncIterator[Subject]:
    """The model by this runtime in a neuron of its own; `more` are further neuron settings."""
    how = msgspec.structs.replace(served or usually(), runtime=runtime)
    with tempfile.TemporaryDirectory(prefix="hx-") as folder:
        home = Path(folder)
        settings = NeuronSettings(
            **{
                "home": home / "home",
                "models_dir": models_dir or home / "models",
                "api_socket": Address("127.0.0.1", 0),
                "control_socket": Address("memory", 0),
                "memory_reserve": 0,
                "lan": False,
                "shutdown_grace_s": 1.0,
                "models": {model: how},
                **(more or {}),
            }
        )
        transports = {"memory": MemoryNetwork().open_transport}
        async with running(settings, open_transports=transports) as neuron:
            port = int(neuron.api_url.rpartition(":")[2])
            async with Pool(Tcp("127.0.0.1", port)).running() as client:
                yield Subject(
                    model=model,
                    roster=neuron.roster,
                    client=client,
                    knowledge=knowledge or knowledge_of(model),
                    token=neuron.admin_token_path.read_text().strip(),
                    cannot=cannot or {},
                    patience_s=patience_s,
                    url=neuron.api_url,
                )
