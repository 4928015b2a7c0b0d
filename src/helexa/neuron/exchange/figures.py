"""What came of the exchange so far: for status, metrics and logs."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from helexa.protocol.ids import ModelId, NodeId

DROPPED_MAX: Final = 32
"""The last ones are said."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Figures:
    given_bytes: int = 0
    taken_bytes: int = 0
    refused_pieces: int = 0
    """Pieces that were not what they should be."""
    dropped_peers: int = 0
    dropped: deque[dict[str, str]] = field(default_factory=lambda: deque(maxlen=DROPPED_MAX))

    def drop(self, model: ModelId, node: NodeId, reason: str) -> None:
        self.dropped_peers += 1
        self.dropped.append({"node": node, "model": model, "reason": reason})
        log.warning("peer dropped", extra={"peer": node, "model": model, "reason": reason})

    def standing(self) -> dict[str, Any]:
        return {
            "given_bytes": self.given_bytes,
            "taken_bytes": self.taken_bytes,
            "refused_pieces": self.refused_pieces,
            "dropped_peers": self.dropped_peers,
            "dropped": list(self.dropped),
        }


class Measured(Collector):
    """The same for `/metrics`."""

    def __init__(self, figures: Figures) -> None:
        self._figures = figures

    def collect(self) -> Iterator[CounterMetricFamily]:
        figures = self._figures
        moved = CounterMetricFamily(
            "helexa_neuron_piece_bytes", "Pieces of files exchanged with neurons.", labels=["way"]
        )
        moved.add_metric(["given"], figures.given_bytes)
        moved.add_metric(["taken"], figures.taken_bytes)
        yield moved
        yield CounterMetricFamily(
            "helexa_neuron_pieces_refused",
            "Pieces that were not what they should be.",
            value=figures.refused_pieces,
        )
        yield CounterMetricFamily(
            "helexa_neuron_piece_peers_dropped",
            "Neurons that nothing was taken from any more.",
            value=figures.dropped_peers,
        )
