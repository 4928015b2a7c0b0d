"""The measured gateway: everything on the way of a request is the real thing, and the one neuron
behind it is a plain TCP upstream.

    python -m benchmarks.hop LISTEN_PORT UPSTREAM_PORT

Key check against the database, fleet view, scheduler, admission and metrics are
on. Only the mesh link is missing: the upstream instrument cannot register itself.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from pathlib import Path

import anyio
import uvloop

from helexa.cortex.accounts.keys import open_keys
from helexa.cortex.gateway.app import gateway
from helexa.cortex.orchestrator import policies
from helexa.cortex.orchestrator.fabric import Fabric
from helexa.cortex.orchestrator.federation.peers import Peers
from helexa.cortex.orchestrator.federation.terms import Terms
from helexa.cortex.orchestrator.neurons import Neurons, Timing, Way
from helexa.cortex.settings import CortexSettings, FederationSettings
from helexa.mesh.trust import Standing, Trust
from helexa.protocol.errors import http_refusal
from helexa.protocol.ids import ModelId, NodeId, OperatorId
from helexa.protocol.messages import Register
from helexa.protocol.work import (
    Fingerprint,
    ModelCapability,
    ModelState,
    NeuronDescriptor,
    WorkloadClass,
)
from helexa.util import collector
from helexa.util.http_server import ServerLimits, serving
from helexa.util.metrics import Metrics
from helexa.util.sockets import Address, listen_tcp
from helexa.util.upstream import Pool, Tcp

MODEL = ModelId("m")


def one_neuron() -> Register:
    node = NodeId("ab" * 32)
    return Register(
        descriptor=NeuronDescriptor(
            node=node,
            operator=OperatorId(node),
            version="bench",
            hardware=Fingerprint(machine="x86_64", system="Linux"),
        ),
        capabilities=(
            ModelCapability(
                model=MODEL,
                state=ModelState.LOADED,
                classes=(WorkloadClass.CHAT_INTERACTIVE, WorkloadClass.COMPLETION),
                slots=1024,
            ),
        ),
    )


async def main(port: int, upstream_port: int, home: Path) -> None:
    with open_keys(home) as keys:
        async with Pool(Tcp("127.0.0.1", upstream_port)).running() as pool:
            fleet = alone(neurons_on(pool))
            app = gateway(CortexSettings(home=home), keys=keys, fleet=fleet, metrics=Metrics())
            async with serving(
                app,
                [listen_tcp(Address("127.0.0.1", port))],
                ServerLimits(),
                error_body=http_refusal,
                shutdown_grace_s=0,
            ):
                collector.calm()  # As `helexa cortex` does when it serves.
                print(keys.create("bench").secret, flush=True)
                await anyio.sleep_forever()


def neurons_on(pool: Pool) -> Neurons:
    """The one neuron, registered and reached by the pool."""
    neurons = Neurons(
        policy=policies.named("prefix_affinity"),
        timing=Timing(1.0, 4.0),
        name="bench",
        monotonic=time.monotonic,
        random=random.random,
    )
    register = one_neuron()
    reception = neurons.reception()
    reception.node = register.descriptor.node
    reception.way = Way("tcp", pool, ())
    neurons.enter(reception, register)
    return neurons


def alone(neurons: Neurons) -> Fabric:
    """What a gateway routes over in a cortex that knows no other."""
    terms = Terms.of(FederationSettings())
    peers = Peers(neurons, terms, monotonic=time.monotonic)
    node = NodeId("0" * 64)
    own = Standing(node=node, operator=OperatorId(node), trust=Trust.OWN)
    return Fabric(neurons, peers, own, random=random.random)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        uvloop.run(main(int(sys.argv[1]), int(sys.argv[2]), Path(scratch)))
