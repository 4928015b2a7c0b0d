"""The simulation itself: what it does to messages and whom it blames."""

from __future__ import annotations

import random

import pytest

from helexa.testing.simulation import figures, report
from helexa.testing.simulation.network import Network, lan
from helexa.testing.simulation.world import World


def test_a_message_is_lost_as_often_as_is_said():
    network, randomness = Network(loss=0.25), random.Random(1)
    fates = [network.fates_s(randomness, 1, 2) for _ in range(4_000)]
    assert sum(not fate for fate in fates) == pytest.approx(1_000, rel=0.1)


def test_a_message_is_repeated_as_often_as_is_said():
    network, randomness = Network(duplicates=0.25), random.Random(1)
    fates = [network.fates_s(randomness, 1, 2) for _ in range(4_000)]
    assert sum(len(fate) == 2 for fate in fates) == pytest.approx(1_000, rel=0.1)


def test_nothing_crosses_a_partition_and_everything_else_does():
    network, randomness = Network(sides={1: 1, 2: 1}), random.Random(1)
    assert network.fates_s(randomness, 1, 3) == []
    assert network.fates_s(randomness, 3, 2) == []
    assert network.fates_s(randomness, 1, 2)
    assert network.fates_s(randomness, 3, 4)


def test_delays_have_the_median_that_is_said():
    network, randomness = lan(), random.Random(1)
    delays = sorted(network.delay_s(randomness) for _ in range(2_001))
    assert delays[1_000] == pytest.approx(network.delay_median_s, rel=0.1)


def test_a_wrong_belief_is_said_in_words():
    world = World(1)
    one, two = world.add(2)
    world.start(one)
    world.start(two)
    assert world.disagreements() == [
        "0 holds 1, alive, for nobody",
        "1 holds 0, alive, for nobody",
    ]


def test_what_never_comes_true_ends_with_an_assertion():
    world = World(1)
    with pytest.raises(AssertionError, match="still not so after 5 s"):
        world.run_until(lambda: False, at_most_s=5)


def test_a_stopped_process_gets_its_messages_when_it_runs_again():
    world = World(1, network=lan())
    one, two = world.add(2)
    world.prime()
    world.run(5.0)
    world.stop(two)
    before = sum(two.membership.counters.received.values())
    world.run(2.0)
    assert sum(two.membership.counters.received.values()) == before
    world.resume(two)
    world.run(0.1)
    assert sum(two.membership.counters.received.values()) > before
    assert one.is_healthy


def test_figures_of_a_small_mesh_fill_the_page(tmp_path):
    found = {
        "seed": 3,
        "overhead": 110,
        "news": figures.news(3, 30),
        "traffic": [figures.traffic(3, size) for size in (10, 30)],
        "deaths": figures.deaths(3, 60, count=3),
        "false_deaths": {
            "nodes": 60,
            "loss": 0.1,
            "node_days": 1.0,
            "false_deaths": 0,
            "per_node_day": 0.0,
            "public_suspicions_per_node_day": 0.5,
        },
    }
    report.write(tmp_path, found)
    page = (tmp_path / "mesh.md").read_text()
    assert "| 30 |" in page
    assert found["news"]["most_periods"] < 15
    assert found["deaths"]["most_s"] < 12
    assert (tmp_path / "mesh.svg").read_text().startswith("<svg")
