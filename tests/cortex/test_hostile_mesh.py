"""Everything that a stranger or a member can do wrong, against a running cortex.

The cortex is a process of its own; what is hostile is in here, beside one honest
cortex that has to be served all the while. Each time a number on the cortex' own
`/metrics` has to show it, its log may grow by a few lines, and its memory not much.
"""

from __future__ import annotations

import os
import random
import re
import socket
import struct
import time
import urllib.request
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import anyio
import msgspec
import psutil
import pytest
from tests.cortex.places import LOOPBACK, cortex, until
from tests.e2e.processes import UNSEEN, started
from tests.mesh.hosts import Recorder

from helexa.mesh.identity import NodeKey
from helexa.mesh.membership.events import State
from helexa.mesh.sessions.handshake import CloseCode, HandshakeFailed, shake_hands
from helexa.mesh.sessions.session import PeerRefused, Session
from helexa.mesh.statements.records import sign_record
from helexa.mesh.statements.sealed import seal
from helexa.mesh.ticket import Ticket
from helexa.mesh.transport import LinkClosed, StreamReset, TransportSettings
from helexa.mesh.transports import iroh, tls
from helexa.protocol.frames import FRAME_BYTES_MAX, Frame, FrameRejected, decode, encode
from helexa.protocol.gossip import (
    HEADS_MAX,
    STATEMENTS_MAX,
    News,
    Probe,
    Records,
    Suspicion,
)
from helexa.protocol.ids import ModelId, OperatorId
from helexa.protocol.messages import Hello, Register, ReportOffers, Role
from helexa.protocol.records import OFFERS_PER_RECORD_MAX, RECORD_BYTES_MAX, Offer, Record
from helexa.protocol.work import Fingerprint, NeuronDescriptor
from helexa.util.background import background

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]

HELLO = Hello(role=Role.CORTEX, lowest=1, highest=1, agent="hostile")
OPEN = {"tls": tls.open_transport}
SETTINGS = TransportSettings(bind=LOOPBACK)
GROWTH_BYTES_MAX = 48 << 20
"""Beside what a Python process needs for its first thousands of objects of any kind."""
NUMBER = re.compile(r'^helexa_mesh_(\w+?)(?:_total)?\{\w+="(\w+)"\} (\S+)$', re.MULTILINE)
LINES_MAX = 40
"""That one kind of mischief may add to the log, whatever its size."""


class Victim:
    def __init__(self, node):
        self._node = node
        self.ticket = Ticket.parse(node.ready["ticket"])
        self.id = self.ticket.node
        self.process = psutil.Process(node.process.pid)
        self.began_bytes = self.process.memory_info().rss
        self.lines = len(self.log())

    def log(self):
        self._node._log.flush()
        return Path(self._node._log.name).read_text(errors="replace").splitlines()

    def address(self, transport="tls"):
        host, _, port = self.ticket.addresses[transport][0].rpartition(":")
        return host, int(port)

    async def numbers(self):
        """What `/metrics` says of the mesh, by name and label."""
        url = self._node.ready["orchestrator_url"] + "/metrics"
        # On this machine, in a thread, since attackers keep this loop busy.
        text = await anyio.to_thread.run_sync(
            lambda: urllib.request.urlopen(url, timeout=20).read().decode()
        )
        found = NUMBER.findall(text)
        return {(name, label): float(value) for name, label, value in found}

    async def until_more(self, name, label, than):
        with anyio.fail_after(15):
            while (await self.numbers()).get((name, label), 0.0) <= than:  # noqa: ASYNC110 - asked for
                await anyio.sleep(0.02)

    def check(self):
        assert self.process.is_running()
        grown = self.process.memory_info().rss - self.began_bytes
        assert grown < GROWTH_BYTES_MAX, f"grew by {grown >> 20} MiB"
        lines = self.log()
        new = lines[self.lines :]
        assert len(new) <= LINES_MAX, "\n".join(new[:60])
        assert not [line for line in new if "Traceback" in line]
        self.lines = len(lines)


@pytest.fixture(scope="module")
def running_cortex(tmp_path_factory):
    home = tmp_path_factory.mktemp("victim")
    line = (
        *("cortex", "--home", str(home)),
        *("--mesh-socket", "127.0.0.1:0", "--orchestrator-socket", "127.0.0.1:0"),
    )
    # Both by name, since a cortex on loopback opens one by itself.
    environment = {
        **UNSEEN,
        "HELEXA_MESH_TRANSPORTS": "iroh,tls",
        "HELEXA_MESH_PRESET": "loopback",
    }
    with started(*line, cwd=home, environment=environment) as node:
        yield Victim(node)


@pytest.fixture
async def victim(running_cortex):
    running_cortex.lines = len(running_cortex.log())
    yield running_cortex
    running_cortex.check()


@pytest.fixture
async def honest(victim, tmp_path):
    """A member beside it all."""
    async with cortex(tmp_path / "honest", OPEN, bind=LOOPBACK, preset="loopback") as here:
        await here.control.join(str(victim.ticket), lambda _step: None)
        await until(lambda: state_at(here, victim.id) is State.ALIVE)
        yield here
        await here.control.ping(victim.id)
        assert state_at(here, victim.id) is State.ALIVE


def state_at(here, node):
    member = here.core.members.get(node)
    return member.state if member is not None else None


@asynccontextmanager
async def stranger(victim, key=None, hello=HELLO):
    """A link to the victim past its handshake, with raw hands on the control stream."""
    async with tls.open_transport(key or NodeKey.generate(), SETTINGS) as transport:
        link = await transport.dial(victim.id, victim.ticket.addresses["tls"], timeout_s=10)
        greeting = await shake_hands(link, hello)
        yield link, greeting.stream, greeting.reader


@asynccontextmanager
async def member(victim, key=None, hello=HELLO):
    """A session, and a key of its own."""
    key = key or NodeKey.generate()
    async with tls.open_transport(key, SETTINGS) as transport:
        link = await transport.dial(victim.id, victim.ticket.addresses["tls"], timeout_s=10)
        host = Recorder()
        async with Session.running(link, hello, host.on_message, host.on_stream) as session:
            session.key, session.host = key, host
            yield session


def record_of(key, **said):
    now_s = int(time.time())
    usual = {"issued_s": now_s, "expires_s": now_s + 3600, "instance": "x"}
    addresses = {"tls": ("127.0.0.1:9",)}
    return Record(node=key.node_id, **{**usual, "addresses": addresses, "sequence": 1, **said})


# --- at the sockets


async def test_random_bytes_on_the_tcp_port_are_refused_and_counted(victim, honest):
    noise = random.Random(3)
    before = (await victim.numbers())["refused", "tls"]

    async def shout(head):
        with suppress(OSError, anyio.BrokenResourceError, anyio.EndOfStream):
            async with await anyio.connect_tcp(*victim.address()) as stream:
                for _ in range(8):
                    await stream.send(head + noise.randbytes(4096))
                await stream.receive()

    heads = [b"", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", b"SSH-2.0-x\r\n", b"\0"]
    for head in heads:
        async with anyio.create_task_group() as tasks:
            for _ in range(40):
                tasks.start_soon(shout, head)
            await honest.control.ping(victim.id)
    await victim.until_more("refused", "tls", before + 150)


async def test_random_bytes_on_the_udp_port_change_nothing(victim, honest):
    noise = random.Random(4)
    key = NodeKey.generate()
    async with iroh.open_transport(key, SETTINGS) as transport:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as storm:
            storm.connect(victim.address("iroh"))
            for count in range(10_000):
                # Half of them wear the first byte of a QUIC packet.
                head = bytes((noise.choice((0xC0, 0xC3, 0xFF, 0x40)),)) if count % 2 else b""
                with suppress(ConnectionError):
                    storm.send(head + os.urandom(noise.randrange(1, 1200)))
                if count % 2_500 == 0:
                    link = await transport.dial(
                        victim.id, victim.ticket.addresses["iroh"], timeout_s=10
                    )
                    await shake_hands(link, HELLO)
                    await link.close()
    await honest.control.ping(victim.id)


async def test_ten_thousand_half_open_handshakes_leave_the_door_usable(victim, honest, tmp_path):
    before = (await victim.numbers())["refused", "tls"]
    wave = 1_000
    for number in range(10):
        with ManySockets() as sockets:
            for _ in range(wave):
                sockets.connect(victim.address(), half_a_hello=bool(number % 2))
                if len(sockets) % 50 == 0:
                    await anyio.lowlevel.checkpoint()
            await honest.control.ping(victim.id)
            if number in (0, 5):
                # And a newcomer comes through the same door.
                async with stranger(victim) as (link, _stream, _reader):
                    assert link.peer == victim.id
    await victim.until_more("refused", "tls", before + 5_000)
    await until(lambda: victim.process.num_fds() < 200)


class ManySockets:
    """Many TCP connections that say nothing, or begin a TLS hello and stop."""

    def __init__(self):
        self._sockets = []

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        for one in self._sockets:
            # At once, so that no port of this machine waits for a minute.
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            one.close()

    def __len__(self):
        return len(self._sockets)

    def connect(self, address, *, half_a_hello):
        one = socket.create_connection(address, timeout=10)
        self._sockets.append(one)
        if half_a_hello:
            with suppress(OSError):
                one.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(40))


# --- in frames


async def test_frames_of_absurd_size_close_the_link_of_who_sent_them(victim, honest):
    before = (await victim.numbers())["rejected", "frame"]
    lengths = (0, 1, FRAME_BYTES_MAX + 1, 0x7FFFFFFF, 0xFFFFFFFF)
    for length in lengths:
        async with stranger(victim) as (link, stream, _reader):
            await stream.write(length.to_bytes(4, "big") + b"x" * 100)
            assert (await link.wait_closed()).code == CloseCode.FRAMES_REJECTED
    await victim.until_more("rejected", "frame", before + len(lengths) - 1)
    await honest.control.ping(victim.id)


async def test_frames_as_large_as_allowed_are_read_and_cost_no_more_than_one(victim, honest):
    """Each full of what may stand in it, and none of it true."""
    before = await victim.numbers()
    crowd = b"".join(os.urandom(8) + struct.pack(">QH", 1, 0) for _ in range(HEADS_MAX))
    statements = tuple(os.urandom(15_000) for _ in range(STATEMENTS_MAX))
    async with member(victim) as session:
        for number in range(40):
            await session.tell(News(heads=crowd, statements=statements))
            if number % 10 == 0:
                await honest.control.ping(victim.id)
        await victim.until_more("rejected", "malformed", before.get(("rejected", "malformed"), 0))
        await until(lambda: victim.process.cpu_percent(0.02) < 60)


async def test_a_peer_that_asks_and_never_reads_is_dropped(victim, honest):
    async with stranger(victim) as (link, stream, _reader):
        # Each is answered, until the answers have nowhere to go.
        questions = b"".join(encode(Frame(n + 9, 0, Probe(nonce=n))) for n in range(2_000))
        with suppress(LinkClosed, StreamReset):
            while True:
                await stream.write(questions)
                await honest.control.ping(victim.id)
        closed = await link.wait_closed()
        # Told so, or cut off where it did not even read that.
        assert closed.code in (CloseCode.STALLED, None)


# --- by members


def many(count):
    return tuple(Offer(model=ModelId(f"m{number}"), slots=1) for number in range(count))


async def test_a_record_of_a_million_models_is_taken_by_nobody(victim, honest):
    before = await victim.numbers()
    key = NodeKey.generate()
    async with member(victim, key) as session:
        huge = seal(key.sign, record_of(key, offers=many(4_000)))
        assert len(huge) > RECORD_BYTES_MAX
        for _ in range(10):
            await session.tell(Records(records=(huge,)))
        await victim.until_more("rejected", "oversize", before.get(("rejected", "oversize"), 0) + 9)
        # No frame holds more: a million are not even sent.
        huge = seal(key.sign, record_of(key, offers=many(60_000)))
        with pytest.raises(ValueError, match="at most"):
            await session.tell(Records(records=(huge,)))
    assert state_at(honest, key.node_id) is None


async def test_offers_of_more_models_than_a_cortex_can_mean_are_refused(victim, honest):
    key = NodeKey.generate()
    async with member(victim, key) as session:
        with pytest.raises(PeerRefused, match=f"at most {OFFERS_PER_RECORD_MAX}"):
            await session.ask(ReportOffers(offers=many(20_000)))
        with suppress(PeerRefused):
            for _ in range(30):
                await session.ask(ReportOffers(offers=many(20_000)))
    await honest.control.ping(victim.id)


async def test_a_neuron_of_a_million_models_is_refused(victim, honest):
    key = NodeKey.generate()
    descriptor = NeuronDescriptor(
        node=key.node_id,
        operator=OperatorId(key.node_id),
        version="0",
        name="x",
        hardware=Fingerprint(machine="x", system="y"),
    )
    # As small as they can be written, so that one frame holds many of them.
    rows = [{"model": f"m{number}", "state": "unloaded"} for number in range(25_000)]
    body = {**msgspec.to_builtins(Register(descriptor=descriptor)), "capabilities": rows}
    hello = msgspec.structs.replace(HELLO, role=Role.NEURON)
    async with stranger(victim, key, hello) as (_link, stream, reader):
        for number in range(5, 8):
            payload = bytes((1,)) + msgspec.msgpack.encode([number, 0, body])
            await stream.write(len(payload).to_bytes(4, "big") + payload)
            answer = decode(await reader.next()).body
            assert "at most" in answer.message
    await honest.control.ping(victim.id)


async def test_a_member_that_floods_is_cut_short_and_the_others_are_served(victim, honest):
    before = await victim.numbers()
    key = NodeKey.generate()
    with anyio.CancelScope() as flooding:
        async with member(victim, key) as session, anyio.create_task_group() as tasks:

            async def flood():
                for number in range(1_000_000):
                    await session.tell(Probe(nonce=number, prove=number))
                    signed = sign_record(key.sign, record_of(key, sequence=number + 1))
                    await session.tell(Records(records=(signed.blob,)))

            tasks.start_soon(flood)
            for _ in range(20):
                await honest.control.ping(victim.id)
                await anyio.sleep(0.05)
            flooding.cancel()
    after = await victim.numbers()
    dropped = ("pace", "flood", "unasked", "crowd")
    more = [after.get(("rejected", why), 0) - before.get(("rejected", why), 0) for why in dropped]
    assert sum(more) > 0


async def test_stale_records_and_broken_words_are_counted_and_change_nothing(victim, honest):
    before = await victim.numbers()
    key = NodeKey.generate()
    newest = sign_record(key.sign, record_of(key, sequence=50, name="newest")).blob
    stale = [sign_record(key.sign, record_of(key, sequence=n, name="old")).blob for n in (1, 2, 49)]
    forged = bytearray(sign_record(key.sign, record_of(key, sequence=60)).blob)
    forged[3] ^= 1
    async with member(victim, key) as session:
        await session.tell(Records(records=(newest,)))
        await until(lambda: state_at(honest, key.node_id) is not None)
        for blob in (*stale, bytes(forged)):
            await session.tell(Records(records=(blob,)))
        await victim.until_more("rejected", "stale", before.get(("rejected", "stale"), 0) + 2)
        await victim.until_more("rejected", "signature", before.get(("rejected", "signature"), 0))
    assert honest.core.members[key.node_id].signed.record.name == "newest"


async def test_one_who_accuses_everybody_convinces_nobody(victim, honest):
    key = NodeKey.generate()
    async with member(victim, key) as session:
        await session.tell(Records(records=(sign_record(key.sign, record_of(key)).blob,)))
        await until(lambda: state_at(honest, key.node_id) is not None)
        accuser = bytes.fromhex(key.node_id)
        # Until its voice is worn out: each lie is about what holds now, and is objected to.
        while (await victim.numbers()).get(("rejected", "voice"), 0.0) == 0:
            own = honest.core.own
            pulse = honest.core._directory.version(honest.core._desk.my_short)[1]
            lie = Suspicion(accuser, bytes.fromhex(honest.id), own.sequence, pulse)
            await session.tell(News(statements=(seal(key.sign, lie),)))
            await honest.control.ping(victim.id)
    found = await victim.numbers()
    assert found["members", "alive"] >= 1
    assert not honest.happened("member", node_id=victim.id, state="dead")


# --- those that mean no harm


async def test_two_machines_with_one_key_are_told_so(victim, honest, tmp_path):
    async with cortex(tmp_path / "one", OPEN, bind=LOOPBACK, preset="loopback") as one:
        await one.control.join(str(victim.ticket), lambda _step: None)
        twin_home = tmp_path / "two"
        twin_home.mkdir()
        (twin_home / "node.key").write_bytes((one.home / "node.key").read_bytes())
        (twin_home / "node.key").chmod(0o600)
        # Begun later than any record that an earlier run of the first could have left behind.
        async with cortex(
            twin_home, OPEN, bind=LOOPBACK, preset="loopback", unix=lambda: time.time() + 10
        ) as two:
            assert two.id == one.id
            await two.control.join(str(victim.ticket), lambda _step: None)
            await until(lambda: one.happened("doubled"))
            assert one.place.acquaintances.doubles
            await honest.control.ping(victim.id)
            assert honest.holds_alive(one)


@pytest.mark.parametrize(("off_s", "said"), [(86_400, "ahead of"), (-86_400, "behind")])
async def test_a_clock_a_day_off_is_named_in_the_report_and_in_the_log(
    victim, honest, tmp_path, caplog, off_s, said
):
    clock = {"off_s": off_s}
    async with cortex(
        tmp_path / "off",
        OPEN,
        bind=LOOPBACK,
        preset="loopback",
        unix=lambda: time.time() + clock["off_s"],
    ) as off:
        report = await off.control.join(str(victim.ticket), lambda _step: None)
        step = report["steps"][-1]
        assert not report["joined"]
        assert (step["name"], step["outcome"]) == ("be admitted", "failed")
        assert said in step["advice"]
        assert re.search(r"86[34]\d\d s " + said, caplog.text)
        assert state_at(honest, off.id) is None
        # Set right, it is let in, and nothing is left of it.
        clock["off_s"] = 0
        report = await off.control.join(str(victim.ticket), lambda _step: None)
        assert report["joined"], report
        assert off.control.status().clock_off_s == 0


# --- a bootstrap that is no good


async def babble(stream):
    await stream.send(os.urandom(4096))
    await stream.receive()


async def hang_up(stream):
    await stream.aclose()


async def stay_silent(_there):
    await anyio.sleep_forever()


async def shut(link):
    await link.close(CloseCode.INTERNAL, "not today")


async def greet_and_stay_silent(link):
    await shake_hands(link, HELLO)
    await anyio.sleep_forever()


async def greet_and_babble(link):
    greeting = await shake_hands(link, HELLO)
    await greeting.stream.write(b"\xff" * 5_000)
    await link.wait_closed()


async def greet_and_deny(link):
    await shake_hands(link, HELLO)
    await link.close(CloseCode.DENIED, "this cortex does not let you in")


async def lie_about_the_mesh(link):
    """Says that it is a member, in words that nobody signed."""
    greeting = await shake_hands(link, HELLO)
    for number in range(200):
        lies = News(heads=os.urandom(18 * 50), statements=(os.urandom(100),))
        await greeting.stream.write(encode(Frame(number + 2, 0, lies)))
    while (payload := await greeting.reader.next()) is not None:
        decode(payload)


@asynccontextmanager
async def raw_server(serve):
    """A TCP server that is none of ours; its ticket."""
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)

    async def guarded(stream):
        with suppress(OSError, anyio.BrokenResourceError, anyio.EndOfStream):
            async with stream:
                await serve(stream)

    async with background() as tasks:
        tasks.start_soon(listener.serve, guarded)
        yield Ticket(node=NodeKey.generate().node_id, addresses={"tls": (f"127.0.0.1:{port}",)})
    await listener.aclose()


@asynccontextmanager
async def node(serve):
    """One that proves its key, and then does what `serve` does with each link."""
    key = NodeKey.generate()
    async with tls.open_transport(key, SETTINGS) as transport, background() as tasks:

        async def accept():
            with suppress(LinkClosed):
                while True:
                    tasks.start_soon(guarded, await transport.accept())

        async def guarded(link):
            with suppress(LinkClosed, HandshakeFailed, StreamReset, FrameRejected):
                await serve(link)

        tasks.start_soon(accept)
        yield Ticket(node=key.node_id, addresses={"tls": tuple(transport.addresses)})


BOOTSTRAPS = [
    (raw_server, babble, "reach it by tls", "failed"),
    (raw_server, hang_up, "reach it by tls", "failed"),
    (raw_server, stay_silent, "reach it by tls", "failed"),
    (node, stay_silent, "agree on a version", "failed"),
    (node, shut, "agree on a version", "failed"),
    (node, greet_and_stay_silent, "be admitted", "failed"),
    (node, greet_and_babble, "be admitted", "failed"),
    (node, greet_and_deny, "be admitted", "denied"),
    (node, lie_about_the_mesh, "learn who is there", "failed"),
]


async def test_a_bootstrap_that_is_no_good_ends_the_join_at_the_step_that_failed(tmp_path):
    """All at once, by one cortex: none of them holds up another."""
    ends = {}
    async with AsyncExitStack() as stack:
        here = await stack.enter_async_context(
            cortex(tmp_path / "joiner", OPEN, bind=LOOPBACK, preset="loopback")
        )

        async def try_it(ticket):
            ends[ticket.node] = await here.control.join(str(ticket), lambda _step: None)

        tries = [
            (await stack.enter_async_context(make(serve)), serve, step, outcome)
            for make, serve, step, outcome in BOOTSTRAPS
        ]
        async with anyio.create_task_group() as tasks:
            for ticket, *_ in tries:
                tasks.start_soon(try_it, ticket)
    for ticket, serve, step, outcome in tries:
        report = ends[ticket.node]
        last = report["steps"][-1]
        assert not report["joined"]
        assert last["name"].startswith(step), (serve.__name__, report)
        assert last["outcome"] == outcome, (serve.__name__, report)
        assert last["detail"] or last["advice"]
        assert last["advice"], "what to try"
    assert not here.core.members
