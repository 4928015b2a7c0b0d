"""Measures what the mesh promises: how fast news and deaths get around, false alarms, and bytes.

Times are virtual seconds of the WAN preset. Records are of the usual size
(`identities.usual_draft`) and every node has something new to say once a
minute, which is oftener than any mesh here lets it: the bytes are those of a
mesh that is as busy as it lets itself be.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from helexa.mesh.membership.events import Changed, Died, Event
from helexa.testing.simulation.identities import BEGIN_UNIX_S
from helexa.testing.simulation.network import Network
from helexa.testing.simulation.world import MESSAGE_OVERHEAD_BYTES, Node, World

Say: TypeAlias = Callable[[str], None]

SIZES: Final = (100, 300, 1_000, 2_000, 5_000)
CHANGE_EVERY_S: Final = 60.0
WARM_S: Final = 60.0
MEASURED_S: Final = 60.0
USUAL_RECORD_BYTES: Final = 1_500
NEWS_S: Final = 120.0
LATEST_S: Final = 60.0
DEATHS: Final = 20
NODE_DAYS: Final = 10.0
DAY_S: Final = 86_400.0


def measure(seed: int, say: Say) -> dict[str, Any]:
    """Everything, a few minutes of one core. Takes a seed and whom to tell of progress."""
    found: dict[str, Any] = {"seed": seed, "preset": "wan", "overhead": MESSAGE_OVERHEAD_BYTES}
    for name, measured in (("news", news), ("deaths", deaths), ("false_deaths", false_deaths)):
        found[name] = measured(seed)
        say(f"{name}: {found[name]}")
    found["traffic"] = []
    for size in SIZES:
        row = traffic(seed, size)
        found["traffic"].append(row)
        say(f"traffic: {row}")
    return found


def news(seed: int, size: int = 1_000, loss: float = 0.05) -> dict[str, Any]:
    """How long until everybody has a record, for all that were published in a while."""
    world = busy_mesh(seed, size, loss)
    world.run(WARM_S)
    begun_s = world.now_s
    heard: dict[tuple[str, int], list[float]] = {}

    def note(_node: Node, event: Event) -> None:
        if isinstance(event, Changed):
            signed = event.member.signed
            heard.setdefault((signed.node, signed.sequence), []).append(world.now_s)

    world.on_event = note
    world.run(NEWS_S + LATEST_S)
    took_s = []
    for (_, sequence), times in heard.items():
        # A sequence is the millisecond at which it was signed.
        issued_s = sequence / 1_000 - BEGIN_UNIX_S
        if begun_s <= issued_s < begun_s + NEWS_S:
            assert len(times) == size - 1, f"{len(times)} of {size - 1} have it after {LATEST_S} s"
            took_s.append(times[-1] - issued_s)
    period_s = world.preset.period_s
    own = world.nodes[0].membership.own
    assert own is not None
    return {
        "nodes": size,
        "loss": loss,
        "records": len(took_s),
        "record_bytes": len(own.signed.blob),
        "median_periods": statistics.median(took_s) / period_s,
        "most_periods": max(took_s) / period_s,
    }


def deaths(seed: int, size: int = 1_000, loss: float = 0.05, count: int = DEATHS) -> dict[str, Any]:
    """How long until 99 of 100 living nodes hold a killed one for dead; its links stay silent."""
    world = busy_mesh(seed, size, loss)
    knowing: dict[str, list[float]] = {}

    def note(_node: Node, event: Event) -> None:
        if isinstance(event, Died):
            knowing.setdefault(event.member.node, []).append(world.now_s)

    world.on_event = note
    first_s, most_s = [], []
    for victim in world.random.sample(world.nodes, count):
        killed_s = world.now_s
        world.kill(victim)
        world.run(15.0)
        living = sum(node.is_up for node in world.nodes)
        times = knowing[victim.id]
        enough = -(-99 * living // 100)
        assert len(times) >= enough, f"{len(times)} of {living} know after 15 s"
        first_s.append(times[0] - killed_s)
        most_s.append(times[enough - 1] - killed_s)
    return {
        "nodes": size,
        "loss": loss,
        "deaths": count,
        "first_median_s": statistics.median(first_s),
        "median_s": statistics.median(most_s),
        "most_s": max(most_s),
    }


def false_deaths(seed: int, size: int = 1_000, loss: float = 0.1) -> dict[str, Any]:
    """How often anybody living holds anybody living for dead."""
    world = busy_mesh(seed, size, loss)
    span_s = NODE_DAYS * DAY_S / size
    world.run(span_s)
    accused = sum(node.membership.counters.suspicions for node in world.nodes)
    return {
        "nodes": size,
        "loss": loss,
        "node_days": NODE_DAYS,
        "false_deaths": len(world.false_deaths),
        "per_node_day": len(world.false_deaths) / NODE_DAYS,
        "public_suspicions_per_node_day": accused / NODE_DAYS,
    }


def traffic(seed: int, size: int, loss: float = 0.05) -> dict[str, Any]:
    """What a node sends, in bytes a second."""
    world = busy_mesh(seed, size, loss)
    world.run(WARM_S)
    before = [(node.bytes_sent, node.messages_sent, node.dials) for node in world.nodes]
    world.run(MEASURED_S)
    rates = sorted(
        (node.bytes_sent - sent) / MEASURED_S
        for node, (sent, _, _) in zip(world.nodes, before, strict=True)
    )
    messages = sum(node.messages_sent for node in world.nodes) - sum(each[1] for each in before)
    dials = sum(node.dials for node in world.nodes) - sum(each[2] for each in before)
    return {
        "nodes": size,
        "loss": loss,
        "bytes_per_s": statistics.fmean(rates),
        "bytes_per_s_99": rates[-(-99 * size // 100) - 1],
        "messages_per_s": messages / MEASURED_S / size,
        "dials_per_s": dials / MEASURED_S / size,
    }


def busy_mesh(seed: int, size: int, loss: float) -> World:
    """A mesh that has stood for a while, in which everybody has news once a minute."""
    world = World(seed, network=Network(loss=loss))
    world.add(size)

    def change(node: Node) -> None:
        if node.is_up:
            world.publish(node)
            world.at(CHANGE_EVERY_S * (0.5 + world.random.random()), change, node)

    # What each may publish in a burst was spent; each is somewhere on its way to the next.
    age_s = size * USUAL_RECORD_BYTES / world.preset.spread_bytes_per_s
    world.prime(records=3, age_s=age_s)
    for node in world.nodes:
        world.at(CHANGE_EVERY_S * world.random.random(), change, node)
    return world
