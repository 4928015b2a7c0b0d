"""The loop around the membership core: what it sends, whom it stays linked with, how it goes."""

from __future__ import annotations

import math
from contextlib import asynccontextmanager
from types import SimpleNamespace

import anyio
import pytest
from tests.mesh import meshes
from tests.mesh.meshes import WAIT_S, Died, Joined, Suspected, site, sites, until

from helexa.mesh import overlay as overlay_module
from helexa.mesh.identity import NodeKey
from helexa.mesh.membership.events import Cleared, Left, Out, Rejected, State
from helexa.mesh.overlay import NotIntroduced
from helexa.mesh.sessions.handshake import CloseCode
from helexa.mesh.ticket import Ticket
from helexa.mesh.transport import DialFailed, LinkClosed
from helexa.mesh.transports.memory import MemoryNetwork
from helexa.protocol.gossip import News, Probe
from helexa.util.backoff import Backoff
from helexa.util.logs import every

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _brisk(monkeypatch):
    """Links are looked at often, so that no test has to wait for it."""
    monkeypatch.setattr(overlay_module, "LOOK_EVERY_S", 0.02)


class Script:
    """A core that says what a test tells it to, and notes what it was told."""

    def __init__(self):
        self.members = {}
        self.neighbours = frozenset()
        self.wake_s = math.inf
        self.says = Out()
        self.heard, self.ups, self.downs, self.ticks = [], [], [], []
        self.wakes_after_hearing = None
        self.told = anyio.Event()

    def knows(self, other):
        record = SimpleNamespace(addresses=dict(other.node.ticket().addresses))
        self.members[other.id] = SimpleNamespace(signed=SimpleNamespace(record=record))

    def publish(self, now, draft):
        return self._said()

    def receive(self, now, sender, message):
        self.heard.append(message)
        if self.wakes_after_hearing is not None:
            self.wake_s = now.monotonic_s + self.wakes_after_hearing
        return Out()

    def link_up(self, now, peer):
        self.ups.append(peer)
        return Out()

    def link_down(self, now, peer):
        self.downs.append(peer)
        return Out()

    def tick(self, now):
        self.ticks.append(now.monotonic_s)
        self.wake_s = math.inf
        return self._said()

    def leave(self, now):
        return Out()

    def _said(self):
        says, self.says = self.says, Out()
        return says


@asynccontextmanager
async def scripted(network, **options):
    """A site with a scripted core, and a way to make it say something."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(meshes.Site, "make_core", lambda _self: Script())
        async with site(network, **options) as here:

            def say(*sends):
                here.core.says = Out(sends=list(sends))
                here.publish()

            here.say = say
            here.dials = dials_of(here)
            yield here


def dials_of(here):
    """Every dial that this site's transport makes from now on."""
    transport = here.node.transports["memory"]
    dials, dial = [], transport.dial

    async def noted(peer, addresses, *, timeout_s):
        dials.append(peer)
        return await dial(peer, addresses, timeout_s=timeout_s)

    transport.dial = noted
    return dials


def probe(nonce):
    return Probe(nonce=nonce)


def nonces(here):
    return [message.nonce for message in here.core.heard]


@asynccontextmanager
async def two_scripted(**options):
    network = MemoryNetwork(silence_s=30)
    async with scripted(network, **options) as one, scripted(network) as other:
        one.core.knows(other)
        other.core.knows(one)
        yield one, other


# --- saying something


async def test_what_is_to_be_said_to_a_member_without_a_link_makes_one_and_arrives():
    async with two_scripted() as (one, other):
        one.say((other.id, probe(1)), (other.id, probe(2)))
        await until(lambda: nonces(other) == [1, 2])
        assert one.dials == [other.id]
        await until(lambda: one.core.ups == [other.id] and other.core.ups == [one.id])


async def test_what_is_said_over_a_standing_link_makes_no_other():
    async with two_scripted() as (one, other):
        await one.overlay.connect(other.id)
        await until(lambda: one.core.ups and other.core.ups)
        for number in range(20):
            one.say((other.id, probe(number)))
            other.say((one.id, probe(number)))
        await until(lambda: nonces(other) == nonces(one) == list(range(20)))
        assert len(one.dials) == 1
        assert not other.dials


async def test_no_more_waits_for_a_dial_than_a_peer_is_worth():
    async with two_scripted() as (one, other):
        most = overlay_module.WAITING_PER_PEER_MAX
        one.say(*((other.id, probe(number)) for number in range(most + 5)))
        await until(lambda: len(nonces(other)) == most)
        one.say((other.id, probe(99)))
        await until(lambda: nonces(other)[-1] == 99)
        assert nonces(other) == [*range(most), 99]


async def test_who_could_not_be_reached_is_not_dialled_again_for_every_word(monkeypatch):
    monkeypatch.setattr(overlay_module, "REACH_S", 0.05)
    async with two_scripted() as (one, other):
        one.node.transports["memory"]._network.hide(other.node.transports["memory"])
        for number in range(5):
            one.say((other.id, probe(number)))
        await until(lambda: one.overlay._peers[other.id].failures == 1)
        for number in range(5):
            one.say((other.id, probe(number)))
        assert one.dials == [other.id]
        assert one.overlay._peers[other.id].waiting == []


async def test_dials_at_once_have_a_bound_and_what_is_beyond_is_dropped(monkeypatch):
    monkeypatch.setattr(overlay_module, "REACHING_MAX", 2)
    monkeypatch.setattr(overlay_module, "REACH_S", 0.2)
    async with two_scripted() as (one, other):
        nobodies = [NodeKey.generate().node_id for _ in range(4)]
        for nobody in nobodies:
            one.core.members[nobody] = one.core.members[other.id]
            addresses = {"memory": (f"192.0.2.9:{nobodies.index(nobody) + 1}",)}
            record = SimpleNamespace(addresses=addresses)
            one.core.members[nobody] = SimpleNamespace(signed=SimpleNamespace(record=record))
        one.say(*((nobody, probe(1)) for nobody in nobodies))
        await until(lambda: one.overlay._reaching == 0 and len(one.dials) == 2)
        assert one.dials == nobodies[:2]
        assert all(not one.overlay._peers[nobody].waiting for nobody in nobodies)
        # There is room again: another member is reached.
        one.say((other.id, probe(7)))
        await until(lambda: nonces(other) == [7])


async def test_somebody_without_an_address_gets_nothing_and_costs_nothing():
    async with two_scripted() as (one, _other):
        nobody = NodeKey.generate().node_id
        one.say((nobody, probe(1)))
        assert not one.dials
        with pytest.raises(DialFailed, match="no address"):
            await one.overlay.connect(nobody)


# --- the clock


async def test_the_core_is_called_when_it_wants_to_be():
    async with two_scripted() as (one, other):
        await one.overlay.connect(other.id)
        other.core.wakes_after_hearing = 0.03
        one.say((other.id, probe(1)))
        await until(lambda: other.core.ticks)
        # Never before it is due.
        assert other.core.ticks[0] >= other.now().monotonic_s - WAIT_S
        assert len(other.core.ticks) == 1


async def test_what_a_tick_says_goes_out():
    async with two_scripted() as (one, other):
        one.core.says = Out(sends=[(other.id, probe(3))])
        one.core.wake_s = 0.0
        one.overlay._poked.set()
        await until(lambda: nonces(other) == [3])


async def test_a_host_that_slept_blames_nobody():
    async with sites(3) as (one, *others):
        one.events.clear()
        for _nap in range(3):
            one.behind_s += 30.0
            sent = one.core.counters.sent["mesh.probe"]
            await until(lambda sent=sent: one.core.counters.sent["mesh.probe"] > sent + 20)
        assert not [event for event in one.events if isinstance(event, Suspected | Died)]
        assert one.holds_alive(*others)


# --- links


async def test_links_to_neighbours_stand_and_are_made_again():
    async with two_scripted() as (one, other):
        one.core.neighbours = frozenset({other.id})
        await until(lambda: one.overlay.session_with(other.id) is not None)
        session = one.overlay.session_with(other.id)
        await session.close()
        await until(lambda: one.core.downs == [other.id])
        await until(lambda: one.overlay.session_with(other.id) not in (None, session))
        assert one.dials == [other.id, other.id]


async def test_links_to_partners_stand_and_are_not_without_number(monkeypatch):
    monkeypatch.setattr(overlay_module, "PARTNERS_MAX", 1)
    network = MemoryNetwork()
    async with scripted(network) as one, scripted(network) as other, scripted(network) as third:
        one.core.knows(other)
        one.core.knows(third)
        one.partners = (other.id, third.id)
        await until(lambda: one.overlay.session_with(other.id) is not None)
        one.partners = (third.id,)
        await until(lambda: one.overlay.session_with(third.id) is not None)
        assert one.dials == [other.id, third.id]


async def test_a_link_that_nobody_uses_is_let_go_by_whoever_dialled_it(monkeypatch):
    async with two_scripted() as (one, other):
        session = await one.overlay.connect(other.id)
        await until(lambda: other.core.ups == [one.id])
        monkeypatch.setattr(overlay_module, "IDLE_S", 0.05)
        closed = await session.wait_closed()
        assert (closed.code, closed.reason) == (CloseCode.NORMAL, "not used for a while")
        await until(lambda: other.core.downs == [one.id])


async def test_a_link_that_the_other_side_wants_is_kept_though_nothing_is_said_here(monkeypatch):
    monkeypatch.setattr(overlay_module, "IDLE_S", 0.05)
    async with two_scripted() as (one, other):
        one.core.neighbours = frozenset({other.id})
        await until(lambda: other.core.ups == [one.id])
        accepted = other.overlay.session_with(one.id)
        peer = other.overlay._peers[one.id]
        # Long past its idle time here, and looked at many times since.
        peer.used_s -= 1000.0
        other.core.wake_s = 0.0
        await until(lambda: other.core.ticks)
        async with two_scripted() as (third, fourth):
            # As much time as a whole other pair needs to link and to part.
            session = await third.overlay.connect(fourth.id)
            await session.wait_closed()
        assert accepted.ended is None
        assert other.overlay.session_with(one.id) is accepted


async def test_what_is_said_or_heard_keeps_a_link_in_use(monkeypatch):
    async with two_scripted() as (one, other):
        session = await one.overlay.connect(other.id)
        await until(lambda: one.core.ups and other.core.ups)
        monkeypatch.setattr(overlay_module, "IDLE_S", 10.0)
        peer = one.overlay._peers[other.id]
        peer.used_s -= 9.0
        before_s = peer.used_s
        other.say((one.id, probe(1)))
        await until(lambda: nonces(one) == [1])
        assert peer.used_s > before_s
        assert session.ended is None


async def test_who_is_no_member_and_has_no_link_is_forgotten():
    async with two_scripted() as (one, other):
        one.core.members.clear()
        session = await other.overlay.connect(one.id)
        await until(lambda: other.id in one.overlay._peers)
        await session.close()
        await until(lambda: one.core.downs == [other.id])
        assert one.overlay._peers == {}


async def test_two_links_with_one_peer_are_one_link_up_to_the_last_one_down():
    async with two_scripted() as (one, other):
        first = await one.overlay.connect(other.id)
        await until(lambda: other.core.ups)
        second = await other.node.dial(one.ticket)
        assert second is not None
        await until(lambda: one.overlay.session_with(other.id) is not None)
        await first.close()
        await second.close()
        await until(lambda: one.core.downs == [other.id])
        assert one.overlay.session_with(other.id) is None


# --- coming in


async def test_a_newcomer_is_known_to_all_by_one_introduction():
    network = MemoryNetwork()
    async with sites(3, network) as mesh, site(network) as newcomer:
        session = await newcomer.overlay.introduce(mesh[1].ticket)
        assert session.peer == mesh[1].id
        await until(lambda: newcomer.holds_alive(*mesh))
        await until(lambda: all(one.holds_alive(newcomer) for one in mesh))
        assert all(len(one.seen(Joined, newcomer)) == 1 for one in mesh)


async def test_a_door_that_is_shut_is_told_with_its_code_and_text():
    network = MemoryNetwork()
    async with site(network) as here, site(network) as there:
        there.turns_away = (CloseCode.DENIED, "this cortex does not let you in")
        with pytest.raises(LinkClosed, match="does not let you in") as closed:
            await here.overlay.introduce(there.ticket)
        assert closed.value.code == CloseCode.DENIED
        await until(lambda: there.id not in here.node._by_peer)
        assert here.state_of(there) is None


async def test_a_cortex_that_says_nothing_is_not_waited_for_for_ever():
    network = MemoryNetwork()
    async with site(network) as here, site(network) as there:
        there.is_mute = True
        with pytest.raises(NotIntroduced, match=r"no word about the mesh within 0\.2 s"):
            await here.overlay.introduce(there.ticket, timeout_s=0.2)


async def test_a_cortex_that_nobody_can_reach_is_a_dial_that_failed():
    network = MemoryNetwork()
    async with site(network) as here, site(network, hidden=True) as there:
        with pytest.raises(DialFailed, match="no answer"):
            await here.overlay.introduce(there.ticket, timeout_s=0.2)


async def test_another_node_at_the_address_is_a_dial_that_failed():
    network = MemoryNetwork()
    async with site(network) as here, site(network) as there:
        wrong = Ticket(node=NodeKey.generate().node_id, addresses=there.ticket.addresses)
        with pytest.raises(DialFailed, match="another key"):
            await here.overlay.introduce(wrong)


async def test_a_cortex_that_gossiped_before_counts_as_heard_until_its_last_link_ends():
    network = MemoryNetwork()
    async with site(network) as here, site(network) as there:
        session = await here.join(there)
        await here.overlay.heard_from(session, timeout_s=0.0)
        there.turns_away = (CloseCode.DENIED, "no more")
        await session.close()
        await until(lambda: here.overlay.session_with(there.id) is None)
        here.partners = here.core._partners.neighbours = ()
        with pytest.raises((LinkClosed, NotIntroduced)):
            await here.overlay.introduce(there.ticket, timeout_s=1.0)


# --- going


async def test_leaving_is_told_to_all_and_nothing_is_said_after_it():
    async with sites(3) as (one, *others):
        session = one.overlay.session_with(others[0].id)
        await one.overlay.leave()
        assert one.overlay.is_out
        assert (await session.wait_closed()).code == CloseCode.NORMAL
        await until(lambda: all(other.state_of(one) is State.LEFT for other in others))
        assert all(len(other.seen(Left, one)) == 1 for other in others)
        sent = one.core.counters.sent.total()
        with pytest.raises(LinkClosed, match="left the mesh"):
            await others[0].overlay.introduce(one.ticket)
        assert one.core.counters.sent.total() == sent


async def test_one_that_left_comes_back_knowing_nobody_and_is_taken_again():
    async with sites(3) as (one, *others):
        one.overlay.come_back()  # Not out: changes nothing.
        assert one.holds_alive(*others)
        await one.overlay.leave()
        await until(lambda: all(other.state_of(one) is State.LEFT for other in others))
        one.overlay.come_back()
        assert not one.core.members
        await one.join(others[1])
        await until(lambda: all(other.holds_alive(one) for other in others))
        assert one.holds_alive(*others)


async def test_one_that_is_out_from_the_start_says_its_piece_when_it_comes():
    network = MemoryNetwork()
    async with site(network, is_out=True) as late, site(network) as there:
        with pytest.raises(LinkClosed, match="left the mesh"):
            await there.overlay.introduce(late.ticket)
        late.publish("late")
        late.overlay.reconsider()
        assert not late.core.members
        late.overlay.come_back()
        await late.join(there)
        assert there.core.members[late.id].signed.record.name == "late"


async def test_a_cortex_that_stops_says_goodbye():
    network = MemoryNetwork()
    async with site(network) as here:
        async with site(network) as there:
            await there.join(here)
        await until(lambda: here.state_of(there) is State.LEFT)
        assert not here.seen(Suspected, there)


async def test_a_cortex_that_vanishes_is_suspected_then_dead_and_taken_back():
    network = MemoryNetwork(silence_s=30)
    key = NodeKey.generate()
    async with sites(3, network) as mesh:
        async with site(network, key=key) as doomed:
            await doomed.join(mesh[0])
            await until(lambda: all(one.holds_alive(doomed) for one in mesh))
            network.vanish(doomed.node.transports["memory"])
            await until(lambda: all(one.state_of(doomed) is State.DEAD for one in mesh))
            assert all(len(one.seen(Died, doomed)) == 1 for one in mesh)
        async with site(network, key=key) as again:
            await again.join(mesh[1])
            await until(lambda: all(one.holds_alive(again) for one in mesh))


# --- what a host learns


async def test_a_member_that_is_let_in_no_more_is_forgotten_at_once():
    from helexa.mesh.trust import Trust

    async with sites(3) as (one, other, third):
        one.admits = lambda signed: Trust.DENIED if signed.node == other.id else Trust.STRANGER
        one.overlay.reconsider()
        assert one.state_of(other) is None
        assert one.holds_alive(third)


async def test_traffic_is_counted_and_stays_counted_when_links_end():
    network = MemoryNetwork()
    async with site(network) as here:
        async with site(network) as there:
            await there.join(here)
            sent, received = here.overlay.traffic()
            assert sent > 0
            assert received > 0
            # What one says is what the other reads, give or take what is on its way.
            await until(lambda: here.overlay.traffic()[1] >= there.overlay.traffic()[0] > 0)
        await until(lambda: here.overlay.session_with(there.id) is None)
        after = here.overlay.traffic()
        assert after[0] >= sent
        assert after[1] >= received


async def test_what_was_rejected_is_counted_and_said_once_in_a_while(caplog, monkeypatch):
    monkeypatch.setattr(overlay_module, "_seldom", every(3600))
    network = MemoryNetwork()
    async with site(network) as here, site(network) as there:
        session = await there.join(here)
        for number in range(50):
            await session.tell(News(statements=(b"garbage %d" % number,)))
        await until(lambda: here.core.counters.rejected["malformed"] == 50)
        assert caplog.text.count("gossip_rejected") == 1
        assert not [event for event in here.events if isinstance(event, Rejected)]
        assert here.holds_alive(there)


async def test_an_accusation_of_one_who_lives_is_answered_and_over():
    async with sites(3) as (one, other, third):
        core = one.core
        # As if no probe of `one` had come through: it believes so and tells.
        core._hearsay.nobody_reached(other.id)
        one.overlay._perform(core._exit())
        await until(lambda: one.seen(Cleared, other))
        await until(lambda: third.holds_alive(other) and one.holds_alive(other))
        assert not one.seen(Died, other)
        assert not third.seen(Died, other)
        assert one.core.members[other.id].pulse == 1


async def test_one_that_came_by_itself_is_dialled_at_once_when_its_link_ends(monkeypatch):
    """However often dials to it failed before."""
    monkeypatch.setattr(overlay_module, "REACH_S", 0.05)
    monkeypatch.setattr(overlay_module, "AGAIN", Backoff(first_s=3600.0, most_s=3600.0))
    async with two_scripted() as (one, other):
        known = one.core.members[other.id]
        record = SimpleNamespace(addresses={"memory": ("192.0.2.9:1",)})
        one.core.members[other.id] = SimpleNamespace(signed=SimpleNamespace(record=record))
        one.say((other.id, probe(1)))
        await until(lambda: one.overlay._peers[other.id].failures == 1)
        one.core.members[other.id] = known
        session = await other.overlay.connect(one.id)
        await until(lambda: one.core.ups == [other.id])
        await session.close()
        await until(lambda: one.core.downs == [other.id])
        one.say((other.id, probe(2)))
        await until(lambda: nonces(other) == [2])
