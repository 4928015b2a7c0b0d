"""Whom a node tries, and when: the plan as a table, the loop against scripted sources."""

from __future__ import annotations

from types import SimpleNamespace

import anyio
import pytest

from helexa.mesh.discovery.advert import Found
from helexa.mesh.discovery.bootstrap import (
    AT_ONCE_MAX,
    TRIES_MAX,
    Bootstrap,
    Candidate,
    Source,
    Zeal,
    given,
    heard,
    plan,
    remembered,
)
from helexa.mesh.discovery.dns import SeedsUnknown
from helexa.mesh.discovery.peer_cache import PeerCache
from helexa.mesh.ticket import Ticket

pytestmark = pytest.mark.anyio

OWN = "0f" * 32


def ticket(number, port=1):
    return Ticket(node=f"{number:064x}", addresses={"tls": (f"10.0.0.{number % 250}:{port}",)})


def node(number):
    return ticket(number).node


def source(zeal=Zeal.ALONE, tickets=(), name=None):
    async def look():
        return tickets

    return Source(name=name or zeal.value, look=look, zeal=zeal)


def chosen(*seen, alone, tried=(), joined=(), most=TRIES_MAX):
    """`seen`: pairs of a ticket and a zeal."""
    candidates = [Candidate(each, source(zeal)) for each, zeal in seen]
    picked = plan(candidates, own=OWN, alone=alone, tried=tried, joined=joined, most=most)
    return [each.ticket for each in picked]


# --- the plan

ONE_OF_EACH = tuple((ticket(number), zeal) for number, zeal in enumerate(Zeal))


def test_a_node_that_is_alone_tries_everybody_in_the_order_of_the_sources():
    everybody = [each for each, _ in ONE_OF_EACH]
    assert chosen(*ONE_OF_EACH, alone=True) == everybody
    assert chosen(*ONE_OF_EACH, alone=True, joined=[node(3)]) == everybody


def test_a_node_with_company_leaves_remembered_peers_alone():
    assert chosen(*ONE_OF_EACH, alone=False) == [ticket(1), ticket(2), ticket(3)]


def test_a_node_with_company_tries_whom_it_heard_once_and_whom_it_was_told_until_joined():
    tried = [node(number) for number in range(4)]
    assert chosen(*ONE_OF_EACH, alone=False, tried=tried) == [ticket(2), ticket(3)]
    assert chosen(*ONE_OF_EACH, alone=False, tried=tried, joined=[node(2), node(3)]) == []


def test_a_node_does_not_try_itself():
    assert chosen((Ticket(node=OWN, addresses={}), Zeal.UNTIL_EACH), alone=True) == []


def test_a_node_named_twice_is_tried_once_for_each_set_of_addresses():
    seen = [
        (ticket(1), Zeal.UNTIL_EACH),
        (ticket(1), Zeal.ONCE),
        (ticket(1, port=2), Zeal.ONCE),
    ]
    assert chosen(*seen, alone=True) == [ticket(1), ticket(1, port=2)]


def test_of_more_than_one_round_takes_the_longest_untried_come_first():
    many = [(ticket(number), Zeal.ALONE) for number in range(TRIES_MAX + 5)]
    first = chosen(*many, alone=True)
    assert first == [ticket(number) for number in range(TRIES_MAX)]
    second = chosen(*many, alone=True, tried=[each.node for each in first])
    assert second[:5] == [ticket(number) for number in range(TRIES_MAX, TRIES_MAX + 5)]
    assert second[5:] == first[: TRIES_MAX - 5]


# --- the loop


class World:
    """Which nodes would take this one in, and what it did about it."""

    def __init__(self, *, alive=(), members=0, enough=1):
        self.alive = {node(number) for number in alive}
        self.members, self.enough = members, enough
        self.tried = []
        self.delays = []
        self.asked = 0
        self.changed = anyio.Event()

    def is_alone(self):
        self.asked += 1
        self._note()
        return self.members < self.enough

    async def join_one(self, ticket, source):
        self.tried.append((int(ticket.node, 16), source))
        joined = ticket.node in self.alive
        self.members += joined
        self._note()
        return joined

    def delay_s(self, failures, jitter):
        """As a `Backoff`: notes what was asked, and does not wait long."""
        self.delays.append(failures)
        self._note()
        return 0.001

    def _note(self):
        self.changed.set()

    async def until(self, holds):
        with anyio.fail_after(20):
            while not holds():
                await self.changed.wait()
                self.changed = anyio.Event()

    async def calm(self):
        """Several looks at a node that has nothing to do."""
        since = self.asked
        await self.until(lambda: self.asked >= since + 6)

    def running(self, *sources, join_one=None, calm_s=0.005, **options):
        return Bootstrap.running(
            sources,
            join_one or self.join_one,
            self.is_alone,
            own=OWN,
            backoff=self,
            calm_s=calm_s,
            **options,
        )


async def test_a_lone_node_asks_until_somebody_takes_it_in_and_then_no_more():
    world = World(alive=[2])
    looks = []

    async def look():
        looks.append(1)
        return [ticket(1), ticket(2), ticket(3)]

    async with world.running(Source(name="x", look=look)):
        await world.until(lambda: world.members)
        before = len(looks)
        await world.calm()
        assert len(looks) == before
    assert (2, "x") in world.tried


async def test_a_node_that_nobody_takes_goes_on_for_ever_and_ever_slower():
    world = World()
    async with world.running(given([ticket(1)])) as bootstrap:
        await world.until(lambda: len(world.delays) == 30)
    assert world.delays == list(range(1, 31))
    assert bootstrap.rounds >= 30
    assert world.tried[:30] == [(1, "tickets")] * 30


async def test_a_node_that_loses_all_others_asks_again():
    world = World(alive=[1])
    async with world.running(source(tickets=[ticket(1)])):
        await world.until(lambda: world.members)
        world.members = 0
        await world.until(lambda: world.members)
    assert len(world.tried) >= 2


async def test_whom_the_operator_named_is_tried_until_joined_by_a_node_with_company_too():
    """Otherwise two halves that each found somebody would never become one mesh."""
    world = World(members=5)
    async with world.running(given([ticket(1), ticket(2)]), source(tickets=[ticket(9)])):
        await world.until(lambda: len(world.tried) >= 6)
        world.alive |= {node(1), node(2)}
        await world.until(lambda: world.members == 7)
        count = len(world.tried)
        await world.calm()
        assert len(world.tried) == count
    assert {number for number, _ in world.tried} == {1, 2}


async def test_of_an_operators_seeds_one_is_enough():
    world = World(members=5)
    looks = []

    async def look():
        looks.append(1)
        if len(looks) < 3:
            raise SeedsUnknown("no such name")
        return [ticket(1), ticket(2)]

    seeds = Source(name="dns", look=look, zeal=Zeal.UNTIL_ONE)
    async with world.running(seeds) as bootstrap:
        await world.until(lambda: len(world.delays) == 2)
        assert "no such name" in bootstrap.problems["dns"]
        world.alive |= {node(2)}
        await world.until(lambda: world.members == 6)
        await world.calm()
        assert len(looks) <= 4
        assert bootstrap.problems["dns"] == ""


async def test_a_cortex_heard_on_the_lan_is_tried_at_once_and_by_a_node_with_company_once():
    world = World(members=5)
    lan = SimpleNamespace(found=())
    async with world.running(heard(lan), calm_s=60.0) as bootstrap:
        lan.found = (
            Found(ticket=ticket(1), role="cortex"),
            Found(ticket=ticket(2), role="neuron"),
        )
        bootstrap.call()
        with anyio.fail_after(55):
            await world.until(lambda: world.tried)
    assert world.tried == [(1, "LAN")]


async def test_a_source_that_fails_is_logged_once_and_hides_nobody(caplog):
    world = World()

    async def broken():
        raise RuntimeError("no resolver")

    async with world.running(Source(name="dns", look=broken), given([ticket(1)])) as bootstrap:
        await world.until(lambda: len(world.tried) >= 5)
        assert bootstrap.problems == {"dns": "RuntimeError: no resolver", "tickets": ""}
    assert caplog.text.count("nothing found by dns") == 1


async def test_a_try_that_hangs_or_fails_does_not_keep_from_the_others(caplog):
    world = World(alive=[3])

    async def join_one(ticket, source):
        if ticket.node == node(1):
            await anyio.sleep_forever()
        if ticket.node == node(2):
            raise RuntimeError("cannot")
        return await world.join_one(ticket, source)

    async with world.running(
        given([ticket(1), ticket(2), ticket(3)]), join_one=join_one, try_s=0.02
    ):
        await world.until(lambda: world.members)
    assert "a node could not be tried" in caplog.text


async def test_only_a_few_are_tried_at_once():
    world = World()
    busy, most, gate = [0], [0], anyio.Event()

    async def join_one(ticket, source):
        busy[0] += 1
        most[0] = max(most[0], busy[0])
        if busy[0] == AT_ONCE_MAX:
            gate.set()
        with anyio.fail_after(20):
            await gate.wait()
        await anyio.lowlevel.checkpoint()
        busy[0] -= 1
        return await world.join_one(ticket, source)

    many = [ticket(number) for number in range(1, 31)]
    async with world.running(given(many), join_one=join_one):
        await world.until(lambda: len(world.tried) >= 30)
    assert most[0] == AT_ONCE_MAX


async def test_a_restarted_node_finds_back_when_its_first_contact_is_gone(tmp_path):
    async with PeerCache(tmp_path / "peers.json").running() as cache:
        for number in range(1, 20):
            cache.remember(ticket(number), number)
    world = World(alive=[7])
    again = PeerCache(tmp_path / "peers.json")
    async with world.running(given([ticket(99)]), remembered(again)):
        await world.until(lambda: world.members)
    assert (7, "remembered peers") in world.tried
