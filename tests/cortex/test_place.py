"""Whole cortexes finding, admitting and losing one another, over restarts and decisions."""

from __future__ import annotations

import time
from types import SimpleNamespace

import anyio
import pytest
from tests.cortex.places import Cortex, cortex, until

from helexa.cortex.orchestrator.mesh_control import InviteWish
from helexa.cortex.orchestrator.place import speaker as speaker_module
from helexa.mesh.membership.events import State
from helexa.mesh.operators.credentials import write_certificate, write_revocations
from helexa.mesh.operators.operator_folder import OperatorFolder
from helexa.mesh.ticket import Ticket
from helexa.mesh.transports.memory import MemoryNetwork
from helexa.mesh.trust import Trust
from helexa.protocol.errors import PeerLost, RequestRejected
from helexa.protocol.messages import Role
from helexa.protocol.records import Offer
from helexa.util.background import background

pytestmark = pytest.mark.anyio


class Town:
    """One network, and cortexes that live in folders of it until stopped."""

    def __init__(self, folder, tasks):
        self.folder = folder
        self.network = MemoryNetwork(silence_s=30)
        self._tasks = tasks

    async def start(self, name, **options):
        """One that runs to the end of the test, unless it is stopped."""
        return await self._tasks.start(self._run, name, options)

    async def _run(self, name, options, *, task_status):
        transports = {"memory": self.network.open_transport}
        asked, stopped = anyio.Event(), anyio.Event()

        async def stop():
            asked.set()
            await stopped.wait()

        async with cortex(self.folder / name, transports, **options) as here:
            here.stop = stop
            task_status.started(here)
            await asked.wait()
        stopped.set()

    async def mesh(self, *names, **options):
        first, *others = [await self.start(name, **options) for name in names]
        for other in others:
            await other.meet(first)
        await until(lambda: everybody_knows_everybody(first, *others))
        return [first, *others]

    def signed(self, operator, name, **more):
        """The folder of a cortex that `operator` vouches for."""
        home = self.folder / name
        home.mkdir()
        node = Cortex(home).id
        write_certificate(home, operator.sign(node, [Role.CORTEX], now_s=time.time(), **more))
        return node


@pytest.fixture
async def town(tmp_path):
    async with background() as tasks:
        yield Town(tmp_path, tasks)


@pytest.fixture
def operator(tmp_path):
    return OperatorFolder.init(tmp_path / "operator", name="acme")


def everybody_knows_everybody(*mesh):
    return all(one.holds_alive(*(other for other in mesh if other is not one)) for one in mesh)


# --- who is let in, as it is decided


async def test_one_that_waits_is_in_the_mesh_once_it_was_approved(town):
    shy = await town.start("shy", admission="approve")
    new = await town.start("new")
    joined, steps = await new.join(shy)
    assert not joined
    assert steps["be admitted"]["outcome"] == "pending"
    assert [row.node for row in shy.control.pending()] == [new.id]
    shy.control.approve(new.id[:12], "known")
    assert shy.control.pending() == []
    await new.meet(shy)
    assert shy.trusts(new) is Trust.KNOWN


async def test_a_denied_one_is_told_so_and_nothing_else(town):
    shut, new = await town.start("shut", admission="closed"), await town.start("new")
    joined, steps = await new.join(shut)
    assert not joined
    assert steps["be admitted"]["outcome"] == "denied"
    assert steps["be admitted"]["detail"] == "this cortex does not let you in"
    assert shut.state_of(new) is new.state_of(shut) is None


async def test_denying_a_member_takes_effect_on_its_links_and_its_record(town):
    a, b, c = await town.mesh("a", "b", "c")
    session = a.place.overlay.session_with(b.id)
    decision = a.control.deny(b.id)
    assert (decision.who, decision.trust) == (b.id, "denied")
    await session.wait_closed()
    await until(lambda: a.state_of(b) is None)
    assert a.holds_alive(c)
    # Others decide for themselves, and do not pass b back to a.
    await until(lambda: c.holds_alive(a, b))
    assert a.state_of(b) is None
    a.control.forget(b.id)
    await b.meet(a)


async def test_trust_given_at_run_time_holds_for_standing_links_at_once(town):
    a, b = await town.mesh("a", "b")
    await until(lambda: a.place.peers.standing(b.id) is not None)
    assert a.trusts(b) is a.place.peers.standing(b.id).trust is Trust.STRANGER
    a.control.trust(b.id, "trusted")
    assert a.trusts(b) is Trust.TRUSTED
    await until(lambda: a.place.peers.standing(b.id).trust is Trust.TRUSTED)
    # Whom work may be asked of is kept linked with.
    await until(lambda: b.id in a.place.acquaintances.partners())


async def test_an_invite_opens_the_door_for_as_many_as_it_says(town):
    host = await town.start("host", admission="invite")
    guest, other = await town.start("guest"), await town.start("other")
    assert not (await guest.join(host))[0]
    ticket = host.control.ticket(InviteWish(uses=1, expires_s=600, role="cortex", trust="trusted"))
    joined, steps = await guest.join(host, ticket=ticket)
    assert joined, steps
    await until(lambda: host.holds_alive(guest))
    assert host.trusts(guest) is Trust.TRUSTED
    joined, steps = await other.join(host, ticket=ticket)
    assert not joined
    assert steps["be admitted"]["outcome"] == "denied"


@pytest.mark.parametrize("wish", [{"uses": 0}, {"expires_s": 0.0}, {"trust": "own"}])
async def test_an_invite_that_cannot_be_is_refused_with_what_can(town, wish):
    host = await town.start("host")
    usual = {"uses": 1, "expires_s": 600.0, "role": "", "trust": "known"}
    with pytest.raises(RequestRejected):
        host.control.ticket(InviteWish(**{**usual, **wish}))


async def test_decisions_name_somebody_or_are_refused(town):
    a, _b = await town.mesh("a", "b")
    for decide in (a.control.deny, a.control.forget, lambda who: a.control.approve(who, "known")):
        with pytest.raises(RequestRejected):
            decide("nobody at all")
    with pytest.raises(RequestRejected):
        a.control.deny(a.id)


# --- operators


async def test_nodes_of_one_operator_are_each_others_own(town, operator):
    for name in ("a", "b"):
        town.signed(operator, name, region="eu")
    a, b = await town.mesh("a", "b", admission="closed")
    stranger = await town.start("stranger")
    assert a.trusts(b) is b.trusts(a) is Trust.OWN
    assert a.place.acquaintances.standing_of(b.id).region == "eu"
    assert not (await stranger.join(a))[0]
    # Whose signed calls the control API takes.
    assert a.place.acquaintances.is_own(b.id)
    assert not a.place.acquaintances.is_own(stranger.id)


async def test_a_revocation_reaches_those_who_hold_the_node_already(town, operator):
    """By the record of any of the operator's nodes: nobody has to be restarted or asked."""
    revoked = town.signed(operator, "lost")
    town.signed(operator, "kept")
    first, lost = await town.mesh("first", "lost")
    assert first.place.acquaintances.standing_of(lost.id).operator == operator.operator_id
    write_revocations(town.folder / "kept", operator.revoke([revoked], now_s=time.time()))
    kept = await town.start("kept")
    await kept.meet(first)
    await until(lambda: first.state_of(lost) is None)
    await until(lambda: first.place.overlay.session_with(lost.id) is None)
    joined, steps = await lost.join(first)
    assert not joined
    assert steps["be admitted"]["outcome"] == "denied"
    assert first.holds_alive(kept)
    assert not kept.place.acquaintances.is_own(lost.id)


# --- leaving, and coming back


async def test_one_that_left_stays_out_over_a_restart_until_it_joins(town):
    a, b = await town.mesh("a", "b")
    await b.control.leave()
    await until(lambda: a.state_of(b) is State.LEFT)
    assert not b.control.status().joined
    await b.stop()
    again = await town.start("b", join=(str(a.ticket),))
    assert not again.control.status().joined
    assert a.state_of(again) is State.LEFT
    await again.meet(a)
    assert again.control.status().joined
    await again.stop()
    back = await town.start("b")
    await until(lambda: a.holds_alive(back) and back.holds_alive(a))


async def test_a_restarted_cortex_finds_the_mesh_with_its_first_contact_gone(town):
    first, second, third = await town.mesh("first", "second", "third")
    ticket = str(first.ticket)
    await third.stop()
    await first.stop()
    again = await town.start("third", join=(ticket,))
    await until(lambda: again.holds_alive(second) and second.holds_alive(again))
    assert again.state_of(first) in (None, State.LEFT, State.DEAD)


async def test_cortexes_named_in_the_settings_find_one_another_without_a_word(town):
    a = await town.start("a")
    b = await town.start("b", join=(str(a.ticket),))
    await until(lambda: everybody_knows_everybody(a, b))


# --- clocks


async def test_a_clock_that_was_set_right_needs_nobody_to_act(town):
    clock = {"off_s": 86_400.0}
    a = await town.start("a")
    b = await town.start("b", join=(str(a.ticket),), unix=lambda: time.time() + clock["off_s"])
    await until(lambda: b.happened("clock_off"))
    assert abs(b.control.status().clock_off_s - 86_400) < 60
    assert a.state_of(b) is None
    clock["off_s"] = 0.0
    await until(lambda: everybody_knows_everybody(a, b))
    assert b.control.status().clock_off_s == 0


async def test_one_wrong_clock_among_many_is_the_only_one_that_is_told(town):
    a, b = await town.mesh("a", "b")
    late = await town.start("late", unix=lambda: time.time() - 86_400)
    await late.join(a)
    await until(lambda: late.happened("clock_off"))
    assert late.happened("clock_off")[0]["seconds"] < -86_000
    assert not a.happened("clock_off")
    assert not b.happened("clock_off")


# --- what an operator sees


async def test_the_status_and_the_rows_say_who_is_there_and_how(town):
    a, b = await town.mesh("a", "b")
    status = a.control.status()
    assert (status.node, status.joined, status.members) == (a.id, True, {"alive": 1})
    assert Ticket.parse(status.ticket) == a.ticket
    assert status.traffic["sent_bytes"] > 0
    (row,) = a.control.peers()
    assert (row.node, row.name, row.state, row.link) == (b.id, "b", "alive", "memory")
    assert row.neighbour
    ping = await a.control.ping(b.id)
    assert (ping.name, ping.transport) == ("b", "memory")
    with pytest.raises(PeerLost, match="no address"):
        await a.control.ping("ab" * 32)


async def test_a_member_that_died_is_a_row_with_the_reason_and_an_event(town):
    a, b = await town.mesh("a", "b")
    town.network.vanish(b.place.node.transports["memory"])
    await until(lambda: a.state_of(b) is State.DEAD)
    (event,) = a.happened("member", node_id=b.id, state="dead")
    assert "no answer" in event["reason"]
    assert [(row.state, row.node) for row in a.control.peers()] == [("dead", b.id)]


# --- what a cortex says of itself


async def test_a_draft_is_coarse_and_names_no_loopback_where_there_is_more(town):
    a = await town.start("one", region="eu")
    a.place.peers.open_door(lambda _stream, _node: None)
    speaker = speaker_module.Speaker(a.place.acquaintances._parts)
    offers = [Offer(model="m", slots=8, free=free) for free in (8, 7, 4, 1, 0)]
    loads = []
    for offer in offers:
        speaker._parts.peers.public_offers = lambda offer=offer: (offer,)
        loads.append(speaker.draft().load)
    assert loads == [0.0, 0.0, 0.5, 1.0, 1.0]
    draft = speaker.draft()
    assert (draft.name, draft.region, draft.node) == ("one", "eu", a.id)
    assert draft.instance


@pytest.mark.parametrize(
    ("addresses", "said"),
    [
        (("127.0.0.1:1", "192.0.2.7:1"), ("192.0.2.7:1",)),
        (("127.0.0.1:1", "[::1]:1"), ("127.0.0.1:1", "[::1]:1")),
        (("[::1]:1", "[2001:db8::7]:1"), ("[2001:db8::7]:1",)),
        (("https://relay.example/", "127.0.0.1:1"), ("https://relay.example/",)),
        ((), ()),
    ],
)
async def test_addresses_of_loopback_are_said_only_where_there_is_nothing_else(addresses, said):
    assert speaker_module._public({"tls": addresses}) == {"tls": said}


async def test_what_nobody_would_take_is_not_said_and_the_rest_goes_on(town, caplog, monkeypatch):
    monkeypatch.setattr(speaker_module, "SAY_EVERY_S", 0.02)
    a, b = await town.mesh("a", "b")
    parts = a.place.acquaintances._parts
    parts.settings = SimpleNamespace(name="x" * 5_000, region="", home=parts.settings.home)
    await until(lambda: "cannot publish what it is" in caplog.text)
    assert b.core.members[a.id].signed.record.name == "a"
    assert everybody_knows_everybody(a, b)
