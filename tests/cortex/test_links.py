"""Sessions of neurons and cortexes at a running place: in which order things may come."""

from __future__ import annotations

from contextlib import suppress

import anyio
import pytest
from tests.cortex.places import cortex, until
from tests.cortex.scripted import BIND, hello

from helexa.mesh.identity import NodeKey
from helexa.mesh.node import MeshNode
from helexa.mesh.sessions.handshake import CloseCode
from helexa.mesh.sessions.session import PeerRefused, PeerUnsupported
from helexa.mesh.transport import LinkClosed, StreamReset
from helexa.mesh.transports.memory import MemoryNetwork
from helexa.protocol.gossip import Ack, Probe
from helexa.protocol.ids import OperatorId, new_request_id
from helexa.protocol.messages import (
    Drain,
    ExecuteRequest,
    Goodbye,
    Register,
    ReportHealth,
    ReportOffers,
    Role,
)
from helexa.protocol.work import Fingerprint, Load, NeuronDescriptor

pytestmark = pytest.mark.anyio


class Peer:
    """A node that does what a test says, with a host that only waits."""

    def __init__(self, key):
        self.key = key
        self.heard = []
        self.mesh = None

    async def on_session(self, session):
        await session.wait_closed()

    async def on_message(self, inbound):
        self.heard.append(inbound.message)

    async def on_stream(self, session, request, stream):
        raise AssertionError("nobody asks this one for anything")


@pytest.fixture
def network():
    return MemoryNetwork(silence_s=30)


@pytest.fixture
async def peers(network):
    """Makes peers with a role, which live as long as the test."""
    async with anyio.create_task_group() as tasks:

        async def made(role, key=None, *, task_status):
            peer = Peer(key or NodeKey.generate())
            transports = {"memory": (network.open_transport, BIND)}
            async with MeshNode.running(peer.key, hello(role), transports, peer) as peer.mesh:
                task_status.started(peer)
                await anyio.sleep_forever()

        async def make(role, key=None):
            return await tasks.start(made, role, key)

        yield make
        tasks.cancel_scope.cancel()


@pytest.fixture
async def here(network, tmp_path):
    transports = {"memory": network.open_transport}
    async with cortex(tmp_path / "here", transports, neurons="open") as one:
        yield one


def registration(peer):
    return Register(
        descriptor=NeuronDescriptor(
            node=peer.key.node_id,
            operator=OperatorId(peer.key.node_id),
            version="0",
            name="n",
            hardware=Fingerprint(machine="x", system="y"),
        )
    )


async def test_what_a_peer_says_first_is_heard_though_its_session_was_just_made(here, peers):
    """Its messages and its session are handled by different tasks, in either order."""
    for _ in range(20):
        peer = await peers(Role.CORTEX)
        session = await peer.mesh.connect(here.ticket)
        await session.tell(ReportOffers())
        await session.tell(Probe(nonce=7))
        await until(lambda peer=peer: any(getattr(m, "nonce", 0) == 7 for m in peer.heard))


async def test_the_gossip_of_one_peer_is_heard_in_the_order_in_which_it_was_said(here, peers):
    """Though each message is handled by a task of its own: a later word never overtakes."""
    peer = await peers(Role.CORTEX)
    session = await peer.mesh.connect(here.ticket)
    for number in range(1, 201):
        await session.tell(Probe(nonce=number))
    await until(lambda: Ack in {type(message) for message in peer.heard[-1:]})
    await until(lambda: [m.nonce for m in peer.heard if isinstance(m, Ack)][-1] == 200)
    assert [m.nonce for m in peer.heard if isinstance(m, Ack)] == list(range(1, 201))


async def test_a_neuron_may_register_with_its_first_word(here, peers):
    peer = await peers(Role.NEURON)
    session = await peer.mesh.connect(here.ticket)
    await session.ask(registration(peer))
    assert here.happened("neuron_registered", node_id=peer.key.node_id)


async def test_nobody_registers_in_the_name_of_another(here, peers):
    peer, other = await peers(Role.NEURON), await peers(Role.NEURON)
    session = await peer.mesh.connect(here.ticket)
    with pytest.raises(PeerRefused):
        await session.ask(registration(other))


async def test_a_neuron_that_gossips_is_not_understood_and_stays(here, peers):
    peer = await peers(Role.NEURON)
    session = await peer.mesh.connect(here.ticket)
    with pytest.raises(PeerUnsupported):
        await session.ask(Probe(nonce=1))
    await session.ask(registration(peer))
    assert not here.core.members


async def test_a_cortex_that_registers_as_a_neuron_is_not_understood(here, peers):
    peer = await peers(Role.CORTEX)
    session = await peer.mesh.connect(here.ticket)
    for message in (registration(peer), Drain(), ReportHealth(load=Load(sequence=1))):
        with pytest.raises(PeerUnsupported):
            await session.ask(message)
    await session.tell(Goodbye(reason="enough"))


@pytest.mark.parametrize("role", [Role.NEURON, Role.CORTEX])
async def test_a_stream_of_one_that_may_not_ask_ends_without_an_answer(here, peers, role):
    """A neuron executes for others; and this cortex has no door for other cortexes."""
    peer = await peers(role)
    session = await peer.mesh.connect(here.ticket)
    stream = await session.open_data(ExecuteRequest(request=new_request_id()))
    await stream.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n\r\n")
    with anyio.fail_after(10):
        # By its end or by a reset, and without a byte.
        with suppress(StreamReset):
            assert await stream.read() == b""
    assert session.ended is None


async def test_one_that_is_not_let_in_learns_it_and_is_not_listened_to(network, tmp_path, peers):
    transports = {"memory": network.open_transport}
    async with cortex(tmp_path / "shut", transports, admission="closed") as shut:
        peer = await peers(Role.CORTEX)
        session = await peer.mesh.connect(shut.ticket)
        with pytest.raises((PeerRefused, LinkClosed)):
            await session.ask(ReportOffers())
        closed = await session.wait_closed()
        assert (closed.code, closed.reason) == (
            CloseCode.DENIED,
            "this cortex does not let you in",
        )
        assert not shut.core.members
        assert not list(shut.place.overlay._peers)


async def test_a_guest_that_loses_its_standing_is_shown_out(here, peers):
    peer, other = await peers(Role.CORTEX), await peers(Role.CORTEX)
    session, stays = [await one.mesh.connect(here.ticket) for one in (peer, other)]
    await until(lambda: here.place.overlay.session_with(peer.key.node_id) is not None)
    decision = here.control.deny(peer.key.node_id)
    assert decision.closed == 1
    closed = await session.wait_closed()
    assert (closed.code, closed.reason) == (CloseCode.DENIED, "this cortex does not let you in")
    again = await peer.mesh.connect(here.ticket)
    assert (await again.wait_closed()).code == CloseCode.DENIED
    assert stays.ended is None


async def test_a_neuron_that_loses_its_standing_is_shown_out_too(here, peers):
    peer = await peers(Role.NEURON)
    session = await peer.mesh.connect(here.ticket)
    await session.ask(registration(peer))
    here.control.deny(peer.key.node_id)
    assert (await session.wait_closed()).code == CloseCode.DENIED
    await until(lambda: here.happened("neuron_left", node_id=peer.key.node_id))
