"""One port number for TCP and UDP, kept over restarts."""

from __future__ import annotations

import socket
from contextlib import AsyncExitStack

import pytest

from helexa.mesh import sticky
from helexa.mesh.identity import NodeKey
from helexa.mesh.sticky import note_shared_port, remembered_port, sticky_port
from helexa.mesh.transport import TransportSettings
from helexa.mesh.transports import iroh, tls
from helexa.util.sockets import Address

pytestmark = pytest.mark.anyio
ANY = Address("127.0.0.1", 0)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::1"])
async def test_all_transports_of_a_node_share_a_port_that_comes_back(tmp_path, host):
    path, bind, ports = tmp_path / "home" / "mesh.port", Address(host, 0), set()
    for _start in range(2):
        note_shared_port(path, bind)
        async with AsyncExitStack() as stack:
            for opener in (tls.open_transport, iroh.open_transport):
                opened = sticky_port(opener, path)(NodeKey.generate(), TransportSettings(bind=bind))
                ports.add((await stack.enter_async_context(opened)).bound.port)
    assert len(ports) == 1
    assert ports.pop() != 0


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_a_noted_port_that_either_kind_holds_gives_way_to_one_free_for_both(tmp_path, kind):
    path = tmp_path / "port"
    with socket.socket(socket.AF_INET, kind) as holder:
        holder.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            holder.listen()
        taken = holder.getsockname()[1]
        path.write_text(f"{taken}")
        found = note_shared_port(path, ANY)
        assert found.port not in (0, taken)
        assert remembered_port(path, ANY) == found


def test_a_port_that_was_asked_for_is_neither_tried_nor_noted(tmp_path):
    path = tmp_path / "port"
    assert note_shared_port(path, Address("127.0.0.1", 9050)).port == 9050
    assert not path.exists()


def test_a_machine_with_no_port_free_for_both_leaves_the_choice_to_each(tmp_path, monkeypatch):
    monkeypatch.setattr(sticky, "_free_for_both", lambda _address: None)
    path = tmp_path / "port"
    assert note_shared_port(path, ANY) == ANY
    assert not path.exists()


def test_an_address_of_another_machine_is_left_to_whoever_opens_it(tmp_path):
    elsewhere = Address("192.0.2.1", 0)
    assert note_shared_port(tmp_path / "port", elsewhere) == elsewhere
