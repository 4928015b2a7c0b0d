"""What is kept of other cortexes: by record, by session, by neither, and never without bound."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.cortex.federated import member, model, pair, world
from tests.cortex.fleets import capability, fleet, node

from helexa.cortex.orchestrator import policies
from helexa.cortex.orchestrator.federation import peers as module
from helexa.cortex.orchestrator.federation.peers import Peers
from helexa.cortex.orchestrator.federation.terms import Terms
from helexa.cortex.orchestrator.fleet import HealthReported, NeuronLeft
from helexa.cortex.orchestrator.neurons import Neurons
from helexa.cortex.orchestrator.reception import Timing
from helexa.cortex.settings import FederationSettings
from helexa.mesh.sessions.handshake import CloseCode
from helexa.mesh.sessions.session import PeerRefused
from helexa.mesh.trust import Standing, Trust
from helexa.protocol.errors import PeerLost
from helexa.protocol.ids import ModelId, NodeId, OperatorId, new_request_id
from helexa.protocol.messages import ExecuteRequest, Goodbye, ReportOffers, RequestHealth
from helexa.protocol.records import OFFERS_PER_RECORD_MAX, Offer, Record
from helexa.protocol.work import Load, WorkloadClass

CHAT = WorkloadClass.CHAT_INTERACTIVE


class Bare:
    """Peers without a mesh, on a clock of the test's."""

    def __init__(self, **more: Any) -> None:
        self.now_s = 0.0
        self.neurons = Neurons(
            policy=policies.named("least_loaded"),
            timing=Timing(1, 4),
            name="",
            monotonic=lambda: self.now_s,
            random=lambda: 0.5,
        )
        self.peers = Peers(
            self.neurons, Terms.of(FederationSettings()), monotonic=lambda: self.now_s, **more
        )

    def standing(self, number: int, trust: Trust = Trust.TRUSTED) -> Standing:
        id_ = node(number)
        return Standing(node=id_, operator=OperatorId(id_), trust=trust, name=f"p{number}")

    def gossip(
        self, number: int, *models: str, sequence: int = 1, trust: Trust = Trust.TRUSTED
    ) -> None:
        record = Record(
            node=node(number),
            sequence=sequence,
            issued_s=0,
            expires_s=1,
            offers=tuple(Offer(model=ModelId(name)) for name in models),
        )
        self.peers.gossiped(node(number), self.standing(number, trust), record)

    def why(self, name: str) -> dict[str, str]:
        return {one.called: one.why_not for one in self.peers.prospects(ModelId(name), CHAT)}


def test_one_without_a_link_is_a_prospect_only_where_a_link_can_be_made() -> None:
    bare = Bare()
    bare.gossip(1, "m")
    assert bare.peers.knows(ModelId("m"))
    assert bare.why("m") == {"p1": "has no link to this cortex"}
    assert list(bare.peers.models()) == []
    able = Bare(connect=lambda _node: None)
    able.gossip(1, "m")
    assert able.why("m") == {"p1": ""}
    assert [name for name, _ in able.peers.models()] == ["m"]


def test_an_older_record_changes_nothing_and_a_newer_one_all() -> None:
    bare = Bare(connect=lambda _node: None)
    bare.gossip(1, "m", sequence=5)
    bare.gossip(1, "old", sequence=4)
    assert not bare.peers.knows(ModelId("old"))
    bare.gossip(1, "n", sequence=6)
    assert not bare.peers.knows(ModelId("m"))
    assert bare.peers.offered_by(node(1)) == ("n",)


def test_the_dead_are_named_for_a_while_and_then_forgotten() -> None:
    bare = Bare(connect=lambda _node: None)
    bare.gossip(1, "m")
    bare.gossip(2, "m")
    bare.now_s = 10
    bare.peers.forget(node(1), "died")
    bare.peers.forget(node(9), "never heard of")
    bare.now_s = 13
    assert bare.why("m") == {"p1": "is gone for 3 s: died", "p2": ""}
    with pytest.raises(PeerLost, match="p1"):
        bare.peers.lane(node(1))
    with pytest.raises(PeerLost):
        bare.peers.lane(node(9))
    bare.now_s += module.GONE_REMEMBERED_S
    bare.peers.forget(node(2), "left")
    assert bare.why("m") == {"p2": "is gone for 0 s: left"}
    bare.gossip(2, "m", sequence=2)
    assert bare.why("m") == {"p2": ""}


def test_one_that_could_not_be_reached_offers_nothing_until_it_speaks_again() -> None:
    bare = Bare(connect=lambda _node: None)
    bare.gossip(1, "m")
    bare.peers._lost_lane(bare.peers._peers[node(1)], "refused")
    assert bare.peers.offered_by(node(1)) == ()
    bare.now_s += 3
    # Worth a try, and not a promise.
    assert bare.why("m") == {"p1": ""}
    assert bare.peers.offered_by(node(1)) == ()
    bare.gossip(1, "m", sequence=2)
    assert bare.peers.offered_by(node(1)) == ("m",)


def test_no_more_of_the_dead_are_kept_than_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GONE_MAX", 3)
    bare = Bare()
    for number in range(10):
        bare.gossip(number, "m")
        bare.peers.forget(node(number), "died")
    assert list(bare.why("m")) == ["p7", "p8", "p9"]
    assert len(bare.peers._peers) == 3


def test_one_record_too_many_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PEERS_MAX", 2)
    bare = Bare()
    for number in range(5):
        bare.gossip(number, "m")
    assert len(bare.why("m")) == 2


def test_a_record_of_a_million_models_is_cut() -> None:
    bare = Bare()
    bare.gossip(1, *(f"m{number}" for number in range(5_000)))
    assert len(bare.peers.offered_by(node(1))) == OFFERS_PER_RECORD_MAX


def test_the_trusted_are_looked_at_first_however_many_strangers_there_are() -> None:
    bare = Bare()
    for number in range(module.PROSPECTS_MAX + 50):
        bare.gossip(number, "m", trust=Trust.STRANGER)
    bare.gossip(9_999, "m", trust=Trust.TRUSTED)
    found = list(bare.peers.prospects(ModelId("m"), CHAT))
    assert len(found) == module.PROSPECTS_MAX
    assert found[0].called == "p9999"


def test_a_name_that_is_none_is_an_id() -> None:
    bare = Bare()
    for name in ("", "x" * 65, "a\r\nb", "é"):
        standing = replace(bare.standing(1), name=name)
        bare.gossip(1, "m")
        bare.peers.reconsider(lambda _node, standing=standing: standing)
        assert bare.peers.called(node(1)) == node(1)[:10]


def test_neurons_that_change_are_told_of_and_their_health_is_not() -> None:
    bare = Bare()
    rung = []
    bare.neurons.watch(lambda: rung.append(1))
    bare.neurons.view = fleet((1, (capability(),)))
    bare.neurons.post(HealthReported(node=node(1), load=Load(sequence=1), now_s=1))
    assert rung == []
    bare.neurons.post(NeuronLeft(node=node(2), reason="", now_s=1))
    assert rung == []
    bare.neurons.post(NeuronLeft(node=node(1), reason="", now_s=1))
    assert rung == [1]


numbers = st.integers(0, 4)
steps = st.one_of(
    st.tuples(
        st.just("gossip"),
        numbers,
        st.sets(st.sampled_from("abc"), max_size=3),
        st.integers(1, 5),
        st.sampled_from(list(Trust)),
    ),
    st.tuples(st.just("forget"), numbers),
    st.tuples(st.just("trust"), st.sampled_from(list(Trust))),
    st.tuples(st.just("wait"), st.sampled_from([1.0, 700.0])),
)


@settings(max_examples=200)
@given(st.lists(steps, max_size=30))
def test_the_index_is_what_the_peers_say_whatever_happened(happened: list[Any]) -> None:
    bare = Bare()
    for step in happened:
        match step:
            case ("gossip", number, names, sequence, trust):
                bare.gossip(number, *names, sequence=sequence, trust=trust)
            case ("forget", number):
                bare.peers.forget(node(number))
            case ("trust", trust):
                bare.peers.reconsider(lambda id_, trust=trust: bare.standing(int(id_, 16), trust))
            case ("wait", seconds):
                bare.now_s += seconds
    kept = bare.peers._peers
    assert {one for one, peer in kept.items() if peer.is_gone} == set(bare.peers._gone)
    expected = {
        (name, peer.standing.trust, one) for one, peer in kept.items() for name in peer.names()
    }
    holders = bare.peers._holders
    indexed = {(*key, one) for key, found in holders._by_level.items() for one in found}
    assert indexed == expected
    assert holders._counts == dict(Counter(name for name, _, _ in expected))


@pytest.mark.anyio
async def test_a_goodbye_is_the_reason() -> None:
    async with pair() as (a, b, _):
        back = b.mesh.session_with(a.node)
        assert back is not None
        await back.tell(Goodbye(reason="moving house"))
        await a.until(lambda: a.peers._peers[b.node].goodbye != "")
        await back.close(reason="now")
        await a.until_lost(b)
        assert "cortex b is gone for 0 s: moving house" in (await a.ask("m")).error["message"]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("code", "left"), [(CloseCode.NORMAL, ("m",)), (CloseCode.SILENT, ())], ids=["idle", "broken"]
)
async def test_a_link_that_broke_takes_the_offers_with_it_and_one_put_away_does_not(
    code: CloseCode, left: tuple[str, ...]
) -> None:
    async with pair() as (a, b, _):
        a.record_of(b, "m")
        session = a.mesh.session_with(b.node)
        assert session is not None
        await session.close(code, "over")
        await a.until(lambda: a.peers._peers[b.node].session is None)
        await a.until(lambda: a.peers.offered_by(b.node) == left)


@pytest.mark.anyio
async def test_offers_beyond_all_measure_are_refused_and_the_old_ones_hold() -> None:
    async with pair() as (a, b, _):
        back = b.mesh.session_with(a.node)
        assert back is not None
        many = tuple(Offer(model=ModelId(f"x{n}")) for n in range(OFFERS_PER_RECORD_MAX + 1))
        with pytest.raises(PeerRefused) as refusal:
            await back.ask(ReportOffers(offers=many))
        assert refusal.value.code == "bad_request"
        assert a.peers.offered_by(b.node) == ("m",)


@pytest.mark.anyio
async def test_a_cortex_does_not_answer_what_only_neurons_are_asked() -> None:
    async with pair() as (a, b, _):
        session = a.mesh.session_with(b.node)
        assert session is not None
        with pytest.raises(Exception, match="not known to both sides"):
            await session.ask(RequestHealth())


@pytest.mark.anyio
async def test_a_stream_of_a_session_that_nobody_attends_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "ADMIT_S", 0.05)
    async with world() as mesh, member(mesh, "a") as a, member(mesh, "b") as b:
        left: Callable[..., Any] = b.peers.attend

        async def unattended(session: Any, _standing: Any) -> None:
            await session.wait_closed()

        b.peers.attend = unattended  # type: ignore[method-assign]
        session = await a.link(b)
        stream = await session.open_data(ExecuteRequest(request=new_request_id()))
        with anyio.fail_after(5), pytest.raises(Exception, match="gave up"):
            await stream.read()
        assert b.peers.standing(NodeId(a.node)) is None
        b.peers.attend = left  # type: ignore[method-assign]


@pytest.mark.anyio
async def test_a_new_neuron_is_offered_and_one_that_left_is_not() -> None:
    async with pair() as (a, b, _):
        other = await b.neuron(model("n"))
        await a.until_offered("m", "n", by=b)
        event = NeuronLeft(node=other.node, reason="off", now_s=0)
        b.neurons.post(event)
        await a.until(lambda: a.peers.offered_by(b.node) == ("m",))
        rule = "cortex b has no neuron that could serve it now"
        assert (await a.ask("n")).error["message"] == f"Nobody can serve 'n' now: {rule}."


@pytest.mark.anyio
async def test_a_linked_cortex_that_the_mesh_gave_up_is_silent_until_it_is_heard() -> None:
    async with pair() as (a, b, _):
        told: list[AbstractSet[NodeId]] = []
        a.fabric.watch_silent(told.append)
        a.neurons.look()
        assert told == []
        a.peers.forget(b.node, "not answering", is_silent=True)
        a.neurons.look()
        assert told == [{b.node}]
        # What the session says holds on.
        assert a.peers.lane(b.node)
        a.record_of(b, "m")
        a.neurons.look()
        assert told == [{b.node}]
        a.peers.forget(b.node, "not answering", is_silent=True)
        session = a.mesh.session_with(b.node)
        assert session is not None
        await session.close(CloseCode.NORMAL, "over")
        await a.until(lambda: not a.peers.silent)
