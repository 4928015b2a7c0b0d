"""What an operator's monitoring reads at `/metrics`.

Labels are models on disk, endpoints and error codes: sets that no client can
grow.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Final, assert_never

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from helexa.neuron.supervisor.events import Happened, LoadEnded, LoadOutcome, Unloaded
from helexa.neuron.supervisor.roster import Roster
from helexa.protocol.work import ModelState, Usage
from helexa.util.metrics import Metrics

log = logging.getLogger(__name__)

LOAD_SECONDS: Final = (0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120, 300, 600, 1200)


class NeuronMetrics:
    def __init__(self, roster: Roster) -> None:
        self.metrics = Metrics("helexa_neuron")
        labels = ("model", "endpoint")
        self._requests = self.metrics.tallies(
            "requests",
            "Inference requests by how they ended: ok, client_gone, or an error's code.",
            (*labels, "outcome"),
        )
        self._seconds = self.metrics.spreads(
            "request_seconds", "From a request's headers to its last byte.", labels
        )
        self._tokens = self.metrics.tallies(
            "tokens", "Tokens by class, as the runtime counted them.", ("model", "class")
        )
        self._loads = self.metrics.tallies(
            "loads", "Loads by how they ended: ready, failed, stopped.", ("model", "outcome")
        )
        self._load_seconds = self.metrics.spreads(
            "load_seconds", "From asked to ready.", ("model",), LOAD_SECONDS
        )
        self._unloads = self.metrics.tallies(
            "unloads",
            "Unloads by reason: asked, idle, evicted (to make room), renewed, gone.",
            ("model", "reason"),
        )
        self._faults = self.metrics.tallies(
            "runtime_faults",
            "What runtimes did wrong: runtime_exited, runtime_malformed, usage_wrong and others.",
            ("model", "fault"),
        )
        self.last_faults: dict[str, str] = {}
        """By model; there are no more than models on disk."""
        self.metrics.registry.register(_Now(roster))
        roster.witness(self._happened)

    def _happened(self, happened: Happened) -> None:
        match happened:
            case LoadEnded(model=model, outcome=outcome, seconds=seconds):
                self._loads[model, outcome.value].add()
                if outcome is LoadOutcome.READY:
                    self._load_seconds[model,].add(seconds)
            case Unloaded(model=model, why=why):
                self._unloads[model, why.value].add()
            case _:
                assert_never(happened)

    def ended(
        self,
        *,
        model: str,
        endpoint: str,
        outcome: str,
        seconds: float,
        usage: Usage | None,
        fault: str = "",
    ) -> None:
        """`fault` is what the model's runtime did wrong, in a word."""
        self._requests[model, endpoint, outcome].add()
        self._seconds[model, endpoint].add(seconds)
        if fault:
            self._faults[model, fault].add()
            self.last_faults[model] = fault
            log.warning("runtime at fault", extra={"model": model, "fault": fault})
        if usage is not None:
            for kind in usage.__struct_fields__:
                self._tokens[model, kind].add(getattr(usage, kind))


class _Now(Collector):
    """What stands in the roster at the moment of asking."""

    def __init__(self, roster: Roster) -> None:
        self._roster = roster

    def collect(self) -> Iterator[GaugeMetricFamily]:
        running = _gauge("running", "Requests being worked on.")
        waiting = _gauge("waiting", "Requests waiting for a slot or for the model.")
        for load in self._roster.loads():
            running.add_metric([load.model], load.running)
            waiting.add_metric([load.model], load.waiting)
        loaded = _gauge("loaded", "1 for a model that serves.")
        memory = _gauge("memory_bytes", "Memory granted to a model's runtime.")
        for capability in self._roster.capabilities():
            loaded.add_metric([capability.model], capability.state is ModelState.LOADED)
        for model, granted in self._roster.granted.items():
            memory.add_metric([model], granted)
        measured = _gauge(
            "memory_measured_bytes", "Memory that a model's runtime was seen to hold."
        )
        for load in self._roster.loads():
            if load.memory_bytes:
                measured.add_metric([load.model], load.memory_bytes)
        error = GaugeMetricFamily(
            "helexa_footprint_error_ratio",
            "(Estimated - measured) / measured memory of a model; above 0 is too careful.",
            labels=["model"],
        )
        for model, ratio in self._roster.footprint_errors.items():
            error.add_metric([model], ratio)
        yield from (running, waiting, loaded, memory, measured, error)


def _gauge(name: str, text: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"helexa_neuron_{name}", text, labels=["model"])
