"""A node keeps the peers it was told to keep, and says how that goes."""

from __future__ import annotations

import sys
from contextlib import asynccontextmanager

import anyio
import pytest
from tests.mesh.hosts import HELLO, Recorder

from helexa.mesh import node as node_module
from helexa.mesh.identity import NodeKey
from helexa.mesh.node import MeshNode
from helexa.mesh.sessions.session import Session
from helexa.mesh.sticky import remembered_port, sticky_port
from helexa.mesh.ticket import Ticket
from helexa.mesh.transport import DialFailed, TransportSettings
from helexa.mesh.transports import iroh
from helexa.mesh.transports.memory import MemoryNetwork
from helexa.protocol.messages import Drain, Ok
from helexa.util.backoff import Backoff
from helexa.util.sockets import Address

pytestmark = pytest.mark.anyio
QUICK = Backoff(first_s=0.01, most_s=0.05)
SETTINGS = TransportSettings(bind=Address("127.0.0.1", 0))


@asynccontextmanager
async def running(open_transport, *, name="t", host=None, key=None, bind=None, **options):
    settings = TransportSettings(bind=bind or SETTINGS.bind)
    async with MeshNode.running(
        key or NodeKey.generate(),
        HELLO,
        {name: (open_transport, settings)},
        host or Recorder(),
        backoff=QUICK,
        **options,
    ) as node:
        yield node


async def test_a_kept_peer_is_connected_and_the_dial_says_so(roads):
    neuron = Recorder()
    async with (
        running(roads.open_transport) as there,
        running(roads.open_transport, host=neuron) as here,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(here.keep_connected, there.ticket())
        await neuron.until(lambda: neuron.sessions)
        (dial,) = here.dials
        assert dial.session is neuron.sessions[0]
        assert dial.connected_since_s is not None
        assert dial.session.peer == there.node_id
        assert here.sessions == {dial.session}
        assert await dial.session.ask(Drain()) == Ok()
        tasks.cancel_scope.cancel()
    assert here.dials == []


async def test_a_peer_that_comes_back_is_found_again_by_itself(roads):
    neuron, key = Recorder(), NodeKey.generate()
    async with (
        running(roads.open_transport, host=neuron) as here,
        anyio.create_task_group() as tasks,
    ):
        async with running(roads.open_transport, key=key) as there:
            bound = there.transports["t"].bound
            tasks.start_soon(here.keep_connected, there.ticket())
            await neuron.until(lambda: len(neuron.sessions) == 1)
        assert (await neuron.sessions[0].wait_closed()).code == 0
        async with running(roads.open_transport, key=key, bind=bound):
            await neuron.until(lambda: len(neuron.sessions) == 2)
            assert await neuron.sessions[1].ask(Drain()) == Ok()
            tasks.cancel_scope.cancel()


CORTEX = """
import sys, anyio
from pathlib import Path
from helexa.mesh.identity import NodeKey
from helexa.mesh.node import MeshNode
from helexa.mesh.sticky import sticky_port
from helexa.mesh.transport import TransportSettings
from helexa.mesh.transports import iroh
from helexa.protocol.messages import Hello, Ok, Role
from helexa.util.sockets import Address

class Host:
    async def on_session(self, session):
        await session.wait_closed()
    async def on_message(self, inbound):
        return Ok()
    async def on_stream(self, session, request, stream):
        pass

async def main(home):
    transports = {
        "iroh": (
            sticky_port(iroh.open_transport, home / "mesh.port"),
            TransportSettings(bind=Address("127.0.0.1", 0)),
        )
    }
    hello = Hello(role=Role.CORTEX, lowest=1, highest=1)
    key = NodeKey.load_or_create(home / "node.key")
    async with MeshNode.running(key, hello, transports, Host()) as node:
        print(node.ticket(), flush=True)
        await anyio.sleep_forever()

anyio.run(main, Path(sys.argv[1]))
"""


@asynccontextmanager
async def cortex_process(home):
    """A node in a process of its own, killed with SIGKILL at the end of the block."""
    async with await anyio.open_process([sys.executable, "-c", CORTEX, str(home)]) as process:
        try:
            yield Ticket.parse((await process.stdout.receive()).decode())
        finally:
            process.kill()


async def test_a_process_that_was_killed_is_found_again_when_it_returns(tmp_path):
    neuron = Recorder()
    async with (
        running(iroh.open_transport, name="iroh", host=neuron, silence_max_s=2.0) as here,
        anyio.create_task_group() as tasks,
    ):
        async with cortex_process(tmp_path) as ticket:
            tasks.start_soon(here.keep_connected, ticket)
            await neuron.until(lambda: len(neuron.sessions) == 1)
        async with cortex_process(tmp_path) as again:
            assert again == ticket
            await neuron.until(lambda: len(neuron.sessions) == 2)
            assert await neuron.sessions[1].ask(Drain()) == Ok()
            tasks.cancel_scope.cancel()


async def test_a_peer_that_vanished_is_given_up_and_dialled_again():
    network, neuron, key = MemoryNetwork(silence_s=30), Recorder(), NodeKey.generate()
    async with (
        running(network.open_transport, host=neuron, silence_max_s=0.2) as here,
        anyio.create_task_group() as tasks,
    ):
        async with running(network.open_transport, key=key) as there:
            bound = there.transports["t"].bound
            tasks.start_soon(here.keep_connected, there.ticket())
            await neuron.until(lambda: len(neuron.sessions) == 1)
            network.vanish(there.transports["t"])
            assert "nothing heard" in (await neuron.sessions[0].wait_closed()).reason
        async with running(network.open_transport, key=key, bind=bound):
            await neuron.until(lambda: len(neuron.sessions) == 2)
            tasks.cancel_scope.cancel()


async def test_a_peer_that_stays_away_is_one_line_in_the_log(monkeypatch, caplog):
    monkeypatch.setattr(node_module, "DIAL_S", 0.01)
    network, waits = MemoryNetwork(), []
    tried = anyio.Event()

    def jitter():
        waits.append(1)
        if len(waits) == 5:
            tried.set()
        return 0.0

    ticket = Ticket(node=NodeKey.generate().node_id, addresses={"t": ("127.0.0.1:1",)})
    async with (
        running(network.open_transport, jitter=jitter) as here,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(here.keep_connected, ticket)
        await tried.wait()
        (dial,) = here.dials
        assert dial.failures >= 4
        assert dial.attempts >= 4
        assert dial.session is None
        assert "no answer" in dial.last_error
        tasks.cancel_scope.cancel()
    assert caplog.text.count("not connected") == 1


async def test_a_ticket_for_other_transports_says_which_are_open_here():
    ticket = Ticket(node=NodeKey.generate().node_id, addresses={"carrier-pigeon": ("roof",)})
    async with running(MemoryNetwork().open_transport, name="memory") as here:
        with pytest.raises(
            DialFailed, match="offers the transports carrier-pigeon; open here: mem"
        ):
            await here.dial(ticket)


async def test_a_ticket_of_another_key_names_the_transport_and_the_reason(roads):
    async with running(roads.open_transport) as there, running(roads.open_transport) as here:
        wrong = Ticket(node=NodeKey.generate().node_id, addresses=there.ticket().addresses)
        with pytest.raises(DialFailed, match=r"t: .*another key"):
            await here.dial(wrong)


async def test_several_peers_are_kept_and_served_at_once(roads):
    neuron = Recorder()
    async with (
        running(roads.open_transport) as one,
        running(roads.open_transport) as two,
        running(roads.open_transport, host=neuron) as here,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(here.keep_connected, one.ticket())
        tasks.start_soon(here.keep_connected, two.ticket())
        await neuron.until(lambda: len(neuron.sessions) == 2)
        peers = set()
        for session in neuron.sessions:
            assert await session.ask(Drain()) == Ok()
            peers.add(session.peer)
        assert peers == {one.node_id, two.node_id}
        tasks.cancel_scope.cancel()


async def test_a_host_of_its_own_serves_a_kept_peer(roads):
    general, special = Recorder(), Recorder()
    async with (
        running(roads.open_transport) as there,
        running(roads.open_transport, host=general) as here,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(here.keep_connected, there.ticket(), special)
        await special.until(lambda: special.sessions)
        assert general.sessions == []
        tasks.cancel_scope.cancel()


async def test_the_acceptor_calls_back_over_the_link_that_was_dialled(roads):
    """A neuron behind a router dials out; the cortex opens its streams."""
    cortex, neuron = Recorder(), Recorder()
    async with (
        running(roads.open_transport, host=cortex) as there,
        running(roads.open_transport, host=neuron) as here,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(here.keep_connected, there.ticket())
        await cortex.until(lambda: cortex.sessions)
        session: Session = cortex.sessions[0]
        assert (session.peer, session.dialled) == (here.node_id, False)
        assert await session.ask(Drain()) == Ok()
        tasks.cancel_scope.cancel()


async def test_port_zero_comes_back_as_the_same_port(roads, tmp_path):
    open_sticky = sticky_port(roads.open_transport, tmp_path / "home" / "mesh.port")
    ports = []
    for _start in range(3):
        async with open_sticky(NodeKey.generate(), SETTINGS) as transport:
            ports.append(transport.bound.port)
    assert len(set(ports)) == 1


async def test_a_remembered_port_that_is_taken_gives_way_to_a_free_one(roads, tmp_path):
    path = tmp_path / "mesh.port"
    async with roads.open_transport(NodeKey.generate(), SETTINGS) as other:
        path.write_text(f"{other.bound.port}")
        async with sticky_port(roads.open_transport, path)(NodeKey.generate(), SETTINGS) as mine:
            assert mine.bound.port not in (0, other.bound.port)
            assert remembered_port(path, SETTINGS.bind) == mine.bound


@pytest.mark.parametrize("note", ["", "x", "0", "70000", "-1"])
def test_a_senseless_note_of_a_port_is_ignored(tmp_path, note):
    (tmp_path / "port").write_text(note)
    assert remembered_port(tmp_path / "port", SETTINGS.bind) == SETTINGS.bind


def test_a_port_that_was_asked_for_is_not_replaced(tmp_path):
    (tmp_path / "port").write_text("9999")
    assert remembered_port(tmp_path / "port", Address("127.0.0.1", 9050)).port == 9050
