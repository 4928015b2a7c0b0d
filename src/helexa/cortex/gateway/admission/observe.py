"""Numbers of the queues. Labels are ranks, reasons and models that are served: never accounts."""

from __future__ import annotations

from collections.abc import Mapping

from helexa.cortex.gateway.admission.lane import Lane
from helexa.cortex.gateway.admission.ranks import Rank
from helexa.protocol.ids import ModelId
from helexa.util.metrics import Metrics


class QueueObserver:
    """One for all doors."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._seconds = metrics.spreads(
            "gateway_queue_seconds",
            "What requests waited for their turn, by rank; who went at once is not counted.",
            ("rank",),
        )
        self._waited = metrics.tallies(
            "gateway_queued", "Requests that waited for their turn.", ("model", "rank")
        )
        self._refused = metrics.tallies(
            "gateway_refused", "Requests refused at admission.", ("model", "reason")
        )

    def watch(self, lanes: Mapping[ModelId, Lane]) -> None:
        def length() -> Mapping[tuple[str, ...], float]:
            return {
                (model, rank.word): float(lane.waiting[rank])
                for model, lane in lanes.items()
                for rank in Rank
                if lane.count
            }

        def running() -> Mapping[tuple[str, ...], float]:
            return {(model,): float(len(lane.running)) for model, lane in lanes.items()}

        self._metrics.read_gauge(
            "gateway_queue", "Requests that wait for their turn now.", ["model", "rank"], length
        )
        self._metrics.read_gauge(
            "gateway_let_in", "Requests that were let in and are not over.", ["model"], running
        )

    def waited(self, rank: Rank, model: ModelId, seconds: float) -> None:
        self._seconds[(rank.word,)].add(seconds)
        self._waited[model, rank.word].add()

    def refused(self, reason: str, model: str = "") -> None:
        """`model` only where it is served here: clients write what they like."""
        self._refused[model, reason].add()
