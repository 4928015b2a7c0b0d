"""What an operator's monitoring reads at `/metrics`.

Labels are models on disk, endpoints and error codes: sets that no client can
grow.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from helexa.neuron.supervisor.roster import Roster
from helexa.protocol.work import ModelState, Usage
from helexa.runtime.contract import Endpoint
from helexa.util.metrics import Metrics


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
        self.metrics.registry.register(_Now(roster))

    def ended(
        self,
        *,
        model: str,
        endpoint: Endpoint,
        outcome: str,
        seconds: float,
        usage: Usage | None,
    ) -> None:
        name = endpoint.name.lower()
        self._requests[model, name, outcome].add()
        self._seconds[model, name].add(seconds)
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
        yield from (running, waiting, loaded, memory)


def _gauge(name: str, text: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"helexa_neuron_{name}", text, labels=["model"])
