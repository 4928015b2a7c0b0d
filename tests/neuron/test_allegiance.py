"""Whom a neuron obeys, and which cortexes of its network it dials."""

from __future__ import annotations

from types import SimpleNamespace

import anyio
import pytest

from helexa.mesh.discovery.advert import Found
from helexa.mesh.identity import NodeKey
from helexa.mesh.operators.credentials import Credentials
from helexa.mesh.operators.operator import OperatorKey, certify
from helexa.mesh.ticket import Ticket
from helexa.neuron import allegiance as module
from helexa.neuron.allegiance import Allegiance
from helexa.protocol.ids import OperatorId
from helexa.protocol.messages import Hello, Role

NOW = 1_800_000_000
DAY = 86_400
OURS, THEIRS = OperatorKey.generate(), OperatorKey.generate()
CORTEX, OTHER = NodeKey.generate().node_id, NodeKey.generate().node_id
ALONE = Credentials(operator=OperatorId("0" * 64), identities=(OperatorId("0" * 64),))


def of(operator):
    """The credentials of a neuron of that operator."""
    return Credentials(
        operator=operator.operator_id,
        identities=(operator.operator_id,),
        certificate=SimpleNamespace(),
    )


def allegiance(named=(), credentials=ALONE, *, takes_found=True):
    return Allegiance(named, credentials, takes_found=takes_found, unix=lambda: NOW)


def session(node=CORTEX, role=Role.CORTEX, certificate=b""):
    hello = Hello(role=role, lowest=1, highest=1, certificate=certificate)
    return SimpleNamespace(peer=node, hello=hello)


def certificate(operator=OURS, node=CORTEX, *, roles=(Role.CORTEX,), issued_s=NOW - DAY, days=9):
    return certify(operator, node, roles, now_s=issued_s, days=days)


def heard(node=CORTEX, port=1, role="cortex"):
    ticket = Ticket(node=node, addresses={"tls": (f"192.0.2.1:{port}",)})
    return Found(ticket=ticket, role=role, name="c")


class Dials:
    """What is dialled now, and how often anything was."""

    def __init__(self):
        self.now = []
        self.count = 0

    async def __call__(self, ticket):
        self.count += 1
        self.now.append(ticket)
        try:
            await anyio.sleep_forever()
        finally:
            self.now.remove(ticket)


async def settle():
    """Let the tasks that were just begun or cancelled run."""
    for _ in range(5):
        await anyio.lowlevel.checkpoint()


def nobody(_node):
    return False


# --- obeying


def test_a_cortex_that_was_named_by_its_ticket_is_obeyed():
    assert allegiance([CORTEX]).obeys(session())
    assert not allegiance([CORTEX]).obeys(session(OTHER))


def test_another_neuron_is_not_obeyed_though_it_was_named():
    assert not allegiance([CORTEX]).obeys(session(role=Role.NEURON))


def test_a_cortex_of_the_same_operator_is_obeyed_without_being_named():
    assert allegiance(credentials=of(OURS)).obeys(session(certificate=certificate()))


@pytest.mark.parametrize(
    "blob",
    [
        b"",
        b"garbage",
        certificate(THEIRS),
        certificate(node=OTHER),
        certificate(roles=(Role.NEURON,)),
        certificate(issued_s=NOW - 30 * DAY),
    ],
    ids=["none", "garbage", "another operator's", "another node's", "a neuron's", "expired"],
)
def test_no_other_certificate_makes_a_neuron_with_an_operator_obey(blob):
    assert not allegiance(credentials=of(OURS)).obeys(session(certificate=blob))


def test_a_neuron_without_an_operator_is_moved_by_no_certificate():
    assert not allegiance().obeys(session(certificate=certificate()))


@pytest.mark.anyio
async def test_a_cortex_of_the_network_is_obeyed_where_no_ticket_was_given():
    async with anyio.create_task_group() as tasks:
        ours = allegiance()
        assert not ours.obeys(session())
        ours.found(heard(), tasks, Dials(), nobody)
        assert ours.obeys(session())
        assert not ours.obeys(session(OTHER))
        tasks.cancel_scope.cancel()


@pytest.mark.anyio
async def test_a_neuron_with_an_operator_dials_the_network_but_obeys_its_own_alone():
    async with anyio.create_task_group() as tasks:
        ours, dials = allegiance(credentials=of(OURS)), Dials()
        ours.found(heard(), tasks, dials, nobody)
        await settle()
        assert dials.count == 1
        assert not ours.obeys(session(certificate=certificate(THEIRS)))
        assert ours.obeys(session(certificate=certificate()))
        tasks.cancel_scope.cancel()


# --- what is found


@pytest.mark.anyio
async def test_a_cortex_that_is_heard_again_and_again_is_dialled_once():
    async with anyio.create_task_group() as tasks:
        ours, dials = allegiance(), Dials()
        for _ in range(5):
            ours.found(heard(), tasks, dials, nobody)
        await settle()
        assert dials.count == len(dials.now) == 1
        tasks.cancel_scope.cancel()


@pytest.mark.anyio
async def test_a_cortex_that_moved_is_dialled_at_its_new_address_alone():
    async with anyio.create_task_group() as tasks:
        ours, dials = allegiance(), Dials()
        for port in (1, 2):
            ours.found(heard(port=port), tasks, dials, nobody)
            await settle()
        assert [ticket.addresses["tls"] for ticket in dials.now] == [("192.0.2.1:2",)]
        assert ours.obeys(session())
        tasks.cancel_scope.cancel()


@pytest.mark.anyio
async def test_neurons_of_the_network_are_not_dialled_nor_anybody_where_it_is_not_asked():
    async with anyio.create_task_group() as tasks:
        dials = Dials()
        allegiance().found(heard(role="neuron"), tasks, dials, nobody)
        allegiance(takes_found=False).found(heard(), tasks, dials, nobody)
        await settle()
        assert dials.count == 0


@pytest.mark.anyio
async def test_of_a_crowd_only_so_many_are_dialled_and_those_that_answer_stay(monkeypatch):
    """Made-up cortexes on a network must not keep a real one out, nor push one out that serves."""
    monkeypatch.setattr(module, "FOUND_MAX", 3)
    crowd = [NodeKey.generate().node_id for _ in range(8)]
    answering = {crowd[0]}
    async with anyio.create_task_group() as tasks:
        ours, dials = allegiance(), Dials()
        for node in crowd:
            ours.found(heard(node), tasks, dials, answering.__contains__)
            await settle()
            assert len(dials.now) <= 3
        found = [ticket.node for ticket in dials.now]
        assert found[0] == crowd[0]
        assert crowd[-1] in found
        assert [ours.obeys(session(node)) for node in crowd].count(True) == 3
        # Once all that are kept answer, a further one has to wait.
        ours.found(heard(OTHER), tasks, dials, lambda _node: True)
        await settle()
        assert OTHER not in [ticket.node for ticket in dials.now]
        tasks.cancel_scope.cancel()
