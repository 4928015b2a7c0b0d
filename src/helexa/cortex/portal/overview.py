"""The facts on the portal's page, gathered from the fleet view: pure, so tested as data."""

from __future__ import annotations

from dataclasses import dataclass

from helexa.cortex.orchestrator.fleet import FleetView, NeuronView, Presence
from helexa.protocol.work import ModelCapability, ModelState


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRow:
    name: str
    state: str
    detail: str
    """Why it is in that state, where there is something to say."""
    can: tuple[str, ...]
    context_tokens: int
    parameters: int
    quantisation: str
    memory_bytes: int
    replicas: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NeuronRow:
    name: str
    node: str
    state: str
    detail: str
    cpu: str
    cpus: float
    memory_bytes: int
    devices: tuple[str, ...]
    uptime_s: float | None
    running: int
    waiting: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    name: str
    version: str
    node: str
    base_url: str
    """Empty when this cortex opens no gateway."""
    roles: tuple[str, ...]
    models: tuple[ModelRow, ...]
    neurons: tuple[NeuronRow, ...]

    @property
    def example_model(self) -> str:
        """The first model that answers now; else the first that could."""
        chat = [row for row in self.models if "chat" in row.can]
        ready = [row for row in chat if row.state == ModelState.LOADED.value]
        return (ready or chat)[0].name if chat else ""


_STATE_ORDER = (
    ModelState.LOADED,
    ModelState.LOADING,
    ModelState.DOWNLOADING,
    ModelState.UNLOADED,
    ModelState.DRAINING,
    ModelState.UNLOADING,
    ModelState.FAILED,
)


def model_rows(view: FleetView) -> tuple[ModelRow, ...]:
    """One row a model, in its best state over the neurons that are present."""
    rows = []
    for model, nodes in sorted(view.holders.items()):
        present = [
            view.neurons[node].capabilities[model]
            for node in nodes
            if view.neurons[node].presence is Presence.PRESENT
        ]
        if present:
            rows.append(_model_row(str(model), present))
    return tuple(rows)


def _model_row(name: str, copies: list[ModelCapability]) -> ModelRow:
    best = min(copies, key=lambda one: _STATE_ORDER.index(one.state))
    can = {_ABILITIES.get(each.value, each.value) for each in best.classes}
    extras = ("tools" * best.tools, "reasoning" * best.reasoning)
    return ModelRow(
        name=name,
        state=best.state.value,
        detail=best.reason,
        can=(*sorted(can), *(extra for extra in extras if extra)),
        context_tokens=best.context_tokens,
        parameters=best.parameters,
        quantisation=best.quantisation,
        memory_bytes=best.memory_bytes,
        replicas=sum(one.state is ModelState.LOADED for one in copies),
    )


_ABILITIES = {"chat_interactive": "chat", "chat_bulk": "chat"}


def neuron_rows(view: FleetView, now_s: float) -> tuple[NeuronRow, ...]:
    return tuple(_neuron_row(neuron, now_s) for _, neuron in sorted(view.neurons.items()))


def _neuron_row(neuron: NeuronView, now_s: float) -> NeuronRow:
    hardware = neuron.descriptor.hardware
    load = neuron.load
    state = "draining" if neuron.draining else neuron.presence.value
    detail = neuron.reason
    if neuron.presence is not Presence.PRESENT:
        detail = f"for {now_s - neuron.since_s:.0f} s: {neuron.reason}"
    return NeuronRow(
        name=neuron.descriptor.name or str(neuron.descriptor.node)[:10],
        node=str(neuron.descriptor.node),
        state=state,
        detail=detail,
        cpu=hardware.cpu_model or hardware.machine,
        cpus=hardware.cpus,
        memory_bytes=hardware.memory_bytes,
        devices=tuple(device.name for device in hardware.devices),
        uptime_s=load.uptime_s if load else None,
        running=sum(replica.running for replica in load.replicas) if load else 0,
        waiting=sum(replica.waiting for replica in load.replicas) if load else 0,
    )
