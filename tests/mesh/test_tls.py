"""The `tls` transport's door for strangers, its proofs and pins, where it dials and listens."""

from __future__ import annotations

import asyncio
import os
import random
import resource
import socket
import ssl
import tempfile
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.mesh.raw_tls import (
    DIAL_S,
    challenge,
    honest_visit,
    one_node,
    rest,
    silent_socket,
    tls_connection,
    two_nodes,
    until,
)

from helexa.mesh.identity import NodeKey
from helexa.mesh.transport import (
    DialFailed,
    TransportSettings,
)
from helexa.mesh.transports import _tls_door, _tls_wire, tls
from helexa.mesh.transports._tls_door import STRANGERS_PER_SOURCE_MAX, Places
from helexa.mesh.transports._tls_proof import (
    client_context,
    prove,
    proven_client,
    server_context,
)
from helexa.mesh.transports._tls_wire import frame
from helexa.testing.transport_suite import LOOPBACK, both_ways
from helexa.util.logs import every
from helexa.util.sockets import Address

pytestmark = pytest.mark.anyio


async def client_hello():
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context().wrap_bio(incoming, outgoing, server_hostname=None)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


# --- the door


async def test_ten_thousand_half_open_handshakes_do_not_keep_others_out():
    """TCP and silence, TLS hello and silence, from the very address that honest peers come from."""
    hello = await client_hello()
    async with two_nodes() as (here, there, node_id):
        held = []
        try:
            for number in range(10_000):
                held.append(await silent_socket(there))
                if number % 2:
                    held[-1].send(hello)
                if number % 500 == 0:
                    await honest_visit(here, there, node_id)
            await honest_visit(here, there, node_id)
            assert len(there.door._places) <= STRANGERS_PER_SOURCE_MAX
            # Those that stand there still are not yet refused; neither are some just coming.
            assert 9_000 < there.refused < 10_000
        finally:
            for each in held:
                each.close()


async def test_a_client_that_never_says_who_it_is_loses_its_place_to_others(monkeypatch):
    monkeypatch.setattr(_tls_door, "STRANGERS_PER_SOURCE_MAX", 4)
    async with two_nodes() as (here, there, node_id), anyio.create_task_group() as tasks:
        gone = anyio.Event()

        async def stand_there():
            async with tls_connection(there) as (reader, _):
                await rest(reader)
                gone.set()

        for _ in range(6):
            tasks.start_soon(stand_there)
        await gone.wait()
        await honest_visit(here, there, node_id)
        tasks.cancel_scope.cancel()


async def test_a_handshake_has_a_deadline_at_every_step(monkeypatch):
    monkeypatch.setattr(_tls_door, "HANDSHAKE_S", 0.1)
    async with one_node() as (there, _):
        plain = await silent_socket(there)
        with plain:
            assert await asyncio.get_running_loop().sock_recv(plain, 1) == b""
        async with tls_connection(there) as (reader, _):
            await challenge(reader)
            assert await rest(reader) == b""
        await until(lambda: there.refused == 2)


@pytest.mark.parametrize("noise", [b"GET / HTTP/1.1\r\n\r\n", bytes(600), b"\x16\x03\x01\xff\xff"])
async def test_bytes_that_are_no_tls_are_refused_and_counted(noise):
    async with two_nodes() as (here, there, node_id):
        plain = await silent_socket(there)
        with plain:
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(plain, noise)
            plain.shutdown(1)
            # An alert may come first.
            while await loop.sock_recv(plain, 1 << 12):
                pass
        await until(lambda: there.refused == 1)
        await honest_visit(here, there, node_id)


async def test_a_tls_client_of_another_protocol_is_refused():
    async with one_node() as (there, _):
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(["h2"])
        reader, writer = await asyncio.open_connection(
            there.bound.host, there.bound.port, ssl=context
        )
        assert await rest(reader) == b""
        writer.transport.abort()
        await until(lambda: there.refused == 1)


async def test_tls_1_2_is_refused():
    async with one_node() as (there, _):
        context = client_context()
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises(OSError):  # noqa: PT011  # Which of them is OpenSSL's affair.
            await asyncio.open_connection(
                there.bound.host, there.bound.port, ssl=context, server_hostname=""
            )
        await until(lambda: there.refused == 1)


@pytest.mark.parametrize(
    "said",
    [
        frame(_tls_wire.PROOF, 0, bytes(96)),
        frame(_tls_wire.DATA, 1, b"x"),
        frame(_tls_wire.WELCOME),
        frame(_tls_wire.PING, 0, bytes(8)),
        (_tls_wire.PROOF << 24 | 0xFFFFFF).to_bytes(4, "big") + bytes(4),
    ],
    ids=["unsigned", "data", "welcome", "ping", "absurd length"],
)
async def test_nobody_gets_in_by_saying_anything_but_the_proof(said):
    async with two_nodes() as (here, there, node_id):
        async with tls_connection(there) as (reader, writer):
            await challenge(reader)
            writer.write(said)
            assert await rest(reader) == b""
        await until(lambda: there.refused == 1)
        await honest_visit(here, there, node_id)


async def test_a_client_that_leaves_by_itself_is_no_offender():
    async with two_nodes() as (here, there, node_id):
        async with tls_connection(there) as (reader, _):
            await challenge(reader)
        await honest_visit(here, there, node_id)
        await until(lambda: not len(there.door._places))
        assert there.refused == 0


async def test_three_hundred_nodes_of_one_address_may_come_at_once():
    """A machine full of nodes, or a network behind one router, that starts anew."""
    async with two_nodes() as (here, there, node_id), anyio.create_task_group() as tasks:

        async def take_in():
            while True:
                await there.accept()

        async def visit():
            await here.dial(node_id, there.addresses, timeout_s=60)

        tasks.start_soon(take_in)
        async with anyio.create_task_group() as visitors:
            for _ in range(300):
                visitors.start_soon(visit)
        assert there.refused == 0
        tasks.cancel_scope.cancel()


async def test_links_that_nobody_accepts_are_told_so():
    async with two_nodes() as (here, there, node_id):
        links = [
            await here.dial(node_id, there.addresses, timeout_s=DIAL_S)
            for _ in range(tls.ACCEPTED_WAITING_MAX + 1)
        ]
        closed = await links[-1].wait_closed()
        assert "wait to be accepted" in closed.reason
        assert links[0].ended is None


async def test_no_file_descriptors_left_is_survived(monkeypatch, caplog):
    monkeypatch.setattr(_tls_door, "NO_SOCKETS_PAUSE_S", 0.01)
    monkeypatch.setattr(_tls_door, "_seldom", every(0))
    async with two_nodes() as (here, there, node_id):
        with socket.socket() as plain:
            plain.setblocking(False)
            with no_more_descriptors(spare=plain.fileno()):
                await asyncio.get_running_loop().sock_connect(
                    plain, (there.bound.host, there.bound.port)
                )
                await until(lambda: "cannot accept connections" in caplog.text)
            await honest_visit(here, there, node_id)


@contextmanager
def no_more_descriptors(spare):
    """Every number that this process may use for a file is used."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (spare + 1, hard))
    fillers = []
    try:
        with suppress(OSError):
            while True:
                fillers.append(os.dup(spare))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for each in fillers:
            os.close(each)


class TestPlaces:
    """Who goes when somebody comes and all places are taken."""

    def test_the_oldest_of_a_source_pays_for_its_newest(self):
        places = Places(most=10, most_per_source=2)
        assert [places.enter("a", guest) for guest in (1, 2, 3, 4)] == [None, None, 1, 2]
        assert len(places) == 2

    def test_a_crowd_pays_for_a_lone_one_when_all_is_full(self):
        places = Places(most=4, most_per_source=3)
        for source, guest in (("lone", 1), ("crowd", 2), ("crowd", 3), ("crowd", 4)):
            assert places.enter(source, guest) is None
        assert places.enter("late", 5) == 2
        assert places.enter("lone", 6) == 3
        assert len(places) == 4

    def test_leaving_frees_a_place_once(self):
        places = Places(most=2, most_per_source=2)
        places.enter("a", 1)
        places.leave("a", 1)
        places.leave("a", 1)
        places.leave("b", 1)
        assert len(places) == 0

    @given(st.lists(st.tuples(st.sampled_from("abcdef"), st.booleans()), max_size=200))
    def test_the_bounds_hold_whoever_comes(self, visits):
        places, inside = Places(most=7, most_per_source=3), {}
        for number, (source, leaves) in enumerate(visits):
            if leaves and inside:
                guest = next(iter(inside))
                places.leave(inside.pop(guest), guest)
                continue
            if (out := places.enter(source, number)) is not None:
                del inside[out]
            inside[number] = source
            assert len(places) == len(inside) <= 7
            assert list(inside.values()).count(source) <= 3


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("10.0.0.1", "10.0.0.2", False),
        ("10.0.0.1", "::ffff:10.0.0.1", True),
        ("2001:db8::1", "2001:db8::2:3:4:5", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2", True),
    ],
)
def test_a_source_is_an_address_or_a_site(one, other, same):
    assert (_tls_door._source(one) == _tls_door._source(other)) is same


# --- the proof


def test_an_answer_is_good_for_one_server_one_nonce_and_one_client():
    client, server, other = (NodeKey.generate() for _ in range(3))
    nonce = os.urandom(32)
    answer = prove(client, server.node_id, nonce)
    assert proven_client(server.node_id, nonce, answer) == client.node_id
    # Relayed to another server, replayed on another connection, said to be somebody else's.
    assert proven_client(other.node_id, nonce, answer) is None
    assert proven_client(server.node_id, os.urandom(32), answer) is None
    claimed = bytes.fromhex(other.node_id) + answer[32:]
    assert proven_client(server.node_id, nonce, claimed) is None


def test_a_servers_own_answer_reflected_to_it_is_refused():
    server, nonce = NodeKey.generate(), os.urandom(32)
    assert proven_client(server.node_id, nonce, prove(server, server.node_id, nonce)) is None


async def test_a_node_in_the_middle_cannot_use_who_dialled_it():
    """M is dialled by C, passes S's challenge on to C, and C's answer on to S."""
    middle, client = NodeKey.generate(), NodeKey.generate()
    answered = []
    async with one_node() as (server, _), tls.open_transport(client, LOOPBACK) as victim:

        async def relay(reader, writer):
            async with tls_connection(server) as (server_reader, server_writer):
                nonce = await challenge(server_reader)
                writer.write(frame(_tls_wire.CHALLENGE, 0, nonce))
                server_writer.write(await reader.readexactly(8 + 96))
                answered.append(await rest(server_reader))
            writer.transport.abort()

        trap = await asyncio.start_server(relay, "127.0.0.1", 0, ssl=server_context(middle))
        where = f"127.0.0.1:{trap.sockets[0].getsockname()[1]}"
        with pytest.raises(DialFailed):
            await victim.dial(middle.node_id, [where], timeout_s=DIAL_S)
        trap.close()
        assert answered == [b""]
        await until(lambda: server.refused == 1)


async def test_a_node_that_dials_itself_is_told():
    key = NodeKey.generate()
    async with tls.open_transport(key, LOOPBACK) as transport:
        with pytest.raises(DialFailed, match="itself"):
            await transport.dial(key.node_id, transport.addresses, timeout_s=DIAL_S)


@pytest.mark.parametrize("in_memory", [True, False])
def test_the_key_never_stays_in_a_file(in_memory, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    if not in_memory:
        monkeypatch.delattr(os, "memfd_create")
    seen = []
    load = ssl.SSLContext.load_cert_chain

    def watch(context, path):
        seen.append((list(tmp_path.iterdir()), Path(path).stat().st_mode & 0o077))
        load(context, path)

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", watch)
    server_context(NodeKey.generate())
    ((files, open_to_others),) = seen
    assert len(files) == (0 if in_memory else 1)
    assert in_memory or not open_to_others
    assert list(tmp_path.iterdir()) == []


# --- dialling


@asynccontextmanager
async def server_that(say, context=None):
    """Some TCP server; `say` has its connection."""
    server = await asyncio.start_server(say, "127.0.0.1", 0, ssl=context)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def say_nothing(reader, writer):
    await rest(reader)
    writer.transport.abort()


async def say_garbage(reader, writer):
    writer.write(random.Random(5).randbytes(4_096))
    await rest(reader)
    writer.transport.abort()


async def hang_up(reader, writer):
    writer.transport.abort()


@pytest.mark.parametrize("say", [say_nothing, say_garbage, hang_up])
@pytest.mark.parametrize("layer", ["tcp", "tls", "helexa"])
async def test_a_bootstrap_that_answers_garbage_or_nothing_fails_the_dial_alone(say, layer):
    key = NodeKey.generate()
    context = None if layer == "tcp" else server_context(key)
    if layer == "tls":
        context.set_alpn_protocols(["h2"])
    async with (
        server_that(say, context) as where,
        tls.open_transport(NodeKey.generate(), LOOPBACK) as here,
    ):
        with anyio.fail_after(DIAL_S), pytest.raises(DialFailed, match="127"):
            await here.dial(key.node_id, [where], timeout_s=0.5)
        async with one_node() as (there, node_id):
            await honest_visit(here, there, node_id)


async def test_the_right_address_among_wrong_ones_is_found():
    async with two_nodes() as (here, there, node_id), one_node() as (stranger, _):
        async with server_that(say_nothing) as silent:
            addresses = ["nonsense", *stranger.addresses, silent, "127.0.0.1:1", *there.addresses]
            link = await here.dial(node_id, addresses, timeout_s=DIAL_S)
            await both_ways(link, await there.accept())
        assert (there.refused, stranger.refused) == (0, 0)


async def test_a_failed_dial_names_the_reason_of_each_address():
    async with two_nodes() as (here, there, _):
        addresses = [*there.addresses, "127.0.0.1:1"]
        with pytest.raises(DialFailed) as failed:
            await here.dial(NodeKey.generate().node_id, addresses, timeout_s=DIAL_S)
        assert "another key" in str(failed.value)
        assert "127.0.0.1:1: " in str(failed.value)


async def test_a_dial_from_a_stopped_transport_fails():
    async with one_node() as (there, node_id):
        async with tls.open_transport(NodeKey.generate(), LOOPBACK) as here:
            pass
        with pytest.raises(DialFailed, match="stopped"):
            await here.dial(node_id, there.addresses, timeout_s=DIAL_S)


# --- where it listens


async def test_it_serves_ipv6():
    key = NodeKey.generate()
    settings_6 = TransportSettings(bind=Address("::1", 0))
    async with (
        tls.open_transport(key, settings_6) as there,
        tls.open_transport(NodeKey.generate(), LOOPBACK) as here,
    ):
        assert there.addresses == (f"[::1]:{there.bound.port}",)
        await honest_visit(here, there, key.node_id)


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
async def test_a_wildcard_serves_both_families_and_announces_interfaces(host):
    key = NodeKey.generate()
    wild = TransportSettings(bind=Address(host, 0))
    async with (
        tls.open_transport(key, wild) as there,
        tls.open_transport(NodeKey.generate(), LOOPBACK) as here,
    ):
        port = there.bound.port
        assert there.bound.host == host
        assert {f"127.0.0.1:{port}", f"[::1]:{port}"} <= set(there.addresses)
        assert not any(text.startswith(("0.0.0.0", "[::]")) for text in there.addresses)
        for loopback in (f"127.0.0.1:{port}", f"[::1]:{port}"):
            await here.dial(key.node_id, [loopback], timeout_s=DIAL_S)
            await there.accept()


async def test_a_host_name_is_looked_up_once_and_a_wrong_one_is_refused():
    named = TransportSettings(bind=Address("localhost", 0))
    async with tls.open_transport(NodeKey.generate(), named) as transport:
        assert transport.bound.is_loopback
