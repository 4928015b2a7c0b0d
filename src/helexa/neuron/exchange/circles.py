"""With whom this neuron exchanges pieces of which model: as the cortexes that it obeys said."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from helexa.neuron.exchange.wire import MEMBERS_MAX
from helexa.protocol.ids import ModelId, NodeId
from helexa.protocol.messages import PieceHolder

MODELS_MAX: Final = 2_048
"""Of which something is exchanged; beyond that the one that was told first is forgotten."""


@dataclass(slots=True)
class _Circle:
    named: dict[NodeId, PieceHolder] = field(default_factory=dict)
    """By the pull: they pull or hold the same."""
    takers: dict[NodeId, PieceHolder] = field(default_factory=dict)


class Circles:
    def __init__(self) -> None:
        self._circles: dict[ModelId, _Circle] = {}

    def share(self, model: ModelId, peers: Iterable[PieceHolder]) -> None:
        """A pull's peers: pieces are taken from them and given to them."""
        circle = self._circle(model)
        circle.named = _bounded(peers)
        circle.takers = dict(circle.named)

    def give(self, model: ModelId, peers: Iterable[PieceHolder]) -> None:
        """These may take pieces, and no others. Where it is pulled here, they have some too."""
        self._circle(model).takers = _bounded(peers)

    def sources(self, model: ModelId) -> dict[NodeId, PieceHolder]:
        circle = self._circles.get(model)
        return {**circle.named, **circle.takers} if circle else {}

    def models_for(self, node: NodeId) -> list[ModelId]:
        """Of which this neuron gives pieces to that node."""
        return [model for model, circle in self._circles.items() if node in circle.takers]

    def takers(self) -> dict[NodeId, PieceHolder]:
        """All that may take something."""
        return {
            node: one for circle in self._circles.values() for node, one in circle.takers.items()
        }

    def admits(self, node: NodeId) -> bool:
        return any(node in circle.takers for circle in self._circles.values())

    def _circle(self, model: ModelId) -> _Circle:
        circle = self._circles.pop(model, None) or _Circle()
        if len(self._circles) >= MODELS_MAX:
            del self._circles[next(iter(self._circles))]
        self._circles[model] = circle
        return circle


def _bounded(peers: Iterable[PieceHolder]) -> dict[NodeId, PieceHolder]:
    return {one.node: one for one in list(peers)[:MEMBERS_MAX]}
