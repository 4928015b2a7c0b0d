"""Bringing models onto neurons' disks, watching them come, and taking them away again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from helexa.cortex.orchestrator.api.calls import Asked, Call, Nothing, Wish
from helexa.cortex.orchestrator.api.models import model_of
from helexa.cortex.orchestrator.api.results import NEURON_SAYS, Results, each
from helexa.cortex.orchestrator.catalogue import Catalogue
from helexa.cortex.orchestrator.fleet import NeuronView
from helexa.cortex.orchestrator.naming import one_neuron
from helexa.cortex.orchestrator.neurons import Neurons
from helexa.cortex.orchestrator.pulling import arriving, best_for, source_of
from helexa.cortex.orchestrator.sharing import Sharing
from helexa.protocol.errors import (
    KeptByCatalogue,
    ModelUnknown,
    NoCapacity,
    NodeUnknown,
    RequestRejected,
)
from helexa.protocol.ids import ModelId, NodeId
from helexa.protocol.messages import PieceHolder, SourceFile
from helexa.protocol.work import ModelProgress, Phase, Progress

NODES_MAX: Final = 256
FILES_MAX: Final = 512
Node = Annotated[str, Meta(max_length=256)]


class Pull(Wish, frozen=True, kw_only=True):
    """What is empty is as the catalogue says. Without nodes the best `copies` are chosen."""

    node: Node = ""
    nodes: Annotated[tuple[Node, ...], Meta(max_length=NODES_MAX)] = ()
    copies: Annotated[int, Meta(ge=1, le=NODES_MAX)] = 1
    source: Annotated[str, Meta(max_length=2_048)] = ""
    files: Annotated[tuple[SourceFile, ...], Meta(max_length=FILES_MAX)] = ()
    quantisation: Annotated[str, Meta(max_length=64)] = ""
    pin: bool | None = None


class Where(Wish, frozen=True, kw_only=True):
    node: Node = ""
    """Empty: the only neuron that it can be about."""
    everywhere: bool = False
    """All that it can be about."""


class Coming(msgspec.Struct, frozen=True, kw_only=True):
    """A pull or a load that goes on, as of its neuron's last report."""

    node: NodeId
    neuron: str
    model: ModelId
    progress: Progress | None
    """None until the neuron reported it."""
    bytes_from_peers: int = 0


class PullList(msgspec.Struct, frozen=True, kw_only=True):
    pulls: Sequence[Coming]


class LoadList(msgspec.Struct, frozen=True, kw_only=True):
    loads: Sequence[Coming]


@dataclass(frozen=True, slots=True)
class PullCalls:
    neurons: Neurons
    catalogue: Callable[[], Catalogue]
    sharing: Sharing | None = None

    async def pulls(self, asked: Asked[Nothing, Nothing]) -> PullList:  # noqa: ARG002 - a call's shape
        view = self.neurons.view
        return PullList(
            pulls=[_coming(view.neurons[node], model) for node, model in arriving(view)]
        )

    async def loads(self, asked: Asked[Nothing, Nothing]) -> LoadList:  # noqa: ARG002
        found = [
            _coming(neuron, one.model)
            for _, neuron in sorted(self.neurons.view.neurons.items())
            for one in (neuron.load.progress if neuron.load else ())
            if one.progress.phase is not Phase.DOWNLOADING
        ]
        return LoadList(loads=found)

    async def pull(self, asked: Asked[Nothing, Pull]) -> Results:
        model, wanted = model_of(asked.path["model"]), asked.body
        entry = self.catalogue().entry(model)
        source = source_of(
            entry, source=wanted.source, files=wanted.files, quantisation=wanted.quantisation
        )
        view = self.neurons.view
        named = [text for text in (wanted.node, *wanted.nodes) if text]
        nodes = list(dict.fromkeys(one_neuron(view, text) for text in named))
        nodes = nodes or best_for(view, entry, wanted.copies)
        peers = self.sharing.together(nodes, model) if self.sharing is not None else {}
        none: tuple[PieceHolder, ...] = ()
        pin = entry.pin if wanted.pin is None else wanted.pin
        return await each(
            model,
            nodes,
            lambda node: self.neurons.commands.pull(
                node, model, source, peers=peers.get(node, none), pin=pin
            ),
        )

    async def cancel(self, asked: Asked[Where, Nothing]) -> Results:
        model = model_of(asked.path["model"])
        pulling = [node for node, one in arriving(self.neurons.view) if one == model]
        known = model in self.neurons.view.holders or model in self.catalogue().entries
        if known and not pulling and not asked.query.node:
            raise RequestRejected(f"No neuron pulls {str(model)!r} now.", "model")
        nodes = self._meant(asked.query, pulling, model, "pull")
        return await each(model, nodes, lambda node: self.neurons.commands.cancel_pull(node, model))

    async def remove(self, asked: Asked[Where, Nothing]) -> Results:
        model = model_of(asked.path["model"])
        holders = self.neurons.present_holders(model)
        nodes = self._meant(asked.query, holders, model, "have")
        entry = self.catalogue().entry(model)
        if len(set(holders).difference(nodes)) < entry.replicas_min:
            raise KeptByCatalogue(
                f"The catalogue keeps at least {entry.replicas_min} of {str(model)!r}; lower "
                "`replicas_min` first."
            )
        return await each(model, nodes, lambda node: self.neurons.commands.remove(node, model))

    def calls(self) -> list[Call]:
        refuses = (ModelUnknown, NodeUnknown, RequestRejected, *NEURON_SAYS)
        return [
            Call("GET", "/api/v1/pulls", "Every pull that goes on.", self.pulls),
            Call("GET", "/api/v1/loads", "Every load that goes on.", self.loads),
            Call(
                "POST",
                "/api/v1/models/{model}/pull",
                "Bring its files onto neurons' disks; answered when they have begun.",
                self.pull,
                refuses=(*refuses, NoCapacity),
            ),
            Call(
                "DELETE",
                "/api/v1/models/{model}/pull",
                "End a pull; what arrived stays for another try.",
                self.cancel,
                refuses=refuses,
            ),
            Call(
                "DELETE",
                "/api/v1/models/{model}",
                "Take its files off a neuron's disk.",
                self.remove,
                refuses=(*refuses, KeptByCatalogue),
            ),
        ]

    def _meant(
        self, where: Where, nodes: Sequence[NodeId], model: ModelId, does: str
    ) -> Sequence[NodeId]:
        if where.node:
            return [one_neuron(self.neurons.view, where.node)]
        if not nodes:
            raise ModelUnknown(str(model))
        if len(nodes) > 1 and not where.everywhere:
            raise RequestRejected(
                f"{len(nodes)} neurons {does} it; name a `node`, or say `everywhere`.", "node"
            )
        return nodes


def _coming(neuron: NeuronView, model: ModelId) -> Coming:
    reported: ModelProgress | None = next(
        (one for one in (neuron.load.progress if neuron.load else ()) if one.model == model), None
    )
    return Coming(
        node=neuron.descriptor.node,
        neuron=neuron.descriptor.name,
        model=model,
        progress=reported.progress if reported else None,
        bytes_from_peers=reported.bytes_from_peers if reported else 0,
    )
