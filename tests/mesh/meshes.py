"""Whole overlays over the memory network: real cores and sessions, and a host that a test bends."""

from __future__ import annotations

import random
import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

import anyio

from helexa.mesh import identity
from helexa.mesh.identity import NodeKey
from helexa.mesh.membership.core import Membership
from helexa.mesh.membership.events import Died, Joined, Moment, State, Suspected
from helexa.mesh.membership.notary import KeyNotary
from helexa.mesh.membership.presets import LOOPBACK
from helexa.mesh.node import MeshNode
from helexa.mesh.operators.revocation import RevocationBook
from helexa.mesh.overlay import Overlay
from helexa.mesh.transport import TransportSettings
from helexa.mesh.transports.memory import MemoryNetwork
from helexa.mesh.trust import Trust
from helexa.protocol.messages import Hello, Role
from helexa.protocol.records import Record
from helexa.util.sockets import Address

HELLO = Hello(role=Role.CORTEX, lowest=1, highest=1, agent="test")
BIND = TransportSettings(bind=Address("192.0.2.1", 0))
WAIT_S = 15

# As on loopback, five times as fast; only a host's pauses are forgiven longer than there,
# because what is tried shares two cores with everything else.
QUICK = replace(
    LOOPBACK,
    name="quick",
    period_s=0.04,
    urgent_s=0.02,
    probe_every_s=0.06,
    direct_s=0.15,
    indirect_s=0.2,
    suspicion_min_s=0.4,
    suspicion_max_s=0.9,
    stall_s=0.5,
    sync_every_s=0.5,
    retry_gone_s=0.3,
    want_s=0.3,
    publish_min_s=0.05,
)


class Site:
    """One cortex as far as the overlay sees it. `turns_away` closes each session with its words."""

    def __init__(self, key):
        self.key = key
        self.id = key.node_id
        self.events = []
        self.turns_away = None
        self.is_mute = False
        self.partners = ()
        self.admits = lambda _signed: Trust.STRANGER
        self.behind_s = 0.0
        """How late its clock seems, added to at will."""
        self.node = self.overlay = None
        self.opened = anyio.Event()

    @property
    def ticket(self):
        return self.node.ticket()

    @property
    def core(self):
        return self.overlay.core

    def now(self):
        return Moment(time.monotonic() + self.behind_s, time.time())

    def make_core(self):
        return Membership(
            self.id,
            QUICK,
            notary=KeyNotary(self.key.sign, RevocationBook(verify=identity.verify)),
            admit=lambda signed: self.admits(signed),  # noqa: PLW0108 - tests set another
            random=random.Random(),
            members_max=64,
        )

    def publish(self, name=""):
        addresses = dict(self.node.ticket().addresses)
        draft = Record(
            node=self.id, sequence=0, issued_s=0, expires_s=0, name=name, addresses=addresses
        )
        self.overlay.publish(draft)

    async def on_session(self, session):
        await self.opened.wait()
        if self.turns_away is not None:
            await session.close(*self.turns_away)
        elif self.is_mute:
            await session.wait_closed()
        else:
            await self.overlay.attend(session)

    async def on_message(self, inbound):
        await self.opened.wait()
        if self.turns_away is None and not self.is_mute:
            self.overlay.hear(inbound.session, inbound.message)

    async def on_stream(self, session, request, stream):
        raise AssertionError("nothing here opens streams")

    # --- what a test asks

    def state_of(self, other):
        member = self.core.members.get(other.id)
        return member.state if member is not None else None

    def holds_alive(self, *others):
        return all(self.state_of(other) is State.ALIVE for other in others)

    def seen(self, kind, other):
        """Events of that kind about that site."""
        return [e for e in self.events if isinstance(e, kind) and e.member.node == other.id]

    async def join(self, other):
        session = await self.overlay.introduce(other.ticket)
        await until(lambda: self.holds_alive(other) and other.holds_alive(self))
        return session


@asynccontextmanager
async def site(network, *, key=None, hidden=False, is_out=False, hello=HELLO, **node_options):
    here = Site(key or NodeKey.generate())
    async with (
        MeshNode.running(
            here.key, hello, {"memory": (network.open_transport, BIND)}, here, **node_options
        ) as here.node,
        Overlay.running(
            here.node,
            here.make_core,
            now=here.now,
            jitter=random.random,
            observe=here.events.append,
            partners=lambda: here.partners,
            is_out=is_out,
        ) as here.overlay,
    ):
        if hidden:
            network.hide(here.node.transports["memory"])
        here.opened.set()
        here.publish()
        yield here


@asynccontextmanager
async def sites(count, network=None):
    """So many of them, joined to the first; each knows each."""
    network = network or MemoryNetwork(silence_s=30)
    async with AsyncExitStack() as stack:
        mesh = [await stack.enter_async_context(site(network)) for _ in range(count)]
        for one in mesh[1:]:
            await one.join(mesh[0])
        await until(lambda: agree(mesh))
        yield mesh


def agree(mesh):
    return all(one.holds_alive(*(other for other in mesh if other is not one)) for one in mesh)


async def until(holds):
    with anyio.fail_after(WAIT_S):
        while not holds():  # noqa: ASYNC110 - much of what is awaited has no event
            await anyio.sleep(0.005)


__all__ = [
    "BIND",
    "HELLO",
    "QUICK",
    "Died",
    "Joined",
    "Site",
    "Suspected",
    "site",
    "sites",
    "until",
]
