"""Whole cortexes in one process: their place in the mesh, without gateways."""

from __future__ import annotations

import random
import time
from contextlib import asynccontextmanager

import anyio
from tests.mesh.meshes import QUICK

from helexa.cortex.orchestrator import policies
from helexa.cortex.orchestrator.live_policy import FixedPolicy
from helexa.cortex.orchestrator.neurons import Neurons
from helexa.cortex.orchestrator.place import opening
from helexa.cortex.orchestrator.place.opening import opened
from helexa.cortex.orchestrator.reception import Timing
from helexa.cortex.settings import CortexSettings, FederationSettings, MeshSettings
from helexa.mesh.identity import NodeKey
from helexa.mesh.membership.events import State
from helexa.mesh.membership.presets import PRESETS
from helexa.util.sockets import Address

LOOPBACK = Address("127.0.0.1", 0)
ELSEWHERE = Address("192.0.2.1", 0)
"""An address that is near to nobody, for the memory network."""
WAIT_S = 15


class Cortex:
    def __init__(self, home):
        self.home = home
        self.key = NodeKey.load_or_create(home / "node.key")
        self.id = self.key.node_id
        self.events = []
        self.place = None

    @property
    def control(self):
        return self.place.control

    @property
    def core(self):
        return self.place.overlay.core

    @property
    def ticket(self):
        return self.place.node.ticket()

    def state_of(self, other):
        member = self.core.members.get(other.id)
        return member.state if member is not None else None

    def holds_alive(self, *others):
        return all(self.state_of(other) is State.ALIVE for other in others)

    async def join(self, other, *, ticket=None):
        """As `helexa mesh join` does; the steps by name."""
        report = await self.control.join(ticket or str(other.ticket), lambda _step: None)
        return report["joined"], {step["name"]: step for step in report["steps"]}

    async def meet(self, other):
        joined, steps = await self.join(other)
        assert joined, steps
        await until(lambda: self.holds_alive(other) and other.holds_alive(self))

    def trusts(self, other):
        return self.place.acquaintances.standing_of(other.id).trust

    def happened(self, name, **fields):
        return [
            event
            for event in self.events
            if event["event"] == name and fields.items() <= event.items()
        ]


@asynccontextmanager
async def cortex(
    home,
    open_transports=None,
    *,
    bind=ELSEWHERE,
    unix=time.time,
    name="",
    region="",
    federation=None,
    **mesh,
):
    """`mesh` are settings of `[mesh]`; the folder `home` is made where it is not there yet."""
    home.mkdir(exist_ok=True)
    here = Cortex(home)
    settings = CortexSettings(
        home=home,
        name=name or home.name,
        region=region,
        mesh_socket=bind,
        mesh=MeshSettings(**{"lan": False, "preset": "quick", **mesh}),
        federation=federation or FederationSettings(),
    )
    neurons = Neurons(
        policy=policies.named("least_loaded"),
        timing=Timing(0.5, 2.0),
        name=settings.name,
        monotonic=anyio.current_time,
        random=random.random,
        events=here.events.append,
    )
    opening.PRESETS = {**PRESETS, "quick": QUICK}
    async with opened(
        settings,
        here.key,
        neurons,
        policy=FixedPolicy(settings.federation),
        roles=("gateway",),
        lends=True,
        emit=here.events.append,
        open_transports=open_transports,
        unix=unix,
    ) as here.place:
        yield here


async def until(holds):
    with anyio.fail_after(WAIT_S):
        while not holds():  # noqa: ASYNC110 - much of what is awaited has no event
            await anyio.sleep(0.005)
