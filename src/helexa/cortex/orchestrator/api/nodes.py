"""The neurons: what each is and does, and what an operator says about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from helexa.cortex.orchestrator.api.calls import Act, Asked, Call, Nothing, Wish
from helexa.cortex.orchestrator.fleet import Mark, NeuronView
from helexa.cortex.orchestrator.marks import Marks
from helexa.cortex.orchestrator.naming import one_neuron
from helexa.cortex.orchestrator.neurons import Neurons
from helexa.protocol.errors import NoCapacity, NodeUnknown
from helexa.protocol.ids import NodeId
from helexa.protocol.work import Load, ModelCapability, NeuronDescriptor


class NodeRow(NeuronDescriptor, frozen=True, kw_only=True):
    presence: str
    since_s: float
    """In this presence for."""
    heard_s: float
    """Since its last word."""
    reason: str
    mark: str
    """`cordoned`, `drained`, or empty."""
    draining: bool
    """It takes no new requests, by mark or by its own word."""
    running: int
    """Requests that it works on."""
    load: Load | None
    models: int
    path: str
    """How requests reach it."""


class NodeDetail(NodeRow, frozen=True, kw_only=True):
    holds: Sequence[ModelCapability]


class NodeList(msgspec.Struct, frozen=True, kw_only=True):
    nodes: Sequence[NodeRow]


class NeuronList(msgspec.Struct, frozen=True, kw_only=True):
    neurons: Sequence[NodeRow]


class Marked(msgspec.Struct, frozen=True, kw_only=True):
    node: NodeId
    mark: str
    """What holds now."""
    draining: bool
    running: int


class DrainNode(Wish, frozen=True, kw_only=True):
    enabled: bool = True


def marked(mark: Mark | None, word: str) -> Mark | None:
    """The mark after an operator's word. Drained is more than cordoned, and is undone as itself."""
    match word, mark:
        case "drain", _:
            return Mark.DRAINED
        case "undrain", Mark.DRAINED:
            return None
        case "cordon", None:
            return Mark.CORDONED
        case "uncordon", Mark.CORDONED:
            return None
        case _:
            return mark


def rows(neurons: Neurons) -> list[NodeRow]:
    return [NodeRow(**_fields(neurons, node)) for node in sorted(neurons.view.neurons)]


_DOES: Final = {
    "drain": "Place and ask nothing there any more; running work ends, its models are unloaded.",
    "undrain": "Undo a drain.",
    "cordon": "Place nothing new there; what is loaded goes on serving.",
    "uncordon": "Undo a cordon.",
}


@dataclass(frozen=True, slots=True)
class NodeCalls:
    neurons: Neurons
    marks: Marks | None = None
    """None: nothing can be marked, and those paths are unknown."""

    async def all(self, asked: Asked[Nothing, Nothing]) -> NodeList:  # noqa: ARG002 - a call's shape
        return NodeList(nodes=rows(self.neurons))

    async def by_old_name(self, asked: Asked[Nothing, Nothing]) -> NeuronList:  # noqa: ARG002
        return NeuronList(neurons=rows(self.neurons))

    async def one(self, asked: Asked[Nothing, Nothing]) -> NodeDetail:
        node = one_neuron(self.neurons.view, asked.path["node"])
        holds = tuple(self.neurons.view.neurons[node].capabilities.values())
        return NodeDetail(**_fields(self.neurons, node), holds=holds)

    async def drain_by_old_name(self, asked: Asked[Nothing, DrainNode]) -> Marked:
        return await self._mark(asked.path["node"], "drain" if asked.body.enabled else "undrain")

    def calls(self) -> list[Call]:
        looks = [
            Call("GET", "/api/v1/nodes", "Every neuron: hardware, presence, load.", self.all),
            Call(
                "GET",
                "/api/v1/nodes/{node}",
                "One neuron and what it holds.",
                self.one,
                refuses=(NodeUnknown,),
            ),
            Call(
                "GET",
                "/api/v1/neurons",
                "The same as `nodes`, by their older name.",
                self.by_old_name,
            ),
        ]
        return looks if self.marks is None else [*looks, *self._marking()]

    def _marking(self) -> list[Call]:
        refuses = (NodeUnknown, NoCapacity)
        return [
            Call(
                "POST",
                "/api/v1/nodes/{node}/drain",
                _DOES["drain"],
                self._by("drain"),
                refuses=refuses,
            ),
            Call(
                "POST",
                "/api/v1/nodes/{node}/undrain",
                _DOES["undrain"],
                self._by("undrain"),
                refuses=refuses,
            ),
            Call(
                "POST",
                "/api/v1/nodes/{node}/cordon",
                _DOES["cordon"],
                self._by("cordon"),
                refuses=refuses,
            ),
            Call(
                "POST",
                "/api/v1/nodes/{node}/uncordon",
                _DOES["uncordon"],
                self._by("uncordon"),
                refuses=refuses,
            ),
            Call(
                "POST",
                "/api/v1/neurons/{node}/drain",
                "Drain, or undrain with `enabled` false.",
                self.drain_by_old_name,
                refuses=refuses,
            ),
        ]

    def _by(self, word: str) -> Act:
        async def act(asked: Asked[Nothing, Nothing]) -> Marked:
            return await self._mark(asked.path["node"], word)

        return act

    async def _mark(self, text: str, word: str) -> Marked:
        view = self.neurons.view
        # One that is away may be unmarked too, by its whole id.
        node = NodeId(text) if text in view.marks else one_neuron(view, text)
        before = view.marks.get(node)
        mark = marked(before, word)
        if mark is not before and self.marks is not None:
            await self.marks.set(node, mark)
        known = self.neurons.view.neurons.get(node)
        # What it last reported may be of before this word.
        drained = mark is Mark.DRAINED
        draining = drained or (known is not None and known.draining and mark is before)
        return Marked(
            node=node,
            mark=mark.value if mark is not None else "",
            draining=draining,
            running=_running(self.neurons, node, known) if known is not None else 0,
        )


def _fields(neurons: Neurons, node: NodeId) -> dict[str, Any]:
    now_s, neuron = neurons.now_s(), neurons.view.neurons[node]
    return {
        **msgspec.structs.asdict(neuron.descriptor),
        "presence": neuron.presence.value,
        "since_s": round(now_s - neuron.since_s, 3),
        "heard_s": round(now_s - neuron.heard_s, 3),
        "reason": neuron.reason,
        "mark": neuron.mark.value if neuron.mark is not None else "",
        "draining": neuron.draining,
        "running": _running(neurons, node, neuron),
        "load": neuron.load,
        "models": len(neuron.capabilities),
        "path": neurons.path_kind(node),
    }


def _running(neurons: Neurons, node: NodeId, neuron: NeuronView) -> int:
    """As it reported, or as this cortex knows better: a report is up to a second old."""
    reported = 0 if neuron.load is None else sum(one.running for one in neuron.load.replicas)
    sent = sum(count for (where, _), count in neurons.in_flight.items() if where == node)
    return max(reported, sent)
