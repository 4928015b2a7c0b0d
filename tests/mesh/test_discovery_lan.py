"""Nodes that find one another by real multicast, and what strangers can say there."""

from __future__ import annotations

import json
import secrets
import socket
import subprocess
import sys
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import anyio
import anyio.lowlevel
import psutil
import pytest
from tests.namespaces import network
from zeroconf import DNSOutgoing
from zeroconf._dns import DNSAddress, DNSPointer, DNSService, DNSText

from helexa.mesh.discovery import lan as lan_module
from helexa.mesh.discovery._station import CACHED_MAX, PARTIAL_LOOKS, Station
from helexa.mesh.discovery.advert import Advert, service_of, write_txt
from helexa.mesh.discovery.interfaces import interfaces
from helexa.mesh.discovery.lan import FLOOD, FOUND_MAX, Lan

pytestmark = pytest.mark.anyio

CHILD = Path(__file__).with_name("lan_child.py")
A, B, C = ("a" * 64, "b" * 64, "c" * 64)


@pytest.fixture
def realm():
    """Tests that run beside one another share the network, and nothing else."""
    return f"t{secrets.token_hex(6)}"


class Ear:
    """Notes what is found; `until` waits for it."""

    def __init__(self):
        self.found = []
        self._changed = anyio.Event()

    def __call__(self, found):
        self.found.append(found)
        self._changed.set()

    @property
    def nodes(self):
        return [found.ticket.node for found in self.found]

    async def until(self, holds):
        with anyio.fail_after(20):
            while not holds():
                await self._changed.wait()
                self._changed = anyio.Event()


def advert(node, **options):
    return Advert(**{"node": node, "ports": {"tls": 4433, "iroh": 4434}, **options})


async def until(holds):
    """For what has no event: a state that somebody else's packet brings about."""
    with anyio.fail_after(20):
        while not holds():  # noqa: ASYNC110  # The state is a plain attribute.
            await anyio.sleep(0.02)


# --- finding


async def test_two_nodes_find_one_another_and_where_to_dial(realm):
    first, second = Ear(), Ear()
    mine = {str(address.ip) for one in interfaces() for address in one.addresses}
    async with (
        Lan.running(advert(A, name="ann", operator=C), first, realm=realm),
        Lan.running(advert(B), second, realm=realm),
    ):
        await first.until(lambda: B in first.nodes)
        await second.until(lambda: A in second.nodes)
    found = second.found[0]
    assert (found.role, found.name, found.operator) == ("cortex", "ann", C)
    assert list(found.ticket.addresses) == ["tls", "iroh"]
    hosts = {text.rpartition(":")[0].strip("[]") for text in found.ticket.addresses["tls"]}
    assert hosts == mine
    assert all(text.endswith(":4434") for text in found.ticket.addresses["iroh"])


async def test_a_neuron_finds_cortexes_and_is_not_seen(realm):
    cortex, neuron = Ear(), Ear()
    async with (
        Lan.running(None, neuron, realm=realm) as searching,
        Lan.running(advert(A), cortex, realm=realm) as cortexes,
    ):
        await neuron.until(lambda: A in neuron.nodes)
        assert [found.ticket.node for found in searching.found] == [A]
        assert cortexes.found == ()


async def test_who_starts_later_finds_who_was_there(realm):
    early, late = Ear(), Ear()
    async with Lan.running(advert(A), early, realm=realm):
        async with Lan.running(advert(B), Ear(), realm=realm):
            await early.until(lambda: B in early.nodes)
        async with Lan.running(None, late, realm=realm):
            await late.until(lambda: A in late.nodes)


async def test_a_node_that_says_goodbye_is_forgotten_and_found_again_when_it_returns(realm):
    ear = Ear()
    async with Lan.running(None, ear, realm=realm) as lan:
        async with Lan.running(advert(A), Ear(), realm=realm):
            await ear.until(lambda: ear.nodes == [A])
        await until(lambda: lan.found == ())
        async with Lan.running(advert(A), Ear(), realm=realm):
            await ear.until(lambda: ear.nodes == [A, A])


async def test_a_node_that_comes_back_elsewhere_is_reported_with_its_new_port(realm):
    ear = Ear()
    async with Lan.running(None, ear, realm=realm) as lan:
        async with Lan.running(advert(A, ports={"tls": 1}), Ear(), realm=realm):
            await ear.until(lambda: ear.nodes == [A])
        async with Lan.running(advert(A, ports={"tls": 2}), Ear(), realm=realm):
            await ear.until(lambda: ear.found[-1].ticket.addresses["tls"][0].endswith(":2"))
            assert len(lan.found) == 1


async def test_realms_do_not_see_one_another(realm):
    ours, theirs = Ear(), Ear()
    async with (
        Lan.running(advert(A), ours, realm=realm),
        Lan.running(advert(B), theirs, realm=f"{realm}-2"),
        Lan.running(advert(C), Ear(), realm=realm),
    ):
        await ours.until(lambda: C in ours.nodes)
        assert ours.nodes == [C]
        assert theirs.nodes == []


@pytest.mark.parametrize("realm", ["", "Helexa", "a_b", "-a", "a-", "12", "sixteen-letters-", "é"])
async def test_what_is_no_realm_is_refused(realm):
    with pytest.raises(ValueError, match="is not a realm: 1 to 15"):
        async with Lan.running(None, Ear(), realm=realm):
            pass


async def test_a_consumer_that_fails_over_one_advert_hears_the_next(realm):
    heard = []

    def consume(found):
        heard.append(found.ticket.node)
        raise RuntimeError("cannot use that")

    async with Lan.running(None, consume, realm=realm):
        for node in (A, B):
            async with Lan.running(advert(node), Ear(), realm=realm):
                await until(lambda node=node: node in heard)


# --- networks


async def test_a_network_that_comes_up_later_is_searched_then(realm):
    ear, plugged = Ear(), []
    async with (
        Lan.running(advert(A), Ear(), realm=realm),
        Lan.running(None, ear, realm=realm, among=lambda: tuple(plugged), rescan_s=0.02) as lan,
    ):
        await until(lambda: "no network interface" in lan.problem)
        plugged += interfaces()
        await ear.until(lambda: ear.nodes == [A])
        assert lan.problem == ""
        plugged.clear()
        await until(lambda: "no network interface" in lan.problem)


async def test_a_network_that_refuses_is_a_problem_that_is_told_and_tried_again(realm, monkeypatch):
    ear, refusals = Ear(), []

    class Refusing(socket.socket):
        def bind(self, address):
            if address[1] == 5353 and len(refusals) < 2:
                refusals.append(address)
                self.close()  # zeroconf leaves that to the collector.
                raise PermissionError(13, "Permission denied")
            return super().bind(address)

    async with Lan.running(advert(A), Ear(), realm=realm) as other:
        await until(lambda: other.problem == "")
        monkeypatch.setattr(socket, "socket", Refusing)
        async with Lan.running(None, ear, realm=realm, deaf_s=0.05) as lan:
            await until(lambda: "multicast DNS cannot be used: Permission denied" in lan.problem)
            await ear.until(lambda: ear.nodes == [A])
        assert len(refusals) == 2


@contextmanager
def child(start, realm, node="", *hosts):
    process = start(
        [sys.executable, str(CHILD), realm, node, *hosts],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield Child(process)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


class Child:
    def __init__(self, process):
        self._process = process

    async def next(self):
        with anyio.fail_after(30):
            line = await anyio.to_thread.run_sync(
                self._process.stdout.readline, abandon_on_cancel=True
            )
        assert line, "the process ended"
        return json.loads(line)


async def test_two_processes_on_one_host_find_one_another(realm):
    with (
        child(subprocess.Popen, realm, A) as first,
        child(subprocess.Popen, realm, B) as second,
    ):
        for one, other in ((first, B), (second, A)):
            assert await one.next() == {"running": True}
            assert (await one.next())["found"] == other


@pytest.mark.parametrize(
    ("first", "second"), [("10.91.0.1/24", "10.91.0.2/24"), ("fd91::1/64", "fd91::2/64")]
)
async def test_two_hosts_on_one_cable_find_one_another(realm, first, second):
    """With no route anywhere, and in IPv6 alone as well."""
    with network() as net:
        a, b = net.host("a"), net.host("b")
        net.cable((a, first), (b, second))
        with child(a.start, realm, A) as here, child(b.start, realm, B) as there:
            for one, other, address in ((here, B, second), (there, A, first)):
                assert await one.next() == {"running": True}
                found = await one.next()
                assert found["found"] == other
                host = address.partition("/")[0]
                where = f"[{host}]:4433" if ":" in host else f"{host}:4433"
                assert found["addresses"] == {"tls": [where]}


async def test_a_host_of_two_networks_is_found_at_the_address_of_the_finders_own_first(realm):
    with network() as net:
        a, b, far = net.host("a"), net.host("b"), net.host("far")
        net.cable((b, "10.8.0.1/24"), (far, "10.8.0.2/24"))
        net.switch("lan", (a, "10.92.0.1/24"), (b, "10.92.0.2/24"))
        with child(a.start, realm) as finder, child(b.start, realm, B):
            assert await finder.next() == {"running": True}
            found = await finder.next()
            assert found["addresses"]["tls"] == ["10.92.0.2:4433", "10.8.0.1:4433"]


async def test_hosts_whose_cable_is_replaced_find_one_another_at_their_new_addresses(realm):
    with network() as net:
        a, b = net.host("a"), net.host("b")
        end, _ = net.cable((a, "10.93.0.1/24"), (b, "10.93.0.2/24"))
        with child(a.start, realm, A) as here, child(b.start, realm, B) as there:
            for one in (here, there):
                assert await one.next() == {"running": True}
                await one.next()
            a.run("ip", "link", "del", end)
            net.cable((a, "10.94.0.1/24"), (b, "10.94.0.2/24"))
            for one, address in ((here, "10.94.0.2:4433"), (there, "10.94.0.1:4433")):
                while (found := await one.next())["addresses"]["tls"] != [address]:
                    pass
                assert found["name"] == "child"


async def test_a_cable_that_is_pulled_and_plugged_again_is_used_again(realm):
    with network() as net:
        a, b = net.host("a"), net.host("b")
        _, end = net.cable((a, "10.95.0.1/24"), (b, "10.95.0.2/24"))
        with child(a.start, realm, A) as here:
            assert await here.next() == {"running": True}
            b.run("ip", "link", "set", end, "down")
            with child(b.start, realm, B) as there:
                assert await there.next() == {"running": True}
                b.run("ip", "link", "set", end, "up")
                assert (await there.next())["found"] == A
                assert (await here.next())["found"] == B


async def test_without_any_other_interface_loopback_is_searched(realm):
    with network() as net:
        alone = net.host("alone")
        with child(alone.start, realm, A) as first, child(alone.start, realm, B) as second:
            for one, other in ((first, B), (second, A)):
                assert await one.next() == {"running": True}
                found = await one.next()
                assert found["found"] == other
                assert "127.0.0.1:4433" in found["addresses"]["tls"]


# --- strangers


class Stranger:
    """Sends whatever it likes to everybody on the network."""

    def __init__(self, realm):
        self.realm, self.service = realm, service_of(realm)
        self.address = next(str(address.ip) for one in interfaces() for address in one.addresses)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(
            socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(self.address)
        )

    def send(self, packet):
        self._socket.sendto(packet, ("224.0.0.251", 5353))

    def advertise(self, instance, txt, *, host=None, parts=("ptr", "srv", "txt", "a")):
        name, server = f"{instance}.{self.service}", f"{self.realm}-{instance[:20]}.local."
        records = {
            "ptr": DNSPointer(self.service, 12, 1, 4500, name),
            "srv": DNSService(name, 33, 0x8001, 120, 0, 0, 4433, server),
            "txt": DNSText(name, 16, 0x8001, 4500, txt),
            "a": DNSAddress(server, 1, 0x8001, 120, socket.inet_aton(host or self.address)),
        }
        for names in [parts] if isinstance(parts[0], str) else parts:
            out = DNSOutgoing(0x8400)
            for each in names:
                out.add_answer_at_time(records[each], 0)
            for packet in out.packets():
                self.send(packet)

    def close(self):
        self._socket.close()


@pytest.fixture
def stranger(realm, request):
    if "secluded" in request.fixturenames:
        request.getfixturevalue("secluded")
    stranger = Stranger(realm)
    yield stranger
    stranger.close()


GOOD = write_txt(advert(A))


@pytest.mark.parametrize(
    "txt",
    [
        b"",
        b"\xff",
        b"\x05a=b",
        GOOD.replace(b"txtvers=1", b"txtvers=2"),
        GOOD.replace(b"role=cortex", b"role=cortez"),
        GOOD.replace(b"a" * 64, b"b" * 64),
        GOOD.replace(b"a" * 64, b"A" * 64),
        GOOD.replace(b"=4433", b"=0433"),
        GOOD.replace(b"=4433", b"=9x33"),
        GOOD.replace(b"port-tls", b"pork-tls").replace(b"port-iroh", b"pork-iroh"),
        GOOD + b"\x06op=abc",
        GOOD + 5 * (b"\xff" + bytes(255)),
    ],
)
async def test_an_advert_that_cannot_be_used_is_counted_and_changes_nothing(realm, stranger, txt):
    ear = Ear()
    async with Lan.running(None, ear, realm=realm) as lan:
        await until(lambda: lan.problem == "")
        stranger.advertise("a" * 32, txt)
        await until(lambda: lan.ignored)
        stranger.advertise("b" * 32, write_txt(advert(B)))
        await ear.until(lambda: B in ear.nodes)
        assert ear.nodes == [B]


@pytest.mark.parametrize("host", ["8.8.8.8", "224.0.0.1", "0.0.0.0", "127.0.0.1"])
async def test_an_advert_cannot_send_a_node_to_dial_elsewhere(realm, stranger, host):
    ear = Ear()
    async with Lan.running(None, ear, realm=realm) as lan:
        await until(lambda: lan.problem == "")
        stranger.advertise("a" * 32, GOOD, host=host)
        await until(lambda: lan.ignored)
        assert ear.found == []


async def test_an_advert_that_comes_in_pieces_is_put_together(realm, stranger):
    ear = Ear()
    async with Lan.running(None, ear, realm=realm) as lan:
        await until(lambda: lan.problem == "")
        stranger.advertise("a" * 32, GOOD, parts=[["ptr"], ["txt"], ["srv"], ["a"]])
        await ear.until(lambda: ear.nodes == [A])


async def test_noise_on_the_group_does_no_harm(realm, stranger):
    ear = Ear()
    async with Lan.running(None, ear, realm=realm) as lan:
        await until(lambda: lan.problem == "")
        for length in (0, 1, 11, 12, 13, 100, 1400, 8000):
            stranger.send(secrets.token_bytes(length))
        for lie in (b"\xc0\x0c", b"\x3f" + b"x" * 63, b"\xff" * 20):
            stranger.send(b"\0\0\x84\0\0\0\xff\xff\0\0\0\0" + lie)
        stranger.advertise("a" * 32, GOOD)
        await ear.until(lambda: ear.nodes == [A])


@pytest.fixture
def secluded():
    """A host of its own: whoever floods a network disturbs the tests beside."""
    with network() as net, net.host("secluded").entered():
        yield


async def test_a_flood_of_adverts_makes_it_deaf_for_a_while_and_then_it_hears_again(
    secluded, realm, stranger
):
    ear = Ear()
    process = psutil.Process()
    async with Lan.running(None, ear, realm=realm, deaf_s=1.0) as lan:
        await until(lambda: lan.problem == "")
        padding = b"".join(b"\xffx=" + bytes(253) for _ in range(3))
        before = process.memory_info().rss
        for number in range(4 * FLOOD):
            node = f"{number:064x}"[::-1]
            stranger.advertise(node[:32], write_txt(advert(node)) + padding)
            if number % 16 == 0:
                await anyio.lowlevel.checkpoint()
            if lan.floods and number > FLOOD:
                break
        await until(lambda: lan.floods)
        assert len(lan.found) <= FOUND_MAX
        assert len(ear.found) <= FLOOD * lan.floods
        # Megabytes of adverts came and were not kept.
        assert process.memory_info().rss - before < 16 << 20
        await until(lambda: lan.problem == "")
        stranger.advertise("a" * 32, GOOD)
        await ear.until(lambda: A in ear.nodes)


async def test_the_chatter_of_other_services_is_not_collected(secluded, realm, stranger):
    """Printers and televisions may say what they like for hours."""
    heard, noise, most = [], [], 0
    async with Station.opened(
        service_of(realm), interfaces(), heard.append, noise.append
    ) as station:
        cache = station._zeroconf.cache
        for number in range(4 * CACHED_MAX):
            out = DNSOutgoing(0x8400)
            name = f"{number}.{realm}.local."
            out.add_answer_at_time(DNSText(name, 16, 1, 4500, bytes(1000)), 0)
            stranger.send(out.packets()[0])
            await anyio.lowlevel.checkpoint()
            most = max(most, len(cache.names()))
        with anyio.fail_after(20):
            while not heard:
                # Again, because the chatter may have filled the socket's buffer.
                stranger.advertise("a" * 32, GOOD)
                await anyio.sleep(0.05)
    assert 100 < most <= CACHED_MAX + 64
    assert sum(noise) > 2 * CACHED_MAX
    assert {one.instance for one in heard} == {"a" * 32}


async def test_instances_that_are_named_and_never_described_are_given_up(secluded, realm, stranger):
    """Each packet is looked through for them: thousands must not make that dear."""
    heard, records = [], []
    async with Station.opened(
        service_of(realm), interfaces(), heard.append, records.append
    ) as station:
        (ear,) = station._zeroconf.listeners
        for number in range(PARTIAL_LOOKS // 2):
            stranger.advertise(f"{number:032x}", b"", parts=["ptr"])
        await until(lambda: sum(records) == PARTIAL_LOOKS // 2)
        assert len(ear._partial) == PARTIAL_LOOKS // 2
        for _ in range(PARTIAL_LOOKS):
            stranger.advertise(secrets.token_hex(16), b"", parts=["a"])
        await until(lambda: not ear._partial)
    assert heard == []


async def test_an_advert_that_is_repeated_is_reported_once(realm, stranger):
    ear = Ear()
    async with Lan.running(None, ear, realm=realm) as lan:
        await until(lambda: lan.problem == "")
        for _ in range(5):
            stranger.advertise("a" * 32, GOOD)
        stranger.advertise("b" * 32, write_txt(advert(B)))
        await ear.until(lambda: B in ear.nodes)
        assert Counter(ear.nodes) == {A: 1, B: 1}


def test_the_library_is_not_loaded_by_a_node_that_stays_off_the_lan():
    program = f"import sys, {lan_module.__name__}; sys.exit('zeroconf' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
