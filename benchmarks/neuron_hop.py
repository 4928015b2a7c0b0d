"""The measured neuron: its API as it is, over one child, and nothing else of a node.

    python -m benchmarks.neuron_hop PORT mock BINARY
    python -m benchmarks.neuron_hop PORT llama_cpp FILE.gguf [SLOTS]

With `mock` the child is the upstream instrument, which costs next to nothing, so that what
the process uses is the neuron's own; with `llama_cpp` it is the real runtime. One line of
JSON is printed once it serves: where the child itself answers.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import anyio
import uvloop

from benchmarks.supervisor import Undigested
from helexa.neuron import budget
from helexa.neuron.models.digests import Digests
from helexa.neuron.models.store import ModelStore
from helexa.neuron.serving.app import Routes
from helexa.neuron.serving.doors import MeshDoor
from helexa.neuron.serving.execute import Executor
from helexa.neuron.serving.metrics import NeuronMetrics
from helexa.neuron.settings import NeuronSettings
from helexa.neuron.supervisor.catalogue import Catalogue
from helexa.neuron.supervisor.roster import Roster, World
from helexa.protocol.errors import http_refusal
from helexa.runtime import adapters
from helexa.runtime.contract import Grant, LaunchPlan, ReplicaSpec
from helexa.testing.fake_runtime import OFFERED, FakeRuntime, Shelf
from helexa.util import collector
from helexa.util.http_server import ServerLimits, serving
from helexa.util.sockets import Address, listen_tcp
from helexa.util.upstream import Tcp

CONTEXT_TOKENS = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class Instrument(FakeRuntime):
    binary: str

    def plan(self, spec: ReplicaSpec, grant: Grant) -> LaunchPlan:
        del spec
        return LaunchPlan(argv=(self.binary, str(grant.port)), reach=Tcp("127.0.0.1", grant.port))


async def main(port: int, kind: str, what: str, slots: int) -> None:
    with tempfile.TemporaryDirectory(prefix="hx-") as run:
        home = Path(run)
        folder = Path(what).parent
        settings = NeuronSettings(
            home=home, models_dir=folder, slots=slots, context_tokens=CONTEXT_TOKENS
        )
        digests = Digests(home / "digests.json")
        store: Catalogue = Shelf({"m": 1 << 20})
        fake = Instrument(binary=what)
        find = lambda _files, _name: (fake, OFFERED)  # noqa: E731
        if kind == "llama_cpp":
            files = ModelStore(folder, digests, demo_folder=None)
            await files.scan()
            store, find = Undigested(files), adapters.adapter_for
        memory = budget.Memory(total=1 << 40, available=1 << 40, reserve=0)
        world = World(memory=lambda: memory, run=home, threads=1, find_adapter=find)
        roster = Roster(store, settings, world)
        model = next(iter(store.models)) if kind == "mock" else Path(what).stem
        async with digests.running(), roster.running():
            metrics = NeuronMetrics(roster)
            executor = Executor(roster, metrics, body_bytes_max=1 << 25, keepalive_s=10.0)
            routes = Routes(roster, executor, metrics.metrics, dict)
            await roster.load(model)
            engine = (await roster.replica(model)).engine
            assert engine is not None
            listener = listen_tcp(Address("127.0.0.1", port))
            async with serving(
                routes.behind(MeshDoor()),
                [listener],
                ServerLimits(),
                error_body=http_refusal,
                shutdown_grace_s=1.0,
            ):
                facts = {"model": model, "child": engine.pool.label, "pid": engine.process.pid}
                sys.stdout.write(json.dumps(facts) + "\n")
                sys.stdout.flush()
                collector.calm()  # As `helexa neuron` does when it serves.
                await anyio.sleep_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), sys.argv[2], sys.argv[3], int((*sys.argv, "8")[4])))
