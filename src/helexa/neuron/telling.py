"""What a neuron says of itself: to cortexes, to its operator, and as events to who started it."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import psutil

import helexa
from helexa.mesh.identity import NodeKey
from helexa.mesh.node import MeshNode
from helexa.mesh.operators.credentials import Credentials
from helexa.neuron import budget
from helexa.neuron.announce import Announcer
from helexa.neuron.models.supply.pulls import Pulls
from helexa.neuron.settings import NeuronSettings
from helexa.neuron.supervisor.roster import Roster
from helexa.protocol.work import Fingerprint, Load, NeuronDescriptor
from helexa.runtime import adapters

Emit: TypeAlias = Callable[[Mapping[str, Any]], None]


class StateEvents:
    """Tells each change of a model's state once."""

    def __init__(self, roster: Roster, emit: Emit) -> None:
        self._roster = roster
        self._emit = emit
        self._told: dict[str, tuple[str, str]] = {}

    def look(self) -> None:
        for capability in self._roster.capabilities():
            now = capability.state.value, capability.reason
            if self._told.get(capability.model) != now:
                self._told[capability.model] = now
                state, reason = now
                self._emit(
                    {"event": "model", "model": capability.model, "state": state, "reason": reason}
                )


def descriptor_of(
    key: NodeKey, settings: NeuronSettings, credentials: Credentials, machine: Fingerprint
) -> NeuronDescriptor:
    return NeuronDescriptor(
        node=key.node_id,
        operator=credentials.operator,
        version=helexa.__version__,
        hardware=machine,
        name=settings.name or platform.node(),
        region=_region(settings, credentials),
        runtimes=tuple(
            name
            for name in adapters.in_order(settings.runtime_order)
            if adapters.is_installed(adapters.load(name), settings.runtimes)
        ),
        labels=settings.labels,
    )


def _region(settings: NeuronSettings, credentials: Credentials) -> str:
    """The operator's word where it gave one: a node cannot sign itself into a region."""
    certificate = credentials.certificate
    return (certificate.region if certificate else "") or settings.region


def load_of(
    roster: Roster, pulls: Pulls, memory: budget.Memory, sequence: int, uptime_s: float
) -> Load:
    return Load(
        sequence=sequence,
        uptime_s=round(uptime_s, 3),
        cpu_share=psutil.cpu_percent() / 100,
        memory_used_bytes=max(0, memory.total - memory.available),
        memory_free_bytes=roster.free_bytes(),
        replicas=roster.loads(),
        progress=(*roster.progress(), *pulls.progress()),
        disk_free_bytes=pulls.disk_free_bytes,
        devices=roster.device_loads(),
        draining=roster.draining,
    )


def status_of(
    descriptor: NeuronDescriptor, load: Load, mesh: MeshNode, announcer: Announcer
) -> Mapping[str, Any]:
    """What an operator asks for beside the facts of this run."""
    return {
        "name": descriptor.name,
        "hardware": descriptor.hardware,
        "load": load,
        "cortexes": [
            {
                "node": dial.ticket.node,
                "connected": dial.session is not None,
                "attempts": dial.attempts,
                "last_error": dial.last_error,
            }
            for dial in mesh.dials
        ],
        "registered_with": sorted(announcer.cortexes),
    }
