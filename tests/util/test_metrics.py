"""Numbers of one node, as Prometheus reads them."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from helexa.util.metrics import Metrics


def samples(metrics: Metrics) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(metrics.render().decode())
        for sample in family.samples
    }


def test_two_nodes_in_one_process_share_nothing() -> None:
    one, other = Metrics(), Metrics()
    one.tallies("requests", "Text.", ["path"])[("/a",)].add(3)
    other.tallies("requests", "Text.", ["path"])[("/a",)].add(5)
    assert samples(one)["helexa_requests_total", "/a"] == 3
    assert samples(other)["helexa_requests_total", "/a"] == 5


def test_a_spread_counts_a_value_on_a_border_below_it_as_prometheus_does() -> None:
    metrics = Metrics()
    spread = metrics.spreads("seconds", "Text.", ["path"], borders=(0.1, 1))[("/a",)]
    for value in (0.05, 0.1, 0.5, 7):
        spread.add(value)
    found = samples(metrics)
    # Labels in the order of the text: le before path.
    assert found["helexa_seconds_bucket", "0.1", "/a"] == 2
    assert found["helexa_seconds_bucket", "1.0", "/a"] == 3
    assert found["helexa_seconds_bucket", "+Inf", "/a"] == 4
    assert found["helexa_seconds_count", "/a"] == 4
    assert found["helexa_seconds_sum", "/a"] == pytest.approx(7.65)


def test_label_values_beyond_the_bound_are_counted_together() -> None:
    metrics = Metrics()
    tallies = metrics.tallies("requests", "Text.", ["path"])
    tallies.most = 2
    for path in ("/a", "/b", "/c", "/d", "/a"):
        tallies[(path,)].add()
    assert {values: tally.value for values, tally in tallies.items()} == {
        ("/a",): 2,
        ("/b",): 1,
        ("other",): 2,
    }


def test_the_librarys_own_kinds_are_in_the_same_registry() -> None:
    metrics = Metrics()
    metrics.gauge("gauge", "Text.").set(4)
    metrics.counter("counter", "Text.", ["kind"]).labels("x").inc(2)
    metrics.histogram("histogram", "Text.").observe(1)
    found = samples(metrics)
    assert found[("helexa_gauge",)] == 4
    assert found["helexa_counter_total", "x"] == 2
    assert found[("helexa_histogram_count",)] == 1


def test_numbers_that_others_keep_are_read_when_they_are_asked_for() -> None:
    metrics = Metrics()
    kept = {("a",): 1.0}
    metrics.read_gauge("level", "Text.", ["kind"], lambda: kept)
    metrics.read_counter("events", "Text.", ["kind"], lambda: kept)
    kept[("b",)] = 2.0
    found = samples(metrics)
    assert found["helexa_level", "b"] == found["helexa_events_total", "b"] == 2
    kept.clear()
    assert ("helexa_level", "a") not in samples(metrics)
