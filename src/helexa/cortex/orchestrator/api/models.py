"""The models: what the catalogue says of each, what neurons have of it; loading and unloading."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from helexa.cortex.orchestrator.api.calls import Asked, Call, Nothing, Wish
from helexa.cortex.orchestrator.api.results import NEURON_SAYS, Results, each
from helexa.cortex.orchestrator.catalogue import Catalogue
from helexa.cortex.orchestrator.fleet import FleetView, NeuronView, Presence
from helexa.cortex.orchestrator.naming import one_neuron
from helexa.cortex.orchestrator.neurons import Neurons
from helexa.protocol.errors import KeptByCatalogue, ModelUnknown, NodeUnknown
from helexa.protocol.ids import ModelId, NodeId, is_model_id
from helexa.protocol.work import ModelCapability, ModelState, Progress

ABSENT: Final = "absent"
_BEST: Final = (
    ModelState.LOADED,
    ModelState.LOADING,
    ModelState.DOWNLOADING,
    ModelState.DRAINING,
    ModelState.UNLOADING,
    ModelState.UNLOADED,
    ModelState.FAILED,
)
_COUNTED: Final = (ModelState.LOADED, ModelState.DRAINING)


class Placement(ModelCapability, frozen=True, kw_only=True):
    """One model on one neuron that is present."""

    node: NodeId
    neuron: str
    progress: Progress | None = None
    """Of a pull or a load that goes on there."""
    running: int = 0
    waiting: int = 0
    idle_s: float | None = None
    """Since its last request; None while it works or is not loaded."""


class PlacementList(msgspec.Struct, frozen=True, kw_only=True):
    placements: Sequence[Placement]


class ModelRow(msgspec.Struct, frozen=True, kw_only=True):
    """One model as a whole."""

    model: ModelId
    state: str
    """The best that it has on any neuron; `absent` where no present neuron lists it."""
    in_catalogue: bool
    replicas: int
    """Loaded now."""
    replicas_min: int = 0
    replicas_max: int | None = None
    aliases: Sequence[str] = ()
    description: str = ""
    source: str = ""
    priority: int = 0
    classes: Sequence[str] = ()
    tools: bool = False
    reasoning: bool = False
    context_tokens: int = 0
    slots: int = 0
    """Of all that are loaded, or of one that is not."""
    memory_bytes: int = 0
    disk_bytes: int = 0
    quantisation: str = ""
    reason: str = ""
    nodes: Sequence[Placement] = ()
    """Where it is, best first."""


class ModelList(msgspec.Struct, frozen=True, kw_only=True):
    models: Sequence[ModelRow]


class OnNodes(Wish, frozen=True, kw_only=True):
    """Which neuron. Empty is every one that lists it."""

    node: str = ""


def placements(view: FleetView, model: ModelId) -> list[Placement]:
    """Best first."""
    found = [
        _placement(view.neurons[node], model)
        for node in view.holders.get(model, ())
        if view.neurons[node].presence is Presence.PRESENT
    ]
    return sorted(found, key=lambda one: (_BEST.index(one.state), one.node))


def model_row(view: FleetView, catalogue: Catalogue, model: ModelId) -> ModelRow:
    where = placements(view, model)
    entry = catalogue.entry(model)
    best = where[0] if where else None
    loaded = [one for one in where if one.state in _COUNTED]
    classes = entry.classes or (best.classes if best else ())
    return ModelRow(
        model=model,
        state=best.state.value if best else ABSENT,
        in_catalogue=model in catalogue.entries,
        replicas=len(loaded),
        replicas_min=entry.replicas_min,
        replicas_max=entry.replicas_max,
        aliases=[alias.name for alias in entry.aliases],
        description=entry.description,
        source=entry.source or (best.source if best else ""),
        priority=entry.priority,
        classes=[one.value for one in classes],
        tools=best.tools if best else False,
        reasoning=best.reasoning if best else False,
        context_tokens=best.context_tokens if best else entry.context_tokens or 0,
        slots=sum(one.slots for one in loaded) or (best.slots if best else entry.slots or 0),
        memory_bytes=best.memory_bytes if best else entry.memory_bytes,
        disk_bytes=best.disk_bytes if best else sum(file.size for file in entry.files),
        quantisation=(best.quantisation if best else "") or entry.quantisation,
        reason=best.reason if best else "",
        nodes=where,
    )


def model_rows(view: FleetView, catalogue: Catalogue) -> list[ModelRow]:
    """Those of the catalogue and those that a present neuron lists, by name."""
    rows = (
        model_row(view, catalogue, model)
        for model in sorted(view.holders.keys() | catalogue.entries.keys())
    )
    return [row for row in rows if row.nodes or row.in_catalogue]


def model_of(path: str) -> ModelId:
    """Raises ModelUnknown for what cannot be a model's name."""
    if not is_model_id(path):
        raise ModelUnknown(path)
    return ModelId(path)


@dataclass(frozen=True, slots=True)
class ModelCalls:
    neurons: Neurons
    catalogue: Callable[[], Catalogue]

    async def all(self, asked: Asked[Nothing, Nothing]) -> ModelList:  # noqa: ARG002 - a call's shape
        return ModelList(models=model_rows(self.neurons.view, self.catalogue()))

    async def one(self, asked: Asked[Nothing, Nothing]) -> ModelRow:
        model = model_of(asked.path["model"])
        row = model_row(self.neurons.view, self.catalogue(), model)
        if not row.nodes and not row.in_catalogue:
            raise ModelUnknown(str(model))
        return row

    async def placed(self, asked: Asked[Nothing, Nothing]) -> PlacementList:  # noqa: ARG002
        view = self.neurons.view
        found = (placements(view, model) for model in sorted(view.holders))
        return PlacementList(placements=[one for each_of in found for one in each_of])

    async def load(self, asked: Asked[Nothing, OnNodes]) -> Results:
        model, nodes = self._meant(asked)
        return await each(model, nodes, lambda node: self.neurons.commands.load(node, model))

    async def unload(self, asked: Asked[Nothing, OnNodes]) -> Results:
        model, nodes = self._meant(asked)
        self._check_kept(model, nodes)
        return await each(model, nodes, lambda node: self.neurons.commands.unload(node, model))

    def calls(self) -> list[Call]:
        refuses = (ModelUnknown, NodeUnknown, *NEURON_SAYS)
        return [
            Call("GET", "/api/v1/models", "Every model: state, replicas, where.", self.all),
            Call("GET", "/api/v1/models/{model}", "One model.", self.one, refuses=(ModelUnknown,)),
            Call("GET", "/api/v1/placements", "Each model on each neuron.", self.placed),
            Call(
                "POST",
                "/api/v1/models/{model}/load",
                "Load it, on one neuron or on all that have it.",
                self.load,
                refuses=refuses,
            ),
            Call(
                "POST",
                "/api/v1/models/{model}/unload",
                "Unload it, after its running requests.",
                self.unload,
                refuses=(*refuses, KeptByCatalogue),
            ),
        ]

    def _meant(self, asked: Asked[Nothing, OnNodes]) -> tuple[ModelId, Sequence[NodeId]]:
        model = model_of(asked.path["model"])
        if asked.body.node:
            return model, [one_neuron(self.neurons.view, asked.body.node)]
        if model not in self.neurons.view.holders:
            raise ModelUnknown(str(model))
        return model, self.neurons.present_holders(model)

    def _check_kept(self, model: ModelId, nodes: Iterable[NodeId]) -> None:
        entry = self.catalogue().entry(model)
        loaded = {one.node for one in placements(self.neurons.view, model) if one.state in _COUNTED}
        left = len(loaded.difference(nodes))
        if left < entry.replicas_min and loaded.intersection(nodes):
            raise KeptByCatalogue(
                f"The catalogue keeps at least {entry.replicas_min} of {str(model)!r} loaded, and "
                f"{left} would be left; lower `replicas_min` first."
            )


def _placement(neuron: NeuronView, model: ModelId) -> Placement:
    load = neuron.load
    replica = next((r for r in load.replicas if r.model == model), None) if load else None
    progress = next((p.progress for p in load.progress if p.model == model), None) if load else None
    capability = neuron.capabilities[model]
    return Placement(
        **{name: getattr(capability, name) for name in ModelCapability.__struct_fields__},
        node=neuron.descriptor.node,
        neuron=neuron.descriptor.name,
        progress=progress,
        running=replica.running if replica else 0,
        waiting=replica.waiting if replica else 0,
        idle_s=replica.idle_s if replica and not replica.running + replica.waiting else None,
    )
