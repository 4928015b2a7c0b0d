"""Cortexes that nobody can dial - behind NAT, without a relay - but that dial others."""

from __future__ import annotations

from collections import Counter
from contextlib import AsyncExitStack

import pytest
from tests.mesh.meshes import Died, Suspected, agree, site, until

from helexa.mesh import overlay as overlay_module
from helexa.mesh.membership import events
from helexa.mesh.transports.memory import MemoryNetwork
from helexa.testing.simulation.network import Network
from helexa.testing.simulation.world import World

MINUTE = 60.0


class Sheltered(World):
    """A world in which links to some are made by themselves alone."""

    def __init__(self, seed, share, count, **options):
        super().__init__(seed, **options)
        nodes = self.add(count)
        self.hidden = {node.number for node in nodes[int(count * (1 - share)) :]}
        self.happened = Counter()
        self.on_event = lambda _node, event: self.happened.update([type(event)])

    def link(self, node, other):
        if other.number not in self.hidden:
            super().link(node, other)

    def _send(self, node, target, message):
        other = self.node(target)
        stands = node.links.get(other.number, -1.0) >= self.now_s if other else False
        if stands or (other is not None and other.number not in self.hidden):
            super()._send(node, target, message)

    def bytes_per_node_s(self, span_s):
        before = sum(node.bytes_sent + node.bytes_received for node in self.nodes)
        self.run(span_s)
        after = sum(node.bytes_sent + node.bytes_received for node in self.nodes)
        return (after - before) / span_s / len(self.nodes)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.6])
def test_members_that_cannot_be_dialled_live_among_the_others_in_peace(share):
    """A third of a mesh at home behind routers once made it suspect them for ever, and everybody
    pay ten times the traffic for their objections."""
    world = Sheltered(7, share, 60)
    world.join(over_s=5)
    world.run(2 * MINUTE)
    assert world.false_deaths == []
    assert world.agrees(), world.disagreements()
    settled = Counter(world.happened)
    rate = world.bytes_per_node_s(8 * MINUTE)
    assert world.false_deaths == []
    assert world.agrees(), world.disagreements()
    # Suspicions are counted once per node that hears of them.
    news = world.happened - settled
    assert news[events.Suspected] <= 0.5 * len(world.nodes) * len(world.hidden)
    assert rate < 2_500


@pytest.mark.parametrize("of", ["hidden", "open"])
def test_the_death_of_a_member_is_noticed_among_many_that_cannot_be_dialled(of):
    world = Sheltered(8, 0.3, 60, network=Network(loss=0.02))
    world.join(over_s=5)
    world.run(3 * MINUTE)
    dying = [node for node in world.nodes if (node.number in world.hidden) is (of == "hidden")][-3:]
    for node in dying:
        world.kill(node)
    world.run_until(world.agrees, at_most_s=30)
    assert world.false_deaths == []


def test_one_that_cannot_be_dialled_comes_back_after_its_line_was_cut():
    world = Sheltered(9, 0.3, 40)
    world.join(over_s=5)
    world.run(MINUTE)
    lost = [world.nodes[number] for number in sorted(world.hidden)[:3]]
    world.split(lost)
    for node in lost:
        for number in list(node.links):
            world.nodes[number].links.pop(node.number, None)
        node.links.clear()
    rest = [node for node in world.nodes if node not in lost]
    world.run_until(
        lambda: all(
            node.membership.members[one.id].state is events.State.DEAD
            for node in rest
            for one in lost
        ),
        at_most_s=60,
    )
    world.heal()
    world.run_until(world.agrees, at_most_s=5 * MINUTE)


@pytest.mark.anyio
async def test_overlays_keep_one_that_refuses_every_dial_by_the_links_it_made(monkeypatch):
    """Also when it has been silent for longer than an unused link is kept."""
    monkeypatch.setattr(overlay_module, "IDLE_S", 0.5)
    monkeypatch.setattr(overlay_module, "LOOK_EVERY_S", 0.05)
    monkeypatch.setattr(overlay_module, "REACH_S", 0.3)
    network = MemoryNetwork(silence_s=30)
    async with AsyncExitStack() as stack:
        hidden = await stack.enter_async_context(site(network, hidden=True))
        others = [await stack.enter_async_context(site(network)) for _ in range(3)]
        for other in others[1:]:
            await other.join(others[0])
        await hidden.join(others[0])
        everybody = [hidden, *others]
        await until(lambda: agree(everybody))
        await until(lambda: all(hidden.id in one.core.neighbours for one in others))
        # A hundred rounds of probes each.
        probes = {one.id: one.core.counters.sent["mesh.probe"] for one in everybody}
        await until(
            lambda: all(
                one.core.counters.sent["mesh.probe"] > probes[one.id] + 100 for one in everybody
            )
        )
        assert agree(everybody)
        for one in others:
            assert not one.seen(Suspected, hidden)
            assert not one.seen(Died, hidden)
            assert one.overlay.session_with(hidden.id) is not None
            # What it wants said reaches it, though no dial does.
            assert not one.overlay.session_with(hidden.id).dialled
