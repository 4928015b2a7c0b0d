"""From settings to a place in the mesh: the one composition, read from top to bottom."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final

import helexa
from helexa.cortex.orchestrator.door import Door
from helexa.cortex.orchestrator.fabric import Fabric
from helexa.cortex.orchestrator.federation.peers import Peers
from helexa.cortex.orchestrator.federation.terms import Terms
from helexa.cortex.orchestrator.links import Links
from helexa.cortex.orchestrator.live_policy import LivePolicy
from helexa.cortex.orchestrator.neurons import Neurons
from helexa.cortex.orchestrator.place.acquaintances import Acquaintances
from helexa.cortex.orchestrator.place.control import Control
from helexa.cortex.orchestrator.place.entry import LEFT_FILE, Entry
from helexa.cortex.orchestrator.place.parts import Emit, Parts
from helexa.cortex.orchestrator.place.speaker import Speaker
from helexa.cortex.settings import TRANSPORTS, CortexSettings
from helexa.mesh import identity
from helexa.mesh.admission.gatekeeper import Gatekeeper
from helexa.mesh.admission.rules import Rules
from helexa.mesh.discovery.advert import Found, advert_of
from helexa.mesh.discovery.bootstrap import Bootstrap, Source, given, heard, named, remembered
from helexa.mesh.discovery.lan import Lan
from helexa.mesh.discovery.peer_cache import PeerCache
from helexa.mesh.identity import NodeKey
from helexa.mesh.membership.core import Membership
from helexa.mesh.membership.events import Moment
from helexa.mesh.membership.notary import KeyNotary
from helexa.mesh.membership.presets import PRESETS
from helexa.mesh.node import MeshNode
from helexa.mesh.operators.credentials import Credentials, load_credentials
from helexa.mesh.operators.revocation import RevocationBook
from helexa.mesh.overlay import Overlay
from helexa.mesh.statements.sealed import Remembered
from helexa.mesh.sticky import note_shared_port, sticky_port
from helexa.mesh.ticket import Ticket
from helexa.mesh.transport import OpenTransport, TransportSettings
from helexa.mesh.transports import load_all, worth_opening
from helexa.protocol.messages import Hello, Role
from helexa.protocol.version import VERSION, VERSION_MIN
from helexa.util.background import background

ADMISSION_FILE: Final = "admission.json"
PEERS_FILE: Final = "peers.json"
PORT_FILE: Final = "mesh.port"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A cortex that is in the mesh."""

    node: MeshNode
    overlay: Overlay
    peers: Peers
    """The cortexes that this one lends to and borrows of."""
    fabric: Fabric
    """Own neurons and peers as one fleet."""
    control: Control
    acquaintances: Acquaintances


@asynccontextmanager
async def opened(
    settings: CortexSettings,
    key: NodeKey,
    neurons: Neurons,
    *,
    policy: LivePolicy,
    roles: tuple[str, ...],
    lends: bool,
    emit: Emit = lambda _event: None,
    open_transports: Mapping[str, OpenTransport] | None = None,
    unix: Callable[[], float] = time.time,
) -> AsyncIterator[Place]:
    """Take a place in the mesh inside the block.

    `lends` is whether this cortex serves other cortexes at all; `unix` gives seconds
    since 1970. Raises
    HomeUnusable, AddressTaken, TransportUnusable and ValueError (a word of
    `[mesh]`), each with the words for an operator.
    """
    transports = _transports(settings, open_transports)
    credentials = load_credentials(settings.home, key, unix(), role=Role.CORTEX)
    # Certificates and lists are the same in one record after another.
    verify = Remembered(identity.verify)
    book = RevocationBook(verify=verify, pinned=credentials.identities)
    if credentials.revocations_blob:
        book.take(credentials.revocations_blob, identities=credentials.identities)

    def known() -> list[str]:
        members = parts.overlay.core.members.values()
        guests = [guest.identity for _, guest in parts.links.guests()]
        names = [(one.node, one.signed.operator) for one in members]
        names += [(one.node, one.operator) for one in guests]
        return [name for each in names for name in each]

    gatekeeper = Gatekeeper(
        settings.home / ADMISSION_FILE,
        _rules(settings, credentials),
        key.node_id,
        unix,
        known=known,
    )
    peers = Peers(
        neurons,
        Terms.of(policy.settings),
        monotonic=time.monotonic,
        connect=lambda node: parts.overlay.connect(node),  # noqa: PLW0108 - not there yet
        events=emit,
    )
    async with AsyncExitStack() as stack:
        parts = Parts(
            settings=settings,
            key=key,
            credentials=credentials,
            gatekeeper=gatekeeper,
            book=book,
            links=Links(neurons, Door(gatekeeper, book, key.node_id, unix=unix), peers),
            peers=peers,
            cache=PeerCache(settings.home / PEERS_FILE),
            policy=policy,
            roles=roles,
            lends=lends,
            emit=emit,
            unix=unix,
        )
        acquaintances = Acquaintances(parts)

        def make_core() -> Membership:
            return Membership(
                key.node_id,
                PRESETS[settings.mesh.preset],
                notary=KeyNotary(key.sign, book, verify),
                admit=acquaintances.trust_in,
                random=random.SystemRandom(),
                members_max=settings.mesh.members_max,
            )

        await stack.enter_async_context(parts.cache.running())
        parts.node = await stack.enter_async_context(
            MeshNode.running(key, _hello(settings, credentials), transports, parts.links)
        )
        await stack.enter_async_context(peers.running())
        parts.overlay = await stack.enter_async_context(
            Overlay.running(
                parts.node,
                make_core,
                now=lambda: Moment(time.monotonic(), unix()),
                jitter=random.random,
                observe=acquaintances.observe,
                partners=acquaintances.partners,
                is_out=(settings.home / LEFT_FILE).exists(),
            )
        )
        gatekeeper.on_change = book.on_change = acquaintances.admission_changed
        parts.links.open(parts.overlay)
        tasks = await stack.enter_async_context(background())
        tasks.start_soon(Speaker(parts).keep_saying)
        tasks.start_soon(acquaintances.look_again)
        entry = Entry(parts, acquaintances)
        await _look_for_others(stack, parts, entry)
        yield Place(
            node=parts.node,
            overlay=parts.overlay,
            peers=peers,
            fabric=Fabric(neurons, peers, parts.own, random=random.random),
            control=Control(parts, acquaintances, entry),
            acquaintances=acquaintances,
        )


async def _look_for_others(stack: AsyncExitStack, parts: Parts, entry: Entry) -> None:
    mesh = parts.settings.mesh
    sources: list[Source] = [
        given([Ticket.parse(text) for text in mesh.join]),
        remembered(parts.cache),
        *(named(name) for name in mesh.dns),
    ]
    found_one: list[Callable[[], None]] = []

    def on_found(_found: Found) -> None:
        for call in found_one:
            call()

    advert = advert_of(
        parts.key.node_id,
        {name: transport.bound for name, transport in parts.node.transports.items()},
        name=parts.settings.name,
        operator=parts.credentials.operator,
    )
    if mesh.lan and advert is not None:
        lan = await stack.enter_async_context(Lan.running(advert, on_found, realm=mesh.realm))
        sources.append(heard(lan))
    bootstrap = await stack.enter_async_context(
        Bootstrap.running(sources, entry.join_one, entry.is_alone, own=parts.key.node_id)
    )
    found_one.append(bootstrap.call)


def _rules(settings: CortexSettings, credentials: Credentials) -> Rules:
    mesh = settings.mesh
    return Rules.of(
        admission=mesh.admission,
        neurons=mesh.neurons,
        allow=mesh.allow,
        deny=mesh.deny,
        trust=mesh.trust,
        own=credentials.identities,
    )


def _transports(
    settings: CortexSettings, open_transports: Mapping[str, OpenTransport] | None
) -> dict[str, tuple[OpenTransport, TransportSettings]]:
    if open_transports is None:
        by_name = settings.mesh.transports != TRANSPORTS
        names: Sequence[str] = settings.mesh.transports
        if not by_name:
            names = worth_opening(names, settings.mesh_socket)
        open_transports = load_all(names, each=by_name)
    transport = TransportSettings(bind=settings.mesh_socket, relays=settings.relays)
    note = settings.home / PORT_FILE
    if len(open_transports) > 1:
        note_shared_port(note, settings.mesh_socket)
    return {
        name: (sticky_port(opener, note), transport) for name, opener in open_transports.items()
    }


def _hello(settings: CortexSettings, credentials: Credentials) -> Hello:
    return Hello(
        role=Role.CORTEX,
        lowest=VERSION_MIN,
        highest=VERSION,
        agent=f"helexa/{helexa.__version__}",
        operator=credentials.operator,
        certificate=credentials.certificate_blob,
        name=settings.name,
    )
