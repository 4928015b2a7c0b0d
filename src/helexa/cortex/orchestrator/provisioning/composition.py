"""The parts of provisioning put together, for the one who composes a cortex."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from helexa.cortex.orchestrator.fabric import Fabric
from helexa.cortex.orchestrator.neurons import Neurons
from helexa.cortex.orchestrator.provisioning.actor import Provisioner, Surroundings
from helexa.cortex.orchestrator.provisioning.coming import coming
from helexa.cortex.orchestrator.provisioning.demand import Demand
from helexa.cortex.orchestrator.provisioning.plan import Copy
from helexa.cortex.orchestrator.provisioning.room import Room
from helexa.cortex.settings import OrchestratorSettings
from helexa.protocol.ids import ModelId, NodeId
from helexa.protocol.messages import PieceHolder
from helexa.protocol.routing import RoutingDecision


def provisioning(
    settings: Callable[[], OrchestratorSettings],
    neurons: Neurons,
    fabric: Fabric,
    *,
    peers: Callable[[NodeId, ModelId], Sequence[PieceHolder]] = lambda _node, _model: (),
    emit: Callable[[Mapping[str, Any]], None] = lambda _event: None,
) -> Provisioner:
    """A provisioner to `run`, and a fabric whose requests wait for what it brings."""
    demand = Demand()

    def max_wait_s(model: ModelId) -> float:
        return neurons.catalogue.entry(model).max_wait_s or settings().max_wait_s

    room = Room(
        demand,
        monotonic=time.monotonic,
        called=lambda: provisioner.wake(),  # noqa: PLW0108 - not there yet
        max_wait_s=max_wait_s,
    )
    provisioner = Provisioner(
        Surroundings(
            neurons=neurons,
            catalogue=lambda: neurons.catalogue,
            demand=demand,
            room=room,
            settings=settings,
            monotonic=time.monotonic,
            random=random.random,
            peers=peers,
            emit=emit,
        )
    )

    def comes(decision: RoutingDecision, yielding: frozenset[Copy]) -> ModelId | None:
        return coming(neurons.view, neurons.catalogue, room.hopeless, decision, yielding)

    neurons.bring(comes)
    fabric.furnish(room, demand)
    return provisioner
