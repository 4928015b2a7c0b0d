"""What happens to meshes, and what must be true afterwards: each a function of a seed.

A scenario raises AssertionError with what is wrong; `__main__` prints the seed
that shows it again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from helexa.mesh.membership.events import ClockOff, Doubled, Event, State
from helexa.testing.simulation.hostile import ATTACKS
from helexa.testing.simulation.network import Network, lan
from helexa.testing.simulation.world import Node, World

Scenario: TypeAlias = Callable[[int], World]
"""Takes a seed and gives the world as it ended, for who wants to look at more."""

DAY_S: Final = 86_400.0


def a_crowd_joins(seed: int) -> World:
    """Two hundred nodes that start within a second by one bootstrap all know one another soon."""
    world = World(seed, network=Network(loss=0.05))
    world.add(200)
    world.join()
    world.run(1.0)
    world.run_until(world.agrees, at_most_s=20)
    _nobody_died_wrongly(world)
    return world


def some_die(seed: int) -> World:
    """A tenth dies at once without a word, and everybody knows within 20 s."""
    world = _standing(seed, 100, Network(loss=0.05))
    for node in world.random.sample(world.nodes, 10):
        world.kill(node)
    world.run_until(world.agrees, at_most_s=20)
    _nobody_died_wrongly(world)
    return world


def processes_die(seed: int) -> World:
    """A process whose links break is known dead within 8 s."""
    world = _standing(seed, 40, Network(loss=0.02))
    world.kill(world.nodes[5], is_noticed=True)
    world.run_until(world.agrees, at_most_s=8)
    return world


def some_leave(seed: int) -> World:
    """Who says goodbye is gone for everybody within 3 s, and nobody suspects it first."""
    world = _standing(seed, 60, Network(loss=0.05))
    leaver = world.nodes[7]
    world.leave(leaver)
    world.run_until(world.agrees, at_most_s=3)
    states = {node.membership.members[leaver.id].state for node in world.nodes if node.is_up}
    assert states == {State.LEFT}, states
    return world


def one_comes_back(seed: int) -> World:
    """A node that was dead for ten minutes starts again by one door and is back with everyone."""
    world = _standing(seed, 40, Network(loss=0.05))
    node = world.nodes[11]
    world.kill(node)
    world.run(600.0)
    world.run_until(world.agrees, at_most_s=20)
    world.start(node, by=world.nodes[3])
    world.run_until(world.agrees, at_most_s=20)
    return world


def halves_part_and_meet(seed: int) -> World:
    """Two halves that gave each other up come together by themselves."""
    world = _standing(seed, 60, Network(loss=0.02))
    half, rest = world.nodes[:30], world.nodes[30:]
    world.split(half)

    def have_parted() -> bool:
        beyond = ((node, other) for node in half for other in rest)
        return not any(_believes(one, two) or _believes(two, one) for one, two in beyond)

    # Half of everybody's partners are gone at once; who lost all of them learns it by comparing.
    world.run_until(have_parted, at_most_s=120, look_s=5.0)
    for side in (half, rest):
        assert not world.disagreements(of=side), world.disagreements(of=side)
    world.publish(half[0])
    world.heal()
    world.run_until(world.agrees, at_most_s=240)
    _nobody_died_wrongly(world)
    return world


def a_lone_node_is_cut_off(seed: int) -> World:
    """One node loses its network for five minutes; both sides recover by themselves."""
    world = _standing(seed, 30, Network(loss=0.02))
    world.split([world.nodes[9]])
    world.run(300.0)
    world.heal()
    world.run_until(world.agrees, at_most_s=180)
    _nobody_died_wrongly(world)
    return world


def one_stops_and_resumes(seed: int) -> World:
    """A stopped process is given up, accuses nobody when it wakes, and is back within seconds."""
    world = _standing(seed, 40, Network(loss=0.02))
    node = world.nodes[4]
    world.stop(node)
    world.run(30.0)
    well = [each for each in world.nodes if each is not node]
    assert not any(each.membership.members[node.id].is_present for each in well)
    world.resume(node)
    world.run_until(world.agrees, at_most_s=30)
    _nobody_died_wrongly(world)
    return world


def some_are_slow(seed: int) -> World:
    """A fifth stalls for one to three seconds again and again; nobody is given up for it."""
    world = _standing(seed, 60, Network(loss=0.02))
    slow = world.nodes[::5]

    def stall(node: Node) -> None:
        world.stall(node, 1.0 + 2.0 * world.random.random())
        world.at(8.0 + 8.0 * world.random.random(), stall, node)

    for node in slow:
        world.at(10.0 * world.random.random(), stall, node)
    world.run(300.0)
    _nobody_died_wrongly(world)
    return world


def messages_come_twice_and_late(seed: int) -> World:
    """Every fifth message is repeated, and delays vary by a factor of a hundred."""
    network = Network(loss=0.1, duplicates=0.2, delay_sigma=1.2)
    world = _standing(seed, 60, network)
    world.kill(world.nodes[1])
    world.publish(world.nodes[2])
    world.run_until(world.agrees, at_most_s=60)
    _nobody_died_wrongly(world)
    return world


def two_share_a_key(seed: int) -> World:
    """A copy of a node's key is noticed by the node itself, and neither publishes in a frenzy."""
    world = World(seed, network=lan())
    first, *_ = world.add(20)
    doubled: list[int] = []

    def note(node: Node, event: Event) -> None:
        if isinstance(event, Doubled):
            doubled.append(node.number)

    world.on_event = note
    world.prime()
    world.run(30.0)
    twin = world.add_twin(first)
    world.start(twin, by=world.nodes[10])
    for _ in range(6):
        world.publish(first)
        world.run(7.0)
        world.publish(twin)
        world.run(13.0)
    assert doubled, "nobody noticed"
    records = sum(node.membership.counters.sent["mesh.want"] for node in world.nodes)
    # One every publishing interval of each twin, wanted once by everyone.
    assert records < 20 * 120, f"{records} records were asked for"
    return world


def a_clock_is_a_day_off(seed: int) -> World:
    """A node whose clock is a day ahead is told so, and the others do without it."""
    world = World(seed, network=Network(loss=0.02))
    *others, late = world.add(20)
    late.skew_s = DAY_S if seed % 2 else -DAY_S
    told: list[float] = []

    def note(node: Node, event: Event) -> None:
        if node is late and isinstance(event, ClockOff):
            told.append(event.seconds)

    world.on_event = note
    world.prime(others)
    world.run(10.0)
    world.start(late, by=others[0])
    world.run(60.0)
    assert told, "it was not told"
    # By acks it is exact; by a record it is off by the age of the record.
    assert abs(told[0] - late.skew_s) < 60, told
    assert not world.disagreements(of=others), world.disagreements(of=others)
    return world


def one_attacks(seed: int, attack: str) -> World:
    """One member of fifty misbehaves for three minutes; the others neither die nor pay for it."""
    world = _standing(seed, 50, Network(loss=0.02))
    honest, bad = world.nodes[:-1], world.nodes[-1]
    world.run(60.0)
    before = _bytes_per_s(world, honest, 60.0)
    ATTACKS[attack](world, bad)
    # An attacker has a burst of everything; what goes on and on is what counts.
    world.run(60.0)
    during = _bytes_per_s(world, honest, 120.0)
    _nobody_died_wrongly(world, besides=bad)
    assert during < 5_000, f"{before:.0f} B/s a node became {during:.0f}"
    world.kill(bad)
    world.run_until(lambda: not world.disagreements(of=honest), at_most_s=60)
    return world


def _standing(seed: int, count: int, network: Network) -> World:
    world = World(seed, network=network)
    world.add(count)
    world.prime()
    world.run(15.0)
    assert world.agrees(), world.disagreements()
    return world


def _believes(node: Node, other: Node) -> bool:
    return node.membership.members[other.id].is_present


def _bytes_per_s(world: World, nodes: list[Node], span_s: float) -> float:
    before = sum(node.bytes_sent for node in nodes)
    world.run(span_s)
    return (sum(node.bytes_sent for node in nodes) - before) / span_s / len(nodes)


def _nobody_died_wrongly(world: World, *, besides: Node | None = None) -> None:
    wrong = [
        death for death in world.false_deaths if besides is None or besides.number not in death[1:]
    ]
    assert not wrong, f"{len(wrong)} false deaths, the first at {wrong[0]}"


def _attacked_by(attack: str) -> Scenario:
    def scenario(seed: int) -> World:
        return one_attacks(seed, attack)

    return scenario


SCENARIOS: Final[dict[str, Scenario]] = {
    scenario.__name__: scenario
    for scenario in (
        a_crowd_joins,
        some_die,
        processes_die,
        some_leave,
        one_comes_back,
        halves_part_and_meet,
        a_lone_node_is_cut_off,
        one_stops_and_resumes,
        some_are_slow,
        messages_come_twice_and_late,
        two_share_a_key,
        a_clock_is_a_day_off,
    )
} | {f"one_attacks_{attack}": _attacked_by(attack) for attack in ATTACKS}
