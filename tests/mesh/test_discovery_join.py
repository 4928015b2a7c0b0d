"""A join against real transports: every way in which the other side can be wrong is a step."""

from __future__ import annotations

import json
import socket
from contextlib import asynccontextmanager

import anyio
import pytest

from helexa.mesh.discovery.join import Outcome, Reply, join
from helexa.mesh.identity import NodeKey
from helexa.mesh.sessions.asks import AnswerTimeout, PeerRefused
from helexa.mesh.sessions.handshake import CloseCode, shake_hands
from helexa.mesh.ticket import Ticket
from helexa.mesh.transport import LinkClosed
from helexa.mesh.transports import iroh, tls
from helexa.protocol.messages import Hello, Refused, Role
from helexa.testing.transport_suite import LOOPBACK
from helexa.util.background import background

pytestmark = pytest.mark.anyio

OPEN = {"tls": tls.open_transport, "iroh": iroh.open_transport}
ME = NodeKey.from_secret(bytes(range(32)))
DEAD = "192.0.2.77:9050"
"""Of a range that is kept for documentation: nobody is there."""


def hello(lowest=1, highest=1):
    return Hello(role=Role.CORTEX, lowest=lowest, highest=highest, agent="test")


class Joiner:
    """This node: a transport of each kind, and what the other one makes of it."""

    def __init__(self, transports, reply, members, speaks):
        self.transports, self.reply, self.members, self.speaks = transports, reply, members, speaks
        self.told = []

    async def dial(self, transport, node, address, *, timeout_s):
        return await self.transports[transport].dial(node, [address], timeout_s=timeout_s)

    async def connect(self, ticket, *, timeout_s):
        name, addresses = next(
            (each, some) for each, some in ticket.addresses.items() if each in self.transports
        )
        link = await self.transports[name].dial(ticket.node, addresses, timeout_s=timeout_s)
        greeting = await shake_hands(link, self.speaks, timeout_s=timeout_s / 2)
        return greeting.version

    async def admitted(self, node):
        return await _given(self.reply)

    async def synced(self, node):
        return await _given(self.members)

    async def join(self, text, **limits):
        report = await join(
            text,
            self.dial,
            self.connect,
            self.admitted,
            self.synced,
            own=ME.node_id,
            transports=tuple(self.transports),
            on_step=self.told.append,
            **{"reach_s": 3.0, "connect_s": 2.0, "admit_s": 0.2, "sync_s": 0.2, **limits},
        )
        assert self.told == list(report.steps)
        return report


async def _given(what):
    if isinstance(what, Exception):
        raise what
    if what is None:
        await anyio.sleep_forever()
    return what


LET_IN = Reply(Outcome.OK)


@asynccontextmanager
async def joiner(*names, reply=LET_IN, members=3, speaks=None):
    async with OPEN[names[0]](ME, LOOPBACK) as first:
        opened = {names[0]: first}
        if len(names) == 1:
            yield Joiner(opened, reply, members, speaks or hello())
            return
        async with OPEN[names[1]](ME, LOOPBACK) as second:
            yield Joiner({**opened, names[1]: second}, reply, members, speaks or hello())


@asynccontextmanager
async def cortex(name="tls", speaks=None, treat=None):
    """The other side: shakes hands with everybody, or treats a link as it is told to."""

    async def live(link):
        try:
            await (treat(link) if treat else shake_hands(link, speaks or hello()))
        except (LinkClosed, Exception):  # noqa: BLE001  # The joiner's report is what counts.
            return

    async def accept(transport, tasks):
        while True:
            tasks.start_soon(live, await transport.accept())

    key = NodeKey.generate()
    async with OPEN[name](key, LOOPBACK) as transport, background() as tasks:
        tasks.start_soon(accept, transport, tasks)
        yield Ticket(node=key.node_id, addresses={name: tuple(transport.addresses)})


@asynccontextmanager
async def listener(treat):
    """Whatever else may listen on a TCP port."""
    async with (
        await anyio.create_tcp_listener(local_host="127.0.0.1") as listening,
        background() as tasks,
    ):
        tasks.start_soon(listening.serve, treat)
        port = listening.extra(anyio.abc.SocketAttribute.local_port)
        yield Ticket(node="ab" * 32, addresses={"tls": (f"127.0.0.1:{port}",)})


def ends(report):
    """The step that a join ended at, and that all before it went well or were ways not taken."""
    assert not report.joined
    return next(step for step in report.steps if step.outcome not in (Outcome.OK, Outcome.SKIPPED))


# --- what goes well


@pytest.mark.parametrize("name", ["tls", "iroh"])
async def test_a_join_that_succeeds_names_every_step(name):
    async with cortex(name) as ticket, joiner(name) as me:
        report = await me.join(str(ticket))
    assert report.joined
    where = ticket.addresses[name][0]
    assert [step.name for step in report.steps] == [
        "read the ticket",
        f"reach it by {name} at {where}",
        "check its key",
        "agree on a version",
        "be admitted",
        "learn who is there",
    ]
    assert {step.outcome for step in report.steps} == {Outcome.OK}
    assert report.steps[3].detail == "version 1"
    assert report.steps[-1].detail == "3 members known"
    assert str(report).endswith("joined")
    assert json.loads(json.dumps(report.as_json()))["steps"][0]["outcome"] == "ok"


async def test_one_good_address_is_enough_and_the_dead_ones_are_not_waited_for():
    async with cortex("tls") as ticket, joiner("tls", "iroh") as me:

        async def dial(transport, node, address, *, timeout_s):
            if address == DEAD:
                await anyio.sleep_forever()
            return await me.transports[transport].dial(node, [address], timeout_s=timeout_s)

        me.dial = dial
        addresses = {"tls": (*ticket.addresses["tls"], DEAD), "iroh": (DEAD,)}
        report = await me.join(str(Ticket(node=ticket.node, addresses=addresses)), reach_s=60.0)
    assert report.joined
    outcomes = [step.outcome for step in report.steps if step.name.startswith("reach")]
    assert outcomes == [Outcome.OK, Outcome.SKIPPED, Outcome.SKIPPED]


async def test_a_ticket_of_hundreds_of_addresses_costs_a_bounded_number_of_dials():
    tried = []
    async with joiner("tls") as me:

        async def dial(transport, node, address, *, timeout_s):
            tried.append(address)
            raise LinkClosed("closed at once")

        me.dial = dial
        many = tuple(f"10.0.0.{number}:1" for number in range(32))
        report = await me.join(str(Ticket(node="ab" * 32, addresses={"tls": many})))
    assert tuple(tried) == many[:16]
    assert ends(report).detail == "closed at once"


# --- the ticket


@pytest.mark.parametrize(
    ("text", "detail", "advice"),
    [
        ("nonsense", "begins with 'helexa'", "copy it again"),
        (str(Ticket(node="ab" * 32, addresses={}))[:-3], "cut short", "helexa mesh ticket"),
        (str(Ticket(node=ME.node_id, addresses={"tls": ("1.2.3.4:5",)})), "own", "another cortex"),
        (
            str(Ticket(node="ab" * 32, addresses={"carrier": ("1.2.3.4:5",)})),
            "it offers carrier; open here: tls",
            "[mesh] transports",
        ),
        (str(Ticket(node="ab" * 32, addresses={})), "it offers no transport", "transports"),
    ],
)
async def test_a_ticket_that_is_of_no_use_ends_the_join_at_once(text, detail, advice):
    async with joiner("tls") as me:
        report = await me.join(text)
    (step,) = report.steps
    assert not report.joined
    assert step.outcome is Outcome.FAILED
    assert detail in step.detail
    assert advice in step.advice


# --- reaching it


async def test_nothing_listens_there():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        ticket = Ticket(node="ab" * 32, addresses={"tls": (f"127.0.0.1:{taken.getsockname()[1]}",)})
        async with joiner("tls") as me:
            step = ends(await me.join(str(ticket)))
    assert step.name.startswith("reach it by tls at 127.0.0.1:")
    assert "is that cortex running, and was the ticket made since it last moved?" in step.advice
    assert "loopback" in step.advice


@pytest.mark.parametrize(("name", "carrier"), [("tls", "TCP"), ("iroh", "UDP")])
async def test_nobody_answers(name, carrier):
    async with joiner(name) as me:

        async def dial(transport, node, address, *, timeout_s):
            return await me.transports[transport].dial(node, [address], timeout_s=0.2)

        kind = socket.SOCK_STREAM if name == "tls" else socket.SOCK_DGRAM
        with socket.socket(type=kind) as silent:
            silent.bind(("127.0.0.1", 0))
            if name == "tls":
                silent.listen()
            port = silent.getsockname()[1]
            me.dial = dial
            ticket = Ticket(
                node=NodeKey.generate().node_id, addresses={name: (f"127.0.0.1:{port}",)}
            )
            step = ends(await me.join(str(ticket)))
    assert "no answer within 0.2 s" in step.detail
    assert f"let {carrier} port {port} through" in step.advice


async def test_a_dial_that_never_returns_is_cut_off():
    async with joiner("tls") as me:

        async def dial(transport, node, address, *, timeout_s):
            await anyio.sleep_forever()

        me.dial = dial
        ticket = Ticket(node="ab" * 32, addresses={"tls": ("10.0.0.1:9050",)})
        step = ends(await me.join(str(ticket), reach_s=0.1))
    assert step.detail == "no answer within 0.1 s"


@pytest.mark.parametrize("name", ["tls", "iroh"])
async def test_another_node_is_at_that_address(name):
    async with cortex(name) as ticket, joiner(name) as me:
        old = Ticket(node=NodeKey.generate().node_id, addresses=ticket.addresses)
        report = await me.join(str(old))
    step = report.steps[-1]
    assert (step.name, step.outcome) == ("check its key", Outcome.FAILED)
    assert "its key was replaced" in step.advice


async def _says_garbage(stream):
    async with stream:
        await stream.send(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 50)
        await anyio.sleep_forever()


async def _says_nothing(stream):
    async with stream:
        await anyio.sleep_forever()


async def _closes(stream):
    await stream.aclose()


@pytest.mark.parametrize("treat", [_says_garbage, _says_nothing, _closes])
async def test_what_listens_there_is_no_cortex(treat):
    async with listener(treat) as ticket, joiner("tls") as me:
        step = ends(await me.join(str(ticket), reach_s=0.5))
    assert step.name.startswith("reach it by tls")
    assert step.outcome is Outcome.FAILED
    assert step.detail
    assert step.advice


# --- once there is a link


async def test_no_version_is_common_and_the_advice_says_which_side_is_old():
    async with cortex("tls", speaks=hello(2, 3)) as ticket, joiner("tls") as me:
        step = ends(await me.join(str(ticket)))
    assert step.name == "agree on a version"
    assert step.advice == "update helexa here"
    async with (
        cortex("tls", speaks=hello(1, 1)) as ticket,
        joiner("tls", speaks=hello(4, 5)) as me,
    ):
        step = ends(await me.join(str(ticket)))
    assert step.advice == "helexa over there has to be updated"


async def test_a_cortex_that_says_nothing_is_given_up():
    async def silent(link):
        await link.wait_closed()

    async with cortex("tls", treat=silent) as ticket, joiner("tls") as me:
        step = ends(await me.join(str(ticket), connect_s=0.4))
    assert (step.name, step.outcome) == ("agree on a version", Outcome.FAILED)
    assert "says nothing" in step.advice


async def test_a_cortex_that_answers_garbage_is_reported():
    async def garbage(link):
        stream = await link.accept_stream()
        await stream.write(b"\xff" * 5_000)
        await link.wait_closed()

    async with cortex("tls", treat=garbage) as ticket, joiner("tls") as me:
        step = ends(await me.join(str(ticket)))
    assert (step.name, step.outcome) == ("agree on a version", Outcome.FAILED)
    assert "no Hello came first" in step.detail


@pytest.mark.parametrize(
    ("reason", "advice"),
    [
        ("this node has as many links as it takes", "it is busy"),
        ("\x1b[2Jgo away", "its log says why"),
    ],
)
async def test_a_cortex_that_closes_at_once_is_reported_with_its_reason(reason, advice):
    async def close(link):
        await link.close(CloseCode.BUSY, reason)

    async with cortex("tls", treat=close) as ticket, joiner("tls") as me:
        step = ends(await me.join(str(ticket)))
    assert step.name == "agree on a version"
    assert reason.removeprefix("\x1b") in step.detail
    assert step.detail.isprintable()
    assert advice in step.advice


@pytest.mark.parametrize(
    ("code", "outcome", "advice"),
    [
        (CloseCode.DENIED, Outcome.DENIED, "a ticket with an invite"),
        (CloseCode.PENDING, Outcome.PENDING, f"helexa mesh approve {ME.node_id}"),
    ],
)
@pytest.mark.parametrize("when", ["first", "waiting", "syncing"])
async def test_a_door_that_is_shut_says_so_at_whatever_step(when, code, outcome, advice):
    async def close(link):
        await link.close(code, "not let in")

    verdict = LinkClosed("not let in", int(code))
    options = {"waiting": {"reply": verdict}, "syncing": {"members": verdict}}.get(when, {})
    treat = close if when == "first" else None
    async with cortex("tls", treat=treat) as ticket, joiner("tls", **options) as me:
        step = ends(await me.join(str(ticket)))
    assert step.name == ("learn who is there" if when == "syncing" else "be admitted")
    assert (step.outcome, step.detail) == (outcome, "not let in")
    assert advice in step.advice


@pytest.mark.parametrize(
    ("reply", "outcome", "advice"),
    [
        (Reply(Outcome.DENIED), Outcome.DENIED, "a ticket with an invite"),
        (Reply(Outcome.PENDING), Outcome.PENDING, f"helexa mesh approve {ME.node_id}"),
        (
            Reply(Outcome.FAILED, "from the future", clock_ahead_s=90_000),
            Outcome.FAILED,
            "clock is 1d 1h ahead of the other's",
        ),
        (
            Reply(Outcome.FAILED, "too old", clock_ahead_s=-75),
            Outcome.FAILED,
            "clock is 1m 15s behind the other's",
        ),
        (None, Outcome.FAILED, "says nothing"),
        (LinkClosed("gone"), Outcome.FAILED, "its log says why"),
        (AnswerTimeout("no answer"), Outcome.FAILED, "says nothing"),
        (
            PeerRefused(Refused(code="x", message="not you")),
            Outcome.FAILED,
            "its log says why",
        ),
    ],
)
async def test_what_its_operator_decides_is_told_with_what_to_do(reply, outcome, advice):
    async with cortex("tls") as ticket, joiner("tls", reply=reply) as me:
        report = await me.join(str(ticket))
    step = report.steps[-1]
    assert (step.name, step.outcome) == ("be admitted", outcome)
    assert advice in step.advice
    assert not report.joined
    assert str(report).endswith("not joined")


@pytest.mark.parametrize("members", [None, LinkClosed("gone")])
async def test_a_cortex_that_tells_nothing_of_the_mesh_is_reported(members):
    async with cortex("tls") as ticket, joiner("tls", members=members) as me:
        step = ends(await me.join(str(ticket)))
    assert (step.name, step.outcome) == ("learn who is there", Outcome.FAILED)
