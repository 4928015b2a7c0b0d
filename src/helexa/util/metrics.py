"""Prometheus metrics of one node: a registry of its own, and children made before they are needed.

A node is an object, not a process: two of them in one test must not share
counters, so nothing here touches the library's global registry.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
"""Bucket borders for anything that a person waits for."""

LABEL_SETS_MAX: Final = 4_096
"""Different label values kept per metric; the rest is counted together as `other`."""

_Child = TypeVar("_Child")


class Metrics:
    """One node's registry."""

    def __init__(self, prefix: str = "helexa") -> None:
        self._prefix = prefix
        self.registry = CollectorRegistry()

    def counter(self, name: str, text: str, labels: Sequence[str] = ()) -> Counter:
        return Counter(f"{self._prefix}_{name}", text, labels, registry=self.registry)

    def gauge(self, name: str, text: str, labels: Sequence[str] = ()) -> Gauge:
        return Gauge(f"{self._prefix}_{name}", text, labels, registry=self.registry)

    def histogram(
        self,
        name: str,
        text: str,
        labels: Sequence[str] = (),
        buckets: Sequence[float] = SECONDS,
    ) -> Histogram:
        return Histogram(
            f"{self._prefix}_{name}", text, labels, buckets=buckets, registry=self.registry
        )

    def render(self) -> bytes:
        return generate_latest(self.registry)


CONTENT_TYPE: Final = CONTENT_TYPE_LATEST


class Children(dict[tuple[str, ...], _Child], Generic[_Child]):
    """Labelled children by their label values, made on first use and looked up as a dict.

        requests = Children(counter.labels)
        requests["chat", "200"].inc()

    The look-up is what the hot path pays; `labels()` itself costs ten times that.
    """

    def __init__(self, make: Callable[..., _Child], *, sets_max: int = LABEL_SETS_MAX) -> None:
        super().__init__()
        self._make = make
        self._sets_max = sets_max

    def __missing__(self, values: tuple[str, ...]) -> _Child:
        # Label values can come from outside; a client must not be able to fill the memory.
        if len(self) >= self._sets_max:
            values = ("other",) * len(values)
            if values in self:
                return self[values]
        child = self._make(*values)
        self[values] = child
        return child
