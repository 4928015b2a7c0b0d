"""What a node does about peers that do not behave: it closes, counts, and serves the others."""

from __future__ import annotations

import os
import random
import socket
from contextlib import asynccontextmanager, suppress

import anyio
import msgspec
import pytest
from tests.mesh.hosts import HELLO, Recorder

from helexa.mesh import node as node_module
from helexa.mesh.identity import NodeKey
from helexa.mesh.node import MeshNode
from helexa.mesh.sessions import session as session_module
from helexa.mesh.sessions.handshake import CloseCode, HandshakeFailed, VersionMismatch, shake_hands
from helexa.mesh.sessions.session import (
    FRAMES_REJECTED_MAX,
    PeerRefused,
    PeerUnsupported,
    Session,
)
from helexa.mesh.transport import LinkClosed, StreamReset, TransportSettings
from helexa.protocol.frames import FRAME_BYTES_MAX, Frame, encode
from helexa.protocol.messages import Drain, Goodbye, Hello, Ok, Role
from helexa.util.logs import every
from helexa.util.sockets import Address

pytestmark = pytest.mark.anyio


class Victim:
    """A running node, a way to link to it raw, and a way to see that it serves others."""

    def __init__(self, roads, node, attacker):
        self.roads, self.node, self._attacker = roads, node, attacker

    async def link(self):
        transport = self.node.transports["t"]
        return await self._attacker.dial(self.node.node_id, transport.addresses, timeout_s=10)

    async def greeted(self):
        """A link whose control stream is past the handshake, for raw bytes."""
        link = await self.link()
        greeting = await shake_hands(link, HELLO)
        return link, greeting.stream

    async def serves(self):
        host = Recorder()
        async with Session.running(
            await self.link(), HELLO, host.on_message, host.on_stream
        ) as session:
            assert await session.ask(Drain()) == Ok()


@asynccontextmanager
async def victim(roads, host=None, **options):
    settings = TransportSettings(bind=Address("127.0.0.1", 0))
    transports = {"t": (roads.open_transport, settings)}
    async with (
        MeshNode.running(
            NodeKey.generate(), HELLO, transports, host or Recorder(), **options
        ) as node,
        roads.open_transport(NodeKey.generate(), settings) as attacker,
    ):
        yield Victim(roads, node, attacker)


def tagged(tag, number=5, re=0, version=1):
    payload = bytes((version,)) + msgspec.msgpack.encode([number, re, {"t": tag}])
    return len(payload).to_bytes(4, "big") + payload


GARBAGE = [
    ("an absurd length", b"\xff\xff\xff\xff" + bytes(100)),
    ("a length of zero", bytes(4)),
    ("a length just over the limit", (FRAME_BYTES_MAX + 1).to_bytes(4, "big")),
    ("half a frame and then the end", b"\x00\x00\x10\x00half"),
    ("random bytes", random.Random(5).randbytes(5000)),
    ("HTTP", b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n"),
]
IDS = [name for name, _ in GARBAGE]


@pytest.mark.parametrize(("name", "data"), GARBAGE, ids=IDS)
async def test_garbage_instead_of_hello_closes_the_link(roads, name, data):
    async with victim(roads) as node:
        link = await node.link()
        stream = await link.open_stream()
        await stream.write(data)
        await stream.finish()
        assert (await link.wait_closed()).code == CloseCode.HANDSHAKE_FAILED
        await node.serves()


@pytest.mark.parametrize(("name", "data"), GARBAGE, ids=IDS)
async def test_garbage_among_messages_closes_the_link(roads, name, data):
    async with victim(roads) as node:
        link, stream = await node.greeted()
        await stream.write(data)
        await stream.finish()
        closed = await link.wait_closed()
        assert closed.code == CloseCode.FRAMES_REJECTED
        assert "frames rejected" in closed.reason
        await node.serves()


async def test_links_closed_for_garbage_one_after_another_are_one_line_in_the_log(
    roads, monkeypatch, caplog
):
    monkeypatch.setattr(session_module, "_seldom", every(3600))
    async with victim(roads) as node:
        for _attempt in range(5):
            link, stream = await node.greeted()
            await stream.write(bytes(4))
            assert (await link.wait_closed()).code == CloseCode.FRAMES_REJECTED
    assert caplog.text.count("rejected frames") == 1


async def test_a_message_other_than_hello_first_closes_the_link(roads):
    async with victim(roads) as node:
        link = await node.link()
        stream = await link.open_stream()
        await stream.write(encode(Frame(1, 0, Drain()), version=0))
        closed = await link.wait_closed()
        assert closed.code == CloseCode.HANDSHAKE_FAILED
        assert "Drain" in closed.reason


async def test_a_link_that_never_says_hello_is_closed_in_time(roads):
    async with roads.linked() as (dialled, accepted):
        with pytest.raises(HandshakeFailed, match="no Hello within"):
            await shake_hands(accepted, HELLO, timeout_s=0.1)
        assert (await dialled.wait_closed()).code == CloseCode.HANDSHAKE_FAILED


async def test_a_stranger_version_is_told_both_ranges(roads):
    newer = Hello(role=Role.NEURON, lowest=5, highest=9)
    async with victim(roads) as node:
        with pytest.raises(VersionMismatch, match=r"1\.\.1.*5\.\.9|5\.\.9.*1\.\.1"):
            await shake_hands(await node.link(), newer)
        await node.serves()


async def test_both_sides_of_a_version_mismatch_know_it(roads):
    newer = Hello(role=Role.NEURON, lowest=5, highest=9)
    async with roads.linked() as (dialled, accepted), anyio.create_task_group() as tasks:

        async def accept():
            with pytest.raises(VersionMismatch, match=r"5\.\.9 is spoken here, 1\.\.1 there"):
                await shake_hands(accepted, newer)

        tasks.start_soon(accept)
        with pytest.raises(VersionMismatch, match=r"5\.\.9"):
            await shake_hands(dialled, HELLO)


async def test_well_framed_nonsense_is_counted_and_then_closed_upon(roads):
    async with victim(roads) as node:
        link, stream = await node.greeted()
        for _ in range(FRAMES_REJECTED_MAX - 1):
            await stream.write(b"\x00\x00\x00\x04\x01\xc1\xc1\xc1")
        # So many are still forgiven: the link answers.
        await stream.write(encode(Frame(50, 0, Drain())))
        assert b"ok" in await stream.read()
        await stream.write(b"\x00\x00\x00\x03\x07hi")
        closed = await link.wait_closed()
        assert closed.code == CloseCode.FRAMES_REJECTED
        assert "version 7" in closed.reason
        await node.serves()


async def test_a_message_of_a_newer_build_is_answered_unsupported(roads):
    async with victim(roads) as node:
        _link, stream = await node.greeted()
        await stream.write(tagged("later.invention", number=77))
        answer = await stream.read()
        assert b"unsupported" in answer
        assert b"later.invention" in answer


async def test_an_answer_of_a_newer_build_fails_the_ask_at_once(roads):
    async with roads.linked() as (dialled, accepted), anyio.create_task_group() as tasks:
        host = Recorder()

        async def newer_build():
            greeting = await shake_hands(accepted, HELLO)
            payload = await greeting.reader.next()
            asked = msgspec.msgpack.decode(payload[1:])[0]
            await greeting.stream.write(tagged("later.answer", re=asked))
            await accepted.wait_closed()

        tasks.start_soon(newer_build)
        async with Session.running(dialled, HELLO, host.on_message, host.on_stream) as session:
            with pytest.raises(PeerUnsupported, match=r"later\.answer"):
                await session.ask(Drain())
            await dialled.close()


async def test_answers_that_nobody_asked_for_are_ignored(roads):
    async with victim(roads) as node:
        _link, stream = await node.greeted()
        for number in range(1, 300):
            await stream.write(encode(Frame(number, 10_000 + number, Ok())))
        await stream.write(encode(Frame(500, 0, Drain())))
        assert b"ok" in await stream.read()


async def test_a_data_stream_of_garbage_is_counted_and_then_closed_upon(roads):
    async with victim(roads) as node:
        link, _control = await node.greeted()
        with suppress(LinkClosed, StreamReset):
            for _ in range(FRAMES_REJECTED_MAX):
                stream = await link.open_stream()
                await stream.write(random.Random(1).randbytes(64))
        assert (await link.wait_closed()).code == CloseCode.FRAMES_REJECTED
        await node.serves()


async def test_half_a_frame_and_silence_ends_by_the_silence(roads):
    async with victim(roads, silence_max_s=0.3) as node:
        link, stream = await node.greeted()
        await stream.write(b"\x00\x00\x10\x00\x01half")
        assert (await link.wait_closed()).code == CloseCode.SILENT


async def test_a_peer_that_reads_nothing_is_dropped_and_holds_up_nobody(roads):
    async def long_answer(inbound):
        return Goodbye(reason="x" * 500_000)

    async with victim(roads, Recorder(long_answer), silence_max_s=1.0) as node:
        link, stream = await node.greeted()
        # It keeps talking, so silence is not what it is closed for.
        with suppress(LinkClosed):
            while True:
                await stream.write(encode(Frame(5, 0, Drain())))
                await anyio.sleep(0.01)
        assert (await link.wait_closed()).code == CloseCode.STALLED


async def test_a_flood_of_links_is_turned_away_with_a_reason(roads, monkeypatch):
    monkeypatch.setattr(node_module, "GREETING_MAX", 3)
    async with victim(roads) as node:
        silent = [await node.link() for _ in range(3)]
        turned_away = await (await node.link()).wait_closed()
        assert turned_away.code == CloseCode.BUSY
        for link in silent:
            await link.close()
        # The places are free again; the node notices the closes in its own time.
        while True:
            try:
                await node.serves()
                break
            except (LinkClosed, HandshakeFailed):
                await anyio.sleep(0.01)


async def test_more_links_than_the_node_takes_are_turned_away(roads):
    async with victim(roads, links_max=1) as node:
        link, _stream = await node.greeted()
        assert (await (await node.link()).wait_closed()).code == CloseCode.BUSY
        assert link.peer == node.node.node_id


async def test_a_host_that_fails_costs_its_session_alone(roads, caplog):
    class Failing(Recorder):
        async def on_session(self, session):
            raise KeyError("the host's own fault")

    async with victim(roads, Failing()) as node:
        for _attempt in range(2):
            link = await node.link()
            # The close may overtake the Hello.
            with suppress(LinkClosed):
                await shake_hands(link, HELLO)
            assert (await link.wait_closed()).code == CloseCode.INTERNAL
    assert "the host's own fault" in caplog.text


async def test_a_host_whose_peer_refuses_ends_the_session_quietly(roads, caplog):
    class Asking(Recorder):
        async def on_session(self, session):
            await session.ask(Drain())

    async def refuse(inbound):
        from helexa.protocol.errors import Draining

        raise Draining

    async with victim(roads, Asking()) as node:
        host = Recorder(refuse)
        async with Session.running(
            await node.link(), HELLO, host.on_message, host.on_stream
        ) as session:
            assert (await session.wait_closed()).code == CloseCode.NORMAL
    assert "PeerRefused" not in caplog.text
    assert PeerRefused.__name__ not in caplog.text


async def test_a_storm_of_random_datagrams_harms_nobody():
    """At the socket of the real transport, while it serves."""
    from tests.mesh.conftest import Roads

    from helexa.mesh.transports import iroh

    async with victim(Roads("iroh", iroh.open_transport)) as node:
        bound = node.node.transports["t"].bound
        noise = random.Random(11)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as storm:
            storm.connect((bound.host, bound.port))
            for count in range(20_000):
                # Half of them wear the first byte of a QUIC packet.
                head = bytes((noise.choice((0xC0, 0xC3, 0xFF, 0x40)),)) if count % 2 else b""
                storm.send(head + os.urandom(noise.randrange(1, 1200)))
                if count % 2_000 == 0:
                    await node.serves()
        await node.serves()
