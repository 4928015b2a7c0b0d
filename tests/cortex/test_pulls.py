"""Pulls: where a model goes, who gives pieces to whom, and the calls that begin and end them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.cortex.asking import ask
from tests.cortex.fleets import capability, descriptor, node
from tests.cortex.scripted import Fabric, Scripted, fabric, scripted

from helexa.cortex.orchestrator.api import application
from helexa.cortex.orchestrator.fleet import (
    FleetView,
    HealthReported,
    Mark,
    NeuronLeft,
    NeuronMarked,
    NeuronRegistered,
    apply,
)
from helexa.cortex.orchestrator.pulling import best_for, source_of
from helexa.cortex.orchestrator.sharing import (
    PARTNERS_MAX,
    Sharing,
    grants,
    partners,
    pullers,
    takes_part,
)
from helexa.cortex.settings import ModelEntry
from helexa.mesh.trust import Standing, Trust
from helexa.protocol.errors import NoCapacity, PeerLost, RequestRejected
from helexa.protocol.ids import ModelId, NodeId, OperatorId
from helexa.protocol.messages import (
    CancelPull,
    Ok,
    PieceHolder,
    ProvisioningResponse,
    PullModel,
    Refused,
    Register,
    RemoveModel,
    SourceFile,
    Wire,
)
from helexa.protocol.work import Load, ModelState

M = ModelId("m")
TOKEN = "hx_admin_of_this_test"
UNLOADED, DOWNLOADING, FAILED = ModelState.UNLOADED, ModelState.DOWNLOADING, ModelState.FAILED


def everybody(_node: NodeId) -> bool:
    return True


def fleet(*states: ModelState | None, tickets: bool = True) -> FleetView:
    """Neurons 1, 2, ... and how each stands with the model; None lacks it."""
    view = FleetView()
    for number, state in enumerate(states, 1):
        held = () if state is None else (capability("m", state),)
        view = apply(
            view,
            NeuronRegistered(
                descriptor=descriptor(number),
                capabilities=held,
                now_s=0.0,
                ticket=f"ticket-{number}" if tickets else "",
            ),
        )
    return view


def nodes(holders: Sequence[PieceHolder]) -> list[NodeId]:
    return [one.node for one in holders]


# --- the choice


def test_whoever_pulls_exchanges_with_those_that_hold_or_pull_the_same() -> None:
    view = fleet(None, UNLOADED, DOWNLOADING, FAILED, None)
    pulling = pullers(view, [(node(1), M)])[M]
    assert nodes(partners(view, M, node(1), pulling, everybody)) == [node(2), node(3)]


def test_one_that_left_or_cannot_be_dialled_is_nobodys_partner() -> None:
    view = fleet(None, UNLOADED, UNLOADED)
    view = apply(view, NeuronLeft(node=node(2), reason="", now_s=1))
    assert nodes(partners(view, M, node(1), {node(1)}, everybody)) == [node(3)]
    view = fleet(None, UNLOADED, tickets=False)
    assert partners(view, M, node(1), {node(1)}, everybody) == ()


def test_both_must_take_part() -> None:
    view = fleet(None, UNLOADED, UNLOADED)
    assert nodes(partners(view, M, node(1), {node(1)}, lambda one: one != node(2))) == [node(3)]
    assert partners(view, M, node(1), {node(1)}, lambda one: one != node(1)) == ()


def test_of_many_each_neuron_gets_others() -> None:
    view = fleet(None, None, *([UNLOADED] * 200))
    one, other = (
        set(nodes(partners(view, M, node(number), {node(1), node(2)}, everybody)))
        for number in (1, 2)
    )
    assert len(one) == len(other) == PARTNERS_MAX
    assert one != other


@given(st.lists(st.sampled_from([None, UNLOADED, DOWNLOADING, FAILED]), max_size=7))
def test_whoever_takes_from_a_neuron_is_among_those_that_it_was_told_of(
    states: list[ModelState | None],
) -> None:
    view = fleet(*states)
    granted = grants(view, (), everybody)
    pulling = pullers(view, ()).get(M, frozenset())
    for taker in pulling:
        for giver in partners(view, M, taker, pulling, everybody):
            assert taker in nodes(granted[giver.node, M])
    assert all(set(nodes(takers)) <= pulling for takers in granted.values())


@pytest.mark.parametrize(
    ("mode", "level", "operated", "has_operator", "takes"),
    [
        ("nobody", Trust.OWN, True, True, False),
        ("own", Trust.OWN, True, True, True),
        ("own", Trust.TRUSTED, True, True, False),
        ("own", Trust.STRANGER, False, True, False),
        ("own", Trust.STRANGER, False, False, True),
        ("own", Trust.TRUSTED, True, False, False),
        ("own", Trust.DENIED, False, False, False),
        ("trusted", Trust.TRUSTED, True, True, True),
        ("trusted", Trust.KNOWN, True, True, False),
        ("trusted", Trust.STRANGER, False, False, True),
        ("any", Trust.STRANGER, True, True, True),
        ("any", Trust.DENIED, True, True, False),
    ],
)
def test_whose_neurons_exchange_pieces_is_a_setting(
    mode: str, level: Trust, operated: bool, has_operator: bool, takes: bool
) -> None:
    operator = OperatorId("f" * 64 if operated else node(1))
    standing = Standing(node=node(1), operator=operator, trust=level)
    assert takes_part(mode, standing, has_operator=has_operator) is takes


# --- telling it


class Told:
    """A fleet that notes who was told to give to whom."""

    def __init__(self, view: FleetView) -> None:
        self.view = view
        self.time_s = 0.0
        self.words: list[tuple[NodeId, list[NodeId]]] = []
        self.deaf: set[NodeId] = set()
        self._news = anyio.Event()

    def now_s(self) -> float:
        return self.time_s

    async def share(self, node: NodeId, model: ModelId, peers: Sequence[PieceHolder]) -> None:
        assert model == M
        if node in self.deaf:
            raise PeerLost("It does not answer.")
        self.words.append((node, nodes(peers)))
        self._news.set()

    async def were(self, *words: tuple[NodeId, list[NodeId]]) -> None:
        with anyio.fail_after(5):
            while sorted(self.words) != sorted(words):
                self._news = anyio.Event()
                await self._news.wait()
        self.words.clear()


@pytest.mark.anyio
async def test_holders_are_told_who_pulls_and_again_when_nobody_does() -> None:
    fleet_ = Told(fleet(None, None, UNLOADED))
    async with Sharing.running(fleet_, everybody) as sharing:
        peers = sharing.together((node(1), node(2)), M)
        assert {who: nodes(found) for who, found in peers.items()} == {
            node(1): [node(2), node(3)],
            node(2): [node(1), node(3)],
        }
        await fleet_.were((node(1), [node(2)]), (node(2), [node(1)]), (node(3), [node(1), node(2)]))
        fleet_.view = fleet(UNLOADED, DOWNLOADING, UNLOADED)
        fleet_.time_s = 60
        sharing.changed()
        await fleet_.were((node(2), []), (node(3), [node(2)]))
        fleet_.view = fleet(UNLOADED, UNLOADED, UNLOADED)
        sharing.changed()
        await fleet_.were((node(1), []), (node(3), []))


@pytest.mark.anyio
async def test_one_that_did_not_hear_is_told_with_the_next_word() -> None:
    fleet_ = Told(fleet(DOWNLOADING, UNLOADED))
    fleet_.deaf.add(node(2))
    async with Sharing.running(fleet_, everybody) as sharing:
        await anyio.lowlevel.checkpoint()
        fleet_.deaf.clear()
        sharing.changed()
        await fleet_.were((node(2), [node(1)]))


# --- where to


def with_disk(view: FleetView, **free: int) -> FleetView:
    for name, size in free.items():
        load = Load(sequence=1, disk_free_bytes=size)
        view = apply(view, HealthReported(node=node(int(name[1:])), load=load, now_s=0.0))
    return view


def test_a_model_goes_where_the_most_disk_is_free_and_it_is_not_yet() -> None:
    view = with_disk(fleet(None, None, None, UNLOADED, FAILED), n1=5, n2=9, n3=7, n4=99, n5=1)
    assert best_for(view, ModelEntry(id="m"), 2) == [node(2), node(3)]
    assert best_for(view, ModelEntry(id="m"), 4) == [node(2), node(3), node(1), node(5)]


def test_no_model_goes_where_it_may_not_or_where_it_does_not_fit() -> None:
    view = with_disk(fleet(None, None, None, UNLOADED), n1=5, n2=9, n3=20)
    view = apply(view, NeuronMarked(node=node(3), mark=Mark.CORDONED))
    entry = ModelEntry(id="m", files=(SourceFile(name="f", size=8),))
    assert best_for(view, entry, 1) == [node(2)]
    with pytest.raises(NoCapacity, match="1 of 2 neurons") as refusal:
        best_for(view, entry, 2)
    for reason in ("has too little disk", "is cordoned", "has it already"):
        assert reason in refusal.value.message
    bound = replace_entry(entry, labels={"gpu": "yes"})
    with pytest.raises(NoCapacity, match="without the label gpu=yes"):
        best_for(view, bound, 1)


def replace_entry(entry: ModelEntry, **changes: Any) -> ModelEntry:
    return msgspec.structs.replace(entry, **changes)


def test_a_source_of_ones_own_takes_nothing_from_the_catalogue() -> None:
    entry = ModelEntry(id="m", source="hf:a/b", quantisation="Q4", files=(SourceFile(name="f"),))
    assert source_of(entry).files == entry.files
    assert source_of(entry, quantisation="Q8").quantisation == "Q8"
    other = source_of(entry, source="hf:c/d")
    assert (other.source, other.files, other.quantisation) == ("hf:c/d", (), "")
    with pytest.raises(RequestRejected, match="give a `source`"):
        source_of(ModelEntry(id="m"))


# --- the calls


class World:
    def __init__(self, fabric: Fabric, neurons: list[Scripted]) -> None:
        self.neurons = neurons
        self.app = application(
            admin_token=TOKEN, neurons=fabric.neurons, keys=_no_keys, status=dict
        )

    async def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        headers = {"authorization": f"Bearer {TOKEN}"}
        return await ask(self.app, method, f"/api/v1{path}", body, headers=headers)


async def _no_keys() -> Any:
    raise AssertionError("nobody asks for keys here")


def takes(message: Wire) -> Wire | None:
    match message:
        case PullModel(command=command, model=model):
            return ProvisioningResponse(
                command=command, model=model, state=DOWNLOADING, final=False, bytes_total=9
            )
        case CancelPull(command=command, model=model) | RemoveModel(command=command, model=model):
            return ProvisioningResponse(command=command, model=model, state=UNLOADED)
        case _:
            return Ok()


@asynccontextmanager
async def world(*states: ModelState | None) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        here = await stack.enter_async_context(fabric())
        found = []
        for number, state in enumerate(states, 1):
            neuron = await stack.enter_async_context(scripted(here))
            neuron.answers = takes
            held = () if state is None else (capability("m", state),)
            register = Register(
                descriptor=neuron.descriptor(f"n{number}"), capabilities=held, ticket=f"t{number}"
            )
            await neuron.session.ask(register, timeout_s=5)
            found.append(neuron)
        yield World(here, found)


@pytest.mark.anyio
async def test_a_pull_is_told_to_each_named_neuron_and_answers_when_they_have_begun() -> None:
    async with world(None, None, None) as here:
        body = {"nodes": ["n1", "n2"], "source": "hf:a/b", "pin": True}
        status, said = await here.ask("POST", "/models/m/pull", body)
        assert status == 200
        assert [one["response"]["state"] for one in said["results"]] == ["downloading"] * 2
        for neuron in here.neurons[:2]:
            (pull,) = neuron.asked[1:] if isinstance(neuron.asked[0], Register) else neuron.asked
            assert isinstance(pull, PullModel)
            assert (pull.source.source, pull.pin) == ("hf:a/b", True)
        assert not here.neurons[2].asked


@pytest.mark.anyio
async def test_what_one_neuron_refuses_does_not_hide_what_another_does() -> None:
    async with world(None, None) as here:
        here.neurons[1].answers = lambda _message: Refused(code="bad_request", message="No disk.")
        body = {"nodes": ["n1", "n2"], "source": "hf:a/b"}
        status, said = await here.ask("POST", "/models/m/pull", body)
        by_node = {one["node"]: one["response"] for one in said["results"]}
        assert status == 200
        assert by_node[here.neurons[0].node]["state"] == "downloading"
        refused = by_node[here.neurons[1].node]
        assert (refused["state"], refused["code"]) == ("failed", "bad_request")
        body = {"node": "n2", "source": "hf:a/b"}
        status, said = await here.ask("POST", "/models/m/pull", body)
        assert (status, said["error"]["message"]) == (400, "No disk.")


@pytest.mark.anyio
async def test_pulls_are_listed_and_ended() -> None:
    async with world(DOWNLOADING, UNLOADED) as here:
        _, said = await here.ask("GET", "/pulls")
        assert [(one["neuron"], one["progress"]) for one in said["pulls"]] == [("n1", None)]
        status, said = await here.ask("DELETE", "/models/m/pull")
        assert status == 200
        assert isinstance(here.neurons[0].asked[-1], CancelPull)
        assert (await here.ask("DELETE", "/models/none/pull"))[0] == 404


@pytest.mark.anyio
async def test_no_pull_to_end_is_not_told_as_a_model_that_nobody_has() -> None:
    async with world(UNLOADED) as here:
        status, said = await here.ask("DELETE", "/models/m/pull")
        assert (status, said["error"]["code"]) == (400, "bad_request")
        assert "No neuron pulls 'm'" in said["error"]["message"]


@pytest.mark.anyio
async def test_files_are_removed_where_it_is_clear_which() -> None:
    async with world(UNLOADED, UNLOADED) as here:
        status, said = await here.ask("DELETE", "/models/m")
        assert (status, said["error"]["param"]) == (400, "node")
        assert (await here.ask("DELETE", "/models/m?node=n2"))[0] == 200
        assert [type(one) for one in here.neurons[1].asked[-1:]] == [RemoveModel]
        assert not here.neurons[0].asked
        assert (await here.ask("DELETE", "/models/m?everywhere=true"))[0] == 200
        assert isinstance(here.neurons[0].asked[-1], RemoveModel)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 400, "bad_request"),
        ({"source": "ftp:a/b"}, 400, "bad_request"),
        ({"source": "hf:a/b", "node": "nobody"}, 404, "node_not_found"),
        ({"source": "hf:a/b", "copies": 3}, 503, "no_capacity"),
        ({"source": "hf:a/b", "copies": 0}, 400, "invalid_body"),
        ({"source": "hf:a/b", "nodes": "n1"}, 400, "invalid_body"),
        ({"source": "hf:a/b", "noods": []}, 400, "invalid_body"),
    ],
)
async def test_a_pull_that_makes_no_sense_is_refused_and_told_to_nobody(
    body: Any, status: int, code: str
) -> None:
    async with world(None) as here:
        answer = await here.ask("POST", "/models/m/pull", body)
        assert (answer[0], answer[1]["error"]["code"]) == (status, code)
        assert not here.neurons[0].asked
