"""A cortex's place in the mesh: where sessions, membership, admission and lending meet.

`opened` builds it: the door, the links, the node with its transports, the
overlay, the peers, and what looks for others. `Place` is what an operator can
see and do about it while it runs (`mesh_control.MeshControl`).
"""

from __future__ import annotations

import logging
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import anyio
import msgspec

import helexa
from helexa.cortex.orchestrator.door import Door
from helexa.cortex.orchestrator.fabric import Fabric
from helexa.cortex.orchestrator.federation.peers import Peers
from helexa.cortex.orchestrator.federation.terms import Terms
from helexa.cortex.orchestrator.links import Links
from helexa.cortex.orchestrator.live_policy import LivePolicy
from helexa.cortex.orchestrator.mesh_control import (
    Decision,
    InviteWish,
    MeshStatus,
    OnStep,
    PeerRow,
    PendingRow,
    Ping,
)
from helexa.cortex.orchestrator.neurons import Neurons
from helexa.cortex.settings import TRANSPORTS, CortexSettings
from helexa.mesh.admission import Rules
from helexa.mesh.credentials import Credentials, load_credentials
from helexa.mesh.discovery.advert import Found, advert_of
from helexa.mesh.discovery.bootstrap import Bootstrap, Source, given, heard, named, remembered
from helexa.mesh.discovery.join import Outcome, Reply, Step, as_json, join
from helexa.mesh.discovery.lan import Lan
from helexa.mesh.discovery.peer_cache import PeerCache
from helexa.mesh.gatekeeper import Gatekeeper, WhoUnclear
from helexa.mesh.handshake import CloseCode, HandshakeFailed
from helexa.mesh.identity import NodeKey
from helexa.mesh.invites import issue_invite
from helexa.mesh.membership.core import Membership
from helexa.mesh.membership.events import (
    Changed,
    Cleared,
    ClockOff,
    Died,
    Doubled,
    Event,
    Forgotten,
    Joined,
    Left,
    Member,
    Moment,
    State,
    Suspected,
)
from helexa.mesh.membership.notary import KeyNotary
from helexa.mesh.membership.presets import PRESETS
from helexa.mesh.node import MeshNode
from helexa.mesh.overlay import NotIntroduced, Overlay
from helexa.mesh.records import SignedRecord
from helexa.mesh.revocation import RevocationBook
from helexa.mesh.session import AnswerTimeout, PeerRefused, PeerUnsupported
from helexa.mesh.sticky import sticky_port
from helexa.mesh.ticket import Ticket
from helexa.mesh.transport import DialFailed, Link, LinkClosed, OpenTransport, TransportSettings
from helexa.mesh.transports import load_all
from helexa.mesh.trust import Standing, Trust
from helexa.protocol.errors import PeerLost, RequestRejected, UpstreamTimeout
from helexa.protocol.ids import NodeId
from helexa.protocol.messages import Hello, RequestHealth, Role
from helexa.protocol.records import Offer, Record
from helexa.protocol.version import VERSION, VERSION_MIN
from helexa.util.background import background
from helexa.util.home import HomeUnusable
from helexa.util.sockets import Address

ADMISSION_FILE: Final = "admission.json"
PEERS_FILE: Final = "peers.json"
LEFT_FILE: Final = "left"
"""There while this cortex stays out of the mesh on its operator's word."""
PORT_FILE: Final = "mesh.port"
PEERS_SHOWN_MAX: Final = 10_000
PING_S: Final = 5.0
SAY_EVERY_S: Final = 1.0
LOAD_EVERY_S: Final = 30.0
"""Between records that differ from the last in nothing but how busy this cortex is."""
LOOK_AGAIN_S: Final = 60.0
"""At standing sessions: certificates expire, lists of revoked nodes arrive."""
STATES: Final = {
    State.ALIVE: "alive",
    State.SUSPECT: "suspect",
    State.DEAD: "dead",
    State.LEFT: "left",
}

Emit: TypeAlias = Callable[[Mapping[str, Any]], None]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a place is made of; each has its one owner elsewhere."""

    settings: CortexSettings
    key: NodeKey
    credentials: Credentials
    gatekeeper: Gatekeeper
    links: Links
    neurons: Neurons
    peers: Peers
    cache: PeerCache
    policy: LivePolicy
    roles: tuple[str, ...]
    lends: bool
    emit: Emit


class Place:
    """Made by `opened`."""

    def __init__(self, parts: Parts) -> None:
        self.clock_off_s = 0.0
        self.doubles = 0
        self.bootstrap: Bootstrap | None = None
        self.node: MeshNode
        self.overlay: Overlay
        self.own = Standing(
            node=parts.key.node_id,
            operator=parts.credentials.operator,
            trust=Trust.OWN,
            name=parts.settings.name,
            region=self._region(parts),
        )
        self._parts = parts
        self._trusted: dict[NodeId, Trust] = {}
        self._news = anyio.Event()
        self._reconsider = anyio.Event()
        self._instance = f"{random.SystemRandom().getrandbits(64):016x}"

    @staticmethod
    def _region(parts: Parts) -> str:
        """The operator's word where it gave one: a node cannot sign itself into a region."""
        certificate = parts.credentials.certificate
        return (certificate.region if certificate else "") or parts.settings.region

    @property
    def roles(self) -> tuple[str, ...]:
        return self._parts.roles

    @property
    def others(self) -> Peers:
        """The cortexes that this one lends to and borrows of."""
        return self._parts.peers

    def fabric(self, count: Callable[[str, str], None] = lambda _way, _outcome: None) -> Fabric:
        """Own neurons and peers as one fleet. `count` is told of each federated request."""
        return Fabric(
            self._parts.neurons, self._parts.peers, self.own, random=random.random, count=count
        )

    # --- what the core asks and tells

    def trust_in(self, signed: SignedRecord) -> Trust:
        """How far the node of a proven record is trusted; DENIED keeps it out."""
        return self._parts.gatekeeper.admits(signed.record.node, signed.identities)

    def partners(self) -> Collection[NodeId]:
        """Whom to stay linked with: those that may be asked for work, the most trusted first."""
        level = self._parts.peers.terms.borrow_from
        if level is None:
            return ()
        chosen = [node for node, trust in self._trusted.items() if trust >= level]
        return sorted(chosen, key=lambda node: -self._trusted[node])

    def observe(self, event: Event) -> None:
        """What happened in the mesh, passed on to whoever has to know."""
        peers = self._parts.peers
        match event:
            case Joined(member) | Changed(member):
                self._learn(member)
                if isinstance(event, Joined):
                    self._tell(member, "alive")
            case Suspected(member):
                self._tell(member, "suspect")
            case Cleared(member):
                self._tell(member, "alive")
            case Died(member, reason):
                peers.forget(member.node, f"not answering: {reason}")
                self._tell(member, "dead", reason)
            case Left(member):
                peers.forget(member.node, "left the mesh")
                self._tell(member, "left")
            case Forgotten(node, reason):
                peers.forget(node, reason)
                self._trusted.pop(node, None)
                self._emit({"event": "member", "node_id": node, "state": "forgotten"})
            case Doubled(instance):
                self.doubles += 1
                log.error(
                    "another machine uses this node's key: stop one of the two, or give one "
                    "a key of its own",
                    extra={"instance": instance},
                )
                self._emit({"event": "doubled", "instance": instance})
            case ClockOff(seconds):
                self.clock_off_s = seconds
                side = "ahead of" if seconds > 0 else "behind"
                log.error(
                    "this machine's clock is %.0f s %s the others': they do not take its records",
                    abs(seconds),
                    side,
                )
                self._emit({"event": "clock_off", "seconds": round(seconds, 1)})
        news, self._news = self._news, anyio.Event()
        news.set()

    def _learn(self, member: Member) -> None:
        standing = self.standing_of(member.node, member.signed)
        self._trusted[member.node] = standing.trust
        self._parts.peers.gossiped(member.node, standing, member.signed.record)
        ticket = Ticket(node=member.node, addresses=member.signed.record.addresses)
        self._parts.cache.remember(ticket, time.time())

    def standing_of(self, node: NodeId, signed: SignedRecord | None = None) -> Standing:
        """Who that node is here: by its record, else by what its session proved."""
        if signed is None:
            member = self.overlay.core.members.get(node)
            signed = member.signed if member else None
        guest = self._parts.links.guest(node)
        if signed is not None:
            return self._parts.gatekeeper.standing(
                node,
                signed.identities,
                name=signed.record.name or (guest.standing.name if guest else ""),
                region=signed.region,
            )
        if guest is not None:
            return guest.standing
        return Standing(node=node, operator=self.own.operator, trust=Trust.DENIED)

    def _tell(self, member: Member, state: str, reason: str = "") -> None:
        record = member.signed.record
        log.info(
            "member_%s", state, extra={"node": member.node, "called": record.name, "why": reason}
        )
        self._emit(
            {
                "event": "member",
                "node_id": member.node,
                "name": record.name,
                "state": state,
                "reason": reason,
            }
        )

    def _emit(self, event: Mapping[str, Any]) -> None:
        self._parts.emit(event)

    # --- admission

    def admission_changed(self) -> None:
        """Decided at run time: links and members are looked at again."""
        self._reconsider.set()

    async def look_again(self) -> None:
        """At every session and member, whenever something was decided, and now and then."""
        while True:
            with anyio.move_on_after(LOOK_AGAIN_S):
                await self._reconsider.wait()
            self._reconsider = anyio.Event()
            await self.reconsider()

    async def reconsider(self) -> int:
        """How many sessions ended by it."""
        ended = await self._parts.links.reconsider()
        self.overlay.reconsider()
        for node, member in self.overlay.core.members.items():
            self._trusted[node] = self.trust_in(member.signed)
        self._parts.peers.reconsider(self.standing_of)
        return ended

    # --- this node's record

    async def keep_saying(self) -> None:
        """Publish what changed of this node, until cancelled."""
        said, said_s = None, 0.0
        while True:
            draft = self.draft()
            now_s = time.monotonic()
            if said is None or _but_load(draft) != _but_load(said):
                is_due = True
            else:
                is_due = draft != said and now_s - said_s >= LOAD_EVERY_S
            if is_due:
                self.overlay.publish(draft)
                said, said_s = draft, now_s
            await anyio.sleep(SAY_EVERY_S)

    def draft(self) -> Record:
        """What this cortex says of itself; the core adds node, sequence and times."""
        parts = self._parts
        offers = parts.peers.public_offers() if parts.lends else ()
        slots = sum(offer.slots for offer in offers)
        free = sum(offer.free for offer in offers)
        return Record(
            node=parts.key.node_id,
            sequence=0,
            issued_s=0,
            expires_s=0,
            instance=self._instance,
            roles=parts.roles,
            name=parts.settings.name,
            region=parts.settings.region,
            agent=f"helexa/{helexa.__version__}",
            lowest=VERSION_MIN,
            highest=VERSION,
            addresses=_public(self.node.ticket().addresses),
            offers=tuple(_coarse(offer) for offer in offers),
            load=_quarters(1 - free / slots) if slots else 0.0,
            certificate=parts.credentials.certificate_blob,
            revocations=parts.credentials.revocations_blob,
        )

    # --- coming in

    async def join_one(self, ticket: Ticket, source: str) -> bool:
        """Try to become a fellow member of that node; whether it is one now."""
        if self.overlay.is_out:
            return False
        if self._is_fellow(ticket.node):
            return True
        try:
            await self.overlay.introduce(ticket)
        except (DialFailed, HandshakeFailed, LinkClosed, NotIntroduced) as error:
            log.info("not_joined", extra={"node": ticket.node, "by": source, "why": str(error)})
            return False
        self._parts.cache.remember(ticket, time.time())
        return True

    def _is_fellow(self, node: NodeId) -> bool:
        member = self.overlay.core.members.get(node)
        return member is not None and member.is_present

    def is_alone(self) -> bool:
        """Nobody else is known to be alive: worth looking for others."""
        return not self.overlay.is_out and self.overlay.core.present <= 1

    async def join(self, ticket: str, on_step: OnStep) -> Mapping[str, Any]:
        """See `MeshControl.join`."""
        self._come_back()
        report = await join(
            ticket,
            self._dial,
            self._connect,
            self._admitted,
            self._synced,
            own=self.own.node,
            transports=tuple(self.node.transports),
            on_step=lambda step: on_step(_step(step)),
        )
        if report.joined:
            self._parts.cache.remember(Ticket.parse(ticket), time.time())
        return report.as_json()

    async def _dial(self, transport: str, node: NodeId, address: str, *, timeout_s: float) -> Link:
        return await self.node.transports[transport].dial(node, [address], timeout_s=timeout_s)

    async def _connect(self, ticket: Ticket, *, timeout_s: float) -> int:
        session = await self.node.connect(ticket, timeout_s=timeout_s)
        return session.version

    async def _admitted(self, node: NodeId) -> Reply:
        session = self.node.session_with(node)
        if session is None:
            return Reply(Outcome.FAILED, "the link was closed at once")
        try:
            await self.overlay.heard_from(session)
        except LinkClosed as closed:
            outcome = _CLOSED.get(closed.code if closed.code is not None else -1, Outcome.FAILED)
            return Reply(outcome, closed.reason)
        except NotIntroduced as silent:
            return Reply(Outcome.FAILED, str(silent))
        with anyio.move_on_after(SAY_EVERY_S):
            while not self._is_fellow(node) and not self.clock_off_s:
                await self._news.wait()
        if self.clock_off_s and not self._is_fellow(node):
            return Reply(Outcome.FAILED, "the clocks differ", self.clock_off_s)
        return Reply(Outcome.OK)

    async def _synced(self, node: NodeId) -> int:
        while not self._is_fellow(node):
            await self._news.wait()
        return max(self.overlay.core.present - 1, 0)

    def _come_back(self) -> None:
        (self._parts.settings.home / LEFT_FILE).unlink(missing_ok=True)
        self.overlay.come_back()

    async def leave(self) -> None:
        """See `MeshControl.leave`."""
        marker = self._parts.settings.home / LEFT_FILE
        try:
            marker.touch(0o600)
        except OSError as error:
            raise RequestRejected(f"{marker} cannot be written: {error.strerror}.") from error
        await self.overlay.leave()
        for node in list(self._trusted):
            self._parts.peers.forget(node, "this cortex left the mesh")
        self._trusted.clear()

    # --- what an operator sees

    def status(self) -> MeshStatus:
        """See `MeshControl.status`."""
        parts = self._parts
        core = self.overlay.core
        certificate = parts.credentials.certificate
        members = Counter(STATES[member.state] for member in core.members.values())
        sent, received = self.overlay.traffic()
        rules = parts.gatekeeper.rules
        denied = {one.who for one in parts.gatekeeper.decisions() if one.trust is Trust.DENIED}
        return MeshStatus(
            node=self.own.node,
            operator=self.own.operator,
            operator_name=certificate.name if certificate else "",
            certificate={}
            if certificate is None
            else {
                "serial": certificate.serial,
                "roles": list(certificate.roles),
                "issued_s": certificate.issued_s,
                "expires_s": certificate.expires_s,
                "region": certificate.region,
                "contact": certificate.contact,
            },
            ticket=self.ticket(None),
            addresses={
                name: [str(transport.bound)] for name, transport in self.node.transports.items()
            },
            preset=parts.settings.mesh.preset,
            admission=parts.settings.mesh.admission,
            neurons=parts.settings.mesh.neurons,
            joined=not self.overlay.is_out,
            members=dict(members),
            neighbours=len(core.neighbours),
            pending=len(parts.gatekeeper.pending()),
            denied=len(denied | rules.deny),
            rejected=dict(core.counters.rejected),
            traffic={"sent_bytes": sent, "received_bytes": received},
            clock_off_s=round(self.clock_off_s, 1),
            policy={
                name: row["value"]
                for name, row in parts.policy.shown().items()
                if "mesh policy" in str(row["origin"])
            },
        )

    def peers(self) -> Sequence[PeerRow]:
        """See `MeshControl.peers`."""
        now_s = time.monotonic()
        core = self.overlay.core
        rows = [self._row(member, now_s, core.neighbours) for member in core.members.values()]
        rows.sort(key=lambda row: (row.state != "alive", row.name, row.node))
        return rows[:PEERS_SHOWN_MAX]

    def _row(self, member: Member, now_s: float, neighbours: Collection[NodeId]) -> PeerRow:
        record, certificate = member.signed.record, member.signed.certificate
        standing = self.standing_of(member.node, member.signed)
        session = self.overlay.session_with(member.node)
        addresses = [f"{name} {some[0]}" for name, some in record.addresses.items() if some]
        rtt_s = session.link.rtt_s if session is not None else None
        return PeerRow(
            node=member.node,
            operator=member.signed.operator,
            name=record.name,
            operator_name=certificate.name if certificate else "",
            region=member.signed.region,
            trust=standing.trust.word,
            state=STATES[member.state],
            since_s=0.0 if member.since_s is None else round(now_s - member.since_s, 1),
            neighbour=member.node in neighbours,
            link=session.transport if session is not None else "",
            rtt_ms=round(rtt_s * 1000, 3) if rtt_s is not None else None,
            offers=self._parts.peers.offered_by(member.node),
            agent=record.agent,
            sequence=record.sequence,
            address=session.link.remote_address if session is not None else "".join(addresses[:1]),
            note=self._parts.peers.note(member.node),
        )

    def ticket(self, invite: InviteWish | None) -> str:
        """See `MeshControl.ticket`."""
        ticket = self.node.ticket()
        if invite is None:
            return str(ticket)
        try:
            sealed = issue_invite(
                self._parts.key.sign,
                self.own.node,
                now_s=time.time(),
                expires_in_s=invite.expires_s,
                uses=invite.uses,
                role=Role(invite.role) if invite.role else None,
                trust=Trust.of(invite.trust),
            )
        except ValueError as error:
            raise RequestRejected(f"{error}.", "invite") from error
        return str(Ticket(node=ticket.node, addresses=ticket.addresses, invite=sealed))

    async def ping(self, node: NodeId) -> Ping:
        """See `MeshControl.ping`."""
        began_s = time.monotonic()
        standing = self.overlay.session_with(node)
        try:
            session = standing or await self.overlay.connect(node)
            connected_s = time.monotonic()
            # What another cortex answers to this does not matter; that it answers does.
            with suppress(PeerRefused, PeerUnsupported):
                await session.ask(RequestHealth(), timeout_s=PING_S)
        except (DialFailed, HandshakeFailed, LinkClosed) as error:
            raise PeerLost(f"{node[:10]} cannot be reached: {error}.") from error
        except AnswerTimeout as error:
            raise UpstreamTimeout(f"{node[:10]} did not answer within {PING_S:g} s.") from error
        ended_s = time.monotonic()
        return Ping(
            node=node,
            transport=session.transport,
            rtt_ms=round((ended_s - connected_s) * 1000, 3),
            dialled_ms=None if standing else round((connected_s - began_s) * 1000, 3),
            name=self.standing_of(node).name,
            address=session.link.remote_address,
        )

    # --- what an operator decides

    def pending(self) -> Sequence[PendingRow]:
        """See `MeshControl.pending`."""
        now_s = time.time()
        return [
            PendingRow(
                node=row.node,
                operator=row.operator,
                role=row.role.value,
                name=row.name,
                address=row.address,
                since_s=round(now_s - row.first_s, 1),
                seen_s=round(now_s - row.last_s, 1),
            )
            for row in self._parts.gatekeeper.pending()
        ]

    def approve(self, who: str, trust: str) -> Decision:
        """See `MeshControl.approve`."""
        level = Trust.of(trust)
        return self._decided(lambda: self._parts.gatekeeper.approve(who, level))

    def deny(self, who: str) -> Decision:
        """See `MeshControl.deny`."""
        return self._decided(lambda: self._parts.gatekeeper.deny(who))

    def trust(self, who: str, level: str) -> Decision:
        """See `MeshControl.trust`."""
        return self._decided(lambda: self._parts.gatekeeper.trust(who, Trust.of(level)))

    def forget(self, who: str) -> Decision:
        """See `MeshControl.forget`."""
        return self._decided(lambda: self._parts.gatekeeper.forget(who))

    def _decided(self, decide: Callable[[], str]) -> Decision:
        before = [session for session, _ in self._parts.links.guests()]
        try:
            who = decide()
        except (WhoUnclear, HomeUnusable) as error:
            raise RequestRejected(f"{error}.", "who") from error
        said = self._parts.gatekeeper.decided(who)
        closed = sum(not self._parts.links.may_stay(session) for session in before)
        return Decision(who=who, trust=said.word if said else "by the settings", closed=closed)

    def policy(self) -> Mapping[str, Mapping[str, Any]]:
        """See `MeshControl.policy`."""
        return self._parts.policy.shown()

    def set_policy(
        self, changes: Mapping[str, Any], unset: Collection[str]
    ) -> Mapping[str, Mapping[str, Any]]:
        """See `MeshControl.set_policy`."""
        self._parts.peers.set_terms(Terms.of(self._parts.policy.change(changes, unset)))
        return self._parts.policy.shown()


_CLOSED: Final = {
    int(CloseCode.DENIED): Outcome.DENIED,
    int(CloseCode.PENDING): Outcome.PENDING,
}


def _step(step: Step) -> Mapping[str, Any]:
    return as_json(step)


def _but_load(record: Record) -> Record:
    offers = tuple(msgspec.structs.replace(offer, free=0) for offer in record.offers)
    return msgspec.structs.replace(record, load=0.0, offers=offers)


def _coarse(offer: Offer) -> Offer:
    """Free slots in quarters: a record for every request would tell nobody anything."""
    if not offer.slots:
        return offer
    free = int(_quarters(offer.free / offer.slots) * offer.slots)
    return msgspec.structs.replace(offer, free=free)


def _quarters(share: float) -> float:
    return round(4 * min(max(share, 0.0), 1.0)) / 4


def _public(addresses: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """Without loopback, where there is anything else: that is every reader's own machine."""

    def kept(some: Sequence[str]) -> tuple[str, ...]:
        others = [text for text in some if "://" in text or not Address.parse(text).is_loopback]
        return tuple(others or some)

    return {name: kept(some) for name, some in addresses.items()}


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
) -> AsyncIterator[Place]:
    """Take a place in the mesh inside the block.

    `lends` is whether this cortex serves other cortexes at all. Raises
    HomeUnusable, AddressTaken, TransportUnusable and ValueError (an admission
    word), each with the words for an operator.
    """
    home = settings.home
    if open_transports is None:
        by_name = settings.mesh.transports != TRANSPORTS
        open_transports = load_all(settings.mesh.transports, each=by_name)
    credentials = load_credentials(home, key, time.time(), role=Role.CORTEX)
    book = RevocationBook(pinned=credentials.identities)
    if credentials.revocations_blob:
        book.take(credentials.revocations_blob, identities=credentials.identities)
    rules = Rules.of(
        admission=settings.mesh.admission,
        neurons=settings.mesh.neurons,
        allow=settings.mesh.allow,
        deny=settings.mesh.deny,
        trust=settings.mesh.trust,
        own=credentials.identities,
    )
    place: Place

    def known() -> list[str]:
        members = place.overlay.core.members.values()
        return [name for one in members for name in (one.node, one.signed.operator)]

    gatekeeper = Gatekeeper(home / ADMISSION_FILE, rules, key.node_id, time.time, known=known)
    peers = Peers(
        neurons,
        Terms.of(policy.settings),
        monotonic=time.monotonic,
        connect=lambda node: place.overlay.connect(node),  # noqa: PLW0108 - there is none yet
        events=emit,
    )
    door = Door(gatekeeper, book, key.node_id, unix=time.time)
    links = Links(neurons, door, peers)
    async with AsyncExitStack() as stack:
        cache = PeerCache(home / PEERS_FILE)
        await stack.enter_async_context(cache.running())
        place = Place(
            Parts(
                settings=settings,
                key=key,
                credentials=credentials,
                gatekeeper=gatekeeper,
                links=links,
                neurons=neurons,
                peers=peers,
                cache=cache,
                policy=policy,
                roles=roles,
                lends=lends,
                emit=emit,
            )
        )

        def make_core() -> Membership:
            return Membership(
                key.node_id,
                PRESETS[settings.mesh.preset],
                notary=KeyNotary(key.sign, book),
                admit=place.trust_in,
                random=random.SystemRandom(),
                members_max=settings.mesh.members_max,
            )

        place.node = await stack.enter_async_context(
            MeshNode.running(
                key,
                _hello(settings, credentials),
                _transports(settings, open_transports),
                links,
            )
        )
        await stack.enter_async_context(peers.running())
        place.overlay = await stack.enter_async_context(
            Overlay.running(
                place.node,
                make_core,
                now=lambda: Moment(time.monotonic(), time.time()),
                jitter=random.random,
                observe=place.observe,
                partners=place.partners,
                is_out=(home / LEFT_FILE).exists(),
            )
        )
        gatekeeper.on_change = place.admission_changed
        links.open(place.overlay)
        tasks = await stack.enter_async_context(background())
        tasks.start_soon(place.keep_saying)
        tasks.start_soon(place.look_again)
        await _look_for_others(stack, settings, place, cache)
        yield place


async def _look_for_others(
    stack: AsyncExitStack, settings: CortexSettings, place: Place, cache: PeerCache
) -> None:
    mesh = settings.mesh
    sources: list[Source] = [given([Ticket.parse(text) for text in mesh.join]), remembered(cache)]
    sources += [named(name) for name in mesh.dns]
    advert = advert_of(
        place.own.node,
        {name: transport.bound for name, transport in place.node.transports.items()},
        name=settings.name,
        operator=place.own.operator,
    )
    if mesh.lan and advert is not None:

        def on_found(_found: Found) -> None:
            if place.bootstrap is not None:
                place.bootstrap.call()

        lan = await stack.enter_async_context(Lan.running(advert, on_found, realm=mesh.realm))
        sources.append(heard(lan))
    place.bootstrap = await stack.enter_async_context(
        Bootstrap.running(sources, place.join_one, place.is_alone, own=place.own.node)
    )


def _transports(
    settings: CortexSettings, open_transports: Mapping[str, OpenTransport]
) -> dict[str, tuple[OpenTransport, TransportSettings]]:
    transport = TransportSettings(bind=settings.mesh_socket, relays=settings.relays)
    return {
        name: (sticky_port(opener, settings.home / PORT_FILE), transport)
        for name, opener in open_transports.items()
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
