"""Prometheus metrics of one node: a registry of its own, and children made before they are needed.

A node is an object, not a process: two of them in one test must not share
counters, so nothing here touches the library's global registry.
"""

from __future__ import annotations

import asyncio
import itertools
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Generic, TypeAlias, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
"""Bucket borders for anything that a person waits for."""

LABEL_SETS_MAX: Final = 4_096
"""Different label values kept per metric; the rest is counted together as `other`."""


class Tally:
    """A number that only goes up. One event loop alone changes it, so it needs no lock."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def add(self, amount: float = 1.0) -> None:
        self.value += amount


class Spread:
    """How many values fell into which bucket, and their sum."""

    __slots__ = ("_borders", "counts", "sum")

    def __init__(self, borders: Sequence[float]) -> None:
        self._borders = borders
        self.counts = [0] * (len(borders) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        self.counts[bisect_left(self._borders, value)] += 1
        self.sum += value

    def buckets(self) -> list[tuple[str, float]]:
        """Cumulative, as Prometheus wants them."""
        names = [*(str(float(border)) for border in self._borders), "+Inf"]
        return list(zip(names, itertools.accumulate(self.counts), strict=True))


_Child = TypeVar("_Child")


class Children(dict[tuple[str, ...], _Child], Generic[_Child]):
    """One metric's values by label values, made on first use.

    requests["/v1/embeddings", "200"].add()
    """

    def __init__(self, make: Callable[[], _Child], labels: Sequence[str]) -> None:
        super().__init__()
        self._make: Callable[[], _Child] = make
        self.labels = labels
        self.most = LABEL_SETS_MAX

    def __missing__(self, values: tuple[str, ...]) -> _Child:
        # Label values can come from outside; a client must not be able to fill the memory.
        if len(self) >= self.most:
            values = ("other",) * len(values)
            if values in self:
                return self[values]
        child = self._make()
        self[values] = child
        return child


Read: TypeAlias = Callable[[], Mapping[tuple[str, ...], float]]
"""Numbers that somebody else keeps, by label values; read when they are asked for."""


class Metrics:
    """One node's registry.

    `gauge` and `counter` are the library's own, for what changes rarely. `tallies`
    and `spreads` are for the way of a request: the library's locks and bucket loops
    would cost it microseconds.
    """

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

    def tallies(self, name: str, text: str, labels: Sequence[str] = ()) -> Children[Tally]:
        """Counters by label values."""
        children = Children(Tally, labels)
        self.registry.register(_Tallies(f"{self._prefix}_{name}", text, children))
        return children

    def spreads(
        self, name: str, text: str, labels: Sequence[str] = (), borders: Sequence[float] = SECONDS
    ) -> Children[Spread]:
        """Histograms by label values."""
        children = Children(lambda: Spread(borders), labels)
        self.registry.register(_Spreads(f"{self._prefix}_{name}", text, children))
        return children

    def read_gauge(self, name: str, text: str, labels: Sequence[str], read: Read) -> None:
        """Show what `read` says now."""
        self.registry.register(
            _Readings(GaugeMetricFamily, f"{self._prefix}_{name}", text, labels, read)
        )

    def read_counter(self, name: str, text: str, labels: Sequence[str], read: Read) -> None:
        """As `read_gauge`, for numbers that only go up."""
        self.registry.register(
            _Readings(CounterMetricFamily, f"{self._prefix}_{name}", text, labels, read)
        )

    def of_process(self) -> None:
        """Show what this process holds: the usual `process_*` numbers, and its tasks.

        To be read on the event loop, whose tasks they are.
        """
        ProcessCollector(registry=self.registry)
        self.read_gauge(
            "tasks",
            "Tasks on the event loop; some are there for as long as the node.",
            (),
            lambda: {(): float(len(asyncio.all_tasks()))},
        )

    def render(self) -> bytes:
        return generate_latest(self.registry)


class _Tallies(Collector):
    def __init__(self, name: str, text: str, children: Children[Tally]) -> None:
        self._name, self._text = name, text
        self._children = children

    def collect(self) -> Iterable[Metric]:
        family = CounterMetricFamily(self._name, self._text, labels=self._children.labels)
        for values, tally in self._children.items():
            family.add_metric(values, tally.value)
        yield family


class _Readings(Collector):
    def __init__(
        self,
        family: type[GaugeMetricFamily | CounterMetricFamily],
        name: str,
        text: str,
        labels: Sequence[str],
        read: Read,
    ) -> None:
        self._family, self._name, self._text = family, name, text
        self._labels = labels
        self._read = read

    def describe(self) -> Iterable[Metric]:
        # Else the registry reads once to learn the name, before anything is there to be read.
        return [self._family(self._name, self._text, labels=self._labels)]

    def collect(self) -> Iterable[Metric]:
        family = self._family(self._name, self._text, labels=self._labels)
        for values, number in self._read().items():
            family.add_metric(values, number)
        yield family


class _Spreads(Collector):
    def __init__(self, name: str, text: str, children: Children[Spread]) -> None:
        self._name, self._text = name, text
        self._children = children

    def collect(self) -> Iterable[Metric]:
        family = HistogramMetricFamily(self._name, self._text, labels=self._children.labels)
        for values, spread in self._children.items():
            family.add_metric(values, spread.buckets(), spread.sum)
        yield family


CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
