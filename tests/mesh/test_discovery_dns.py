"""Seeds by a DNS name, asked of a real server over UDP and TCP."""

from __future__ import annotations

import socket
from contextlib import asynccontextmanager

import anyio
import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from helexa.mesh.discovery.dns import SEEDS_MAX, SeedsUnknown, seeds
from helexa.mesh.ticket import Ticket
from helexa.util.background import background
from helexa.util.sockets import Address

pytestmark = pytest.mark.anyio

NAME = "seeds.example.org"


def ticket(number, transports=1):
    addresses = {f"t{n}": tuple(f"10.0.{n}.{m}:4433" for m in range(9)) for n in range(transports)}
    return Ticket(node=f"{number:064x}", addresses=addresses)


def quoted(text, at=255):
    return " ".join(f'"{text[start : start + at]}"' for start in range(0, len(text), at) or [0])


def by_node(tickets):
    return sorted(tickets, key=lambda each: each.node)


class Server:
    """Answers TXT questions with what it was given; too much for UDP comes by TCP."""

    def __init__(self, *texts, rcode=dns.rcode.NOERROR, udp_bytes=512):
        self.texts, self.rcode, self.udp_bytes = texts, rcode, udp_bytes
        self.asked = []

    def answer(self, wire, *, tcp):
        question = dns.message.from_wire(wire)
        self.asked.append((str(question.question[0].name), "tcp" if tcp else "udp"))
        reply = dns.message.make_response(question)
        reply.set_rcode(self.rcode)
        if self.texts:
            name = question.question[0].name
            reply.answer.append(dns.rrset.from_text_list(name, 60, "IN", "TXT", self.texts))
        data = reply.to_wire(max_size=65_535)
        if not tcp and len(data) > self.udp_bytes:
            reply.answer.clear()
            reply.flags |= dns.flags.TC
            data = reply.to_wire()
        return data

    async def _udp(self, sock):
        async for wire, where in sock:
            await sock.sendto(self.answer(wire, tcp=False), *where)

    async def _tcp(self, stream):
        async with stream:
            length = int.from_bytes(await stream.receive(2))
            data = self.answer(await stream.receive(length), tcp=True)
            await stream.send(len(data).to_bytes(2) + data)

    @asynccontextmanager
    async def running(self):
        async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
            port = listener.extra(anyio.abc.SocketAttribute.local_port)
            async with (
                await anyio.create_udp_socket(
                    family=socket.AF_INET, local_host="127.0.0.1", local_port=port
                ) as sock,
                background() as tasks,
            ):
                tasks.start_soon(self._udp, sock)
                tasks.start_soon(listener.serve, self._tcp)
                yield Address("127.0.0.1", port)


async def ask(server, name=NAME, timeout_s=10):
    async with server.running() as nameserver:
        return await seeds(name, timeout_s=timeout_s, nameserver=nameserver)


async def test_the_tickets_of_a_name_are_read_from_joined_strings():
    here, long = ticket(1), ticket(2, transports=3)
    assert len(str(long)) > 512
    texts = [
        '"v=spf1 -all"',
        quoted(f"helexa={here}"),
        quoted(f"helexa={long}"),
        quoted(f"helexa={here}", at=100),
    ]
    server = Server(*texts, udp_bytes=4096)
    # A server may give them in any order.
    assert by_node(await ask(server)) == [here, long]
    assert server.asked == [(f"{NAME}.", "udp")]


async def test_what_does_not_fit_a_datagram_is_asked_for_by_tcp():
    many = [ticket(number) for number in range(40)]
    server = Server(*(quoted(f"helexa={each}") for each in many))
    assert by_node(await ask(server)) == many
    assert [way for _, way in server.asked] == ["udp", "tcp"]


async def test_of_a_thousand_records_a_few_are_enough():
    texts = [quoted(f"helexa={Ticket(node=f'{n:064x}', addresses={})}") for n in range(350)]
    assert len(await ask(Server(*texts))) == SEEDS_MAX


async def test_damaged_records_do_not_hide_the_good_one():
    good = str(ticket(1))
    texts = [
        quoted(f"helexa={good[:-4]}"),
        quoted("helexa=" + "a" * 5000),
        quoted(f"helexa={good}"),
    ]
    assert await ask(Server(*texts)) == [ticket(1)]


@pytest.mark.parametrize(
    ("server", "name", "reason"),
    [
        (
            Server(rcode=dns.rcode.NXDOMAIN),
            NAME,
            "TXT records of seeds.example.org: .* no such",
        ),
        (Server(), NAME, "0 records, none begins with 'helexa='"),
        (Server('"v=spf1"', '"x"'), NAME, "2 records, none begins with 'helexa='"),
        (Server('"helexa=helexaabc"'), NAME, "no usable ticket; of the last one: .*cut short"),
        (Server(rcode=dns.rcode.SERVFAIL), NAME, "seeds.example.org.*SERVFAIL"),
        (Server(), "a" * 64 + ".org", "> 63 octets"),
        (Server(), "..", "empty"),
        (Server(), f"{'a' * 60}." * 5 + "org", "> 255 octets"),
    ],
)
async def test_the_error_says_what_was_looked_up_and_what_came(server, name, reason):
    with pytest.raises(SeedsUnknown, match=reason):
        await ask(server, name)


async def test_a_server_that_says_nothing_is_given_up_in_time():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        where = Address(*silent.getsockname())
        with pytest.raises(SeedsUnknown, match=r"no answer within 0\.3 s"):
            await seeds(NAME, timeout_s=0.3, nameserver=where)


async def test_a_server_that_answers_garbage_is_given_up_in_time():
    class Garbage(Server):
        def answer(self, wire, *, tcp):
            return wire[:2] + b"\xff" * 30

    with pytest.raises(SeedsUnknown, match=NAME):
        await ask(Garbage(), timeout_s=0.5)
