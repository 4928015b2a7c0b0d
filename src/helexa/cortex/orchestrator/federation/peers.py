"""The cortexes of others: one owner of what they offer here and of the ways to reach them.

What they are offered goes out by their sessions, what they offer comes in by sessions
and by gossiped records, and requests travel both ways in streams of a session. Nothing
here decides where a request goes: that is the fabric's, by the terms.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, Self, TypeAlias
from weakref import WeakKeyDictionary

import anyio

from helexa.cortex.orchestrator.federation.holders import Holders
from helexa.cortex.orchestrator.federation.lanes import Lane, Lanes
from helexa.cortex.orchestrator.federation.offers import offers_for, public_offers
from helexa.cortex.orchestrator.federation.peer import Peer, Told, by_model, told_by
from helexa.cortex.orchestrator.federation.terms import Terms
from helexa.cortex.orchestrator.neurons import Neurons
from helexa.mesh.sessions.handshake import CloseCode
from helexa.mesh.sessions.session import Inbound, Session
from helexa.mesh.transport import LinkClosed, Stream
from helexa.mesh.trust import Standing
from helexa.protocol.errors import PeerLost
from helexa.protocol.ids import ModelId, NodeId
from helexa.protocol.messages import (
    ExecuteRequest,
    Goodbye,
    ReportOffers,
    Unsupported,
    Wire,
    Withheld,
)
from helexa.protocol.records import Offer, Record
from helexa.protocol.work import WorkloadClass
from helexa.util.background import background

PEERS_MAX: Final = 65_536
"""As many members as a mesh may have; a record of one more is not looked at."""
PROSPECTS_MAX: Final = 256
"""Looked at for one request, the most trusted first."""
LISTED_MAX: Final = 16
"""Holders of one model that a listing looks at."""
NO_DOOR: Final = "takes no requests of other cortexes"
OFFERS_EVERY_S: Final = 1.0
OFFERS_REFRESH_S: Final = 5.0
"""Free slots change with every request; what else changes is told at once."""
GONE_REMEMBERED_S: Final = 600.0
"""How long a refusal can say that a cortex is gone, rather than that nobody has the model."""
GONE_MAX: Final = 1_024
ADMIT_S: Final = 2.0
"""A stream can arrive before the session's own task ran for the first time."""

Door: TypeAlias = Callable[[Stream, NodeId], Awaitable[None]]
"""Serves the HTTP bytes of a stream for the cortex that proved to be this node."""

Connect: TypeAlias = Callable[[NodeId], Awaitable[Session]]
"""Makes a session with a cortex that membership knows. May raise anything."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Prospect:
    """A cortex that has, or had, the model of a request."""

    standing: Standing
    called: str
    offer: Offer | None
    why_not: str
    """By its own words, or because it cannot be reached; empty where it can be asked."""
    is_connected: bool
    in_flight: int


class Peers:
    """Live inside `running`. `attend` is run once for each session with another cortex."""

    def __init__(
        self,
        neurons: Neurons,
        terms: Terms,
        *,
        monotonic: Callable[[], float],
        connect: Connect | None = None,
        events: Callable[[Mapping[str, Any]], None] = lambda _event: None,
    ) -> None:
        """`events` is told of cortexes that come and go, as JSON-shaped objects."""
        self.terms = terms
        self.in_flight: dict[tuple[NodeId, ModelId], int] = {}
        self._neurons = neurons
        self._monotonic = monotonic
        self._connect = connect
        self._events = events
        self._peers: dict[NodeId, Peer] = {}
        self._holders = Holders()
        self._gone: dict[NodeId, None] = {}
        self.silent: set[NodeId] = set()
        """Those with a session that stands, whom the mesh has given up meanwhile."""
        self._early: WeakKeyDictionary[Session, Told] = WeakKeyDictionary()
        self._door: Door | None = None
        self._changed = anyio.Event()
        self._ruled = anyio.Event()
        self._attended = anyio.Event()
        self._lanes = Lanes(connect, self._lost_lane)
        neurons.watch(self.offers_changed)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """The ways to peers live inside the block."""
        async with self._lanes.running():
            yield self

    # --- for links

    async def attend(self, session: Session, standing: Standing) -> None:
        """Run for the life of a session with a cortex that was admitted as `standing` says."""
        peer = self._enter(session, standing)
        reason = "this cortex closed the link"
        try:
            async with background() as tasks:
                tasks.start_soon(self._report, session, peer)
                closed = await session.wait_closed()
                reason = f"link lost: {closed.reason}"
        finally:
            self._leave(session, peer, peer.goodbye or reason)

    async def on_message(self, inbound: Inbound) -> Wire | None:
        """What another cortex says about offers. Raises RequestRejected."""
        session = inbound.session
        peer = self._peers.get(session.peer)
        match inbound.message:
            case ReportOffers() as report:
                told = told_by(report)
                if peer is not None and session in peer.sessions:
                    self._take(peer, told)
                else:
                    self._early[session] = told
                return None
            case Goodbye() as goodbye:
                if peer is not None:
                    peer.goodbye = goodbye.reason or "said goodbye"
                return None
            case _:
                return Unsupported(tag=type(inbound.message).__name__)

    async def on_stream(self, session: Session, _request: ExecuteRequest, stream: Stream) -> None:
        """Serve what the peer asks on this stream, until its end."""
        with anyio.move_on_after(ADMIT_S):
            while not self._attends(session):
                await self._attended.wait()
        if self._door is None or not self._attends(session):
            _log.info("stream_refused", extra={"node": session.peer})
            return
        await self._door(stream, session.peer)

    def open_door(self, door: Door) -> None:
        """What serves peers' requests from now on."""
        self._door = door
        self.offers_changed()

    def close_door(self) -> None:
        self._door = None
        self.offers_changed()

    # --- for membership

    def gossiped(self, node: NodeId, standing: Standing, record: Record) -> None:
        """A record that membership took: the newest of that node. Never raises."""
        peer = self._peers.get(node)
        if peer is None:
            if len(self._peers) >= PEERS_MAX:
                return
            peer = self._peers[node] = Peer(standing)
        if record.sequence > peer.sequence:
            # It speaks, so it is worth a try; and it is newer than what a lost link said.
            peer.failures, peer.retry_at_s, peer.is_unheard = 0, 0.0, False
            if peer.session is None:
                peer.told = None
            if peer.is_gone:
                peer.since_s = None
            peer.recorded = by_model(record.offers)
            peer.sequence = record.sequence
        peer.standing = standing
        self._gone.pop(node, None)
        self.silent.discard(node)
        self._holders.put(peer)

    def forget(
        self, node: NodeId, reason: str = "left the mesh", *, is_silent: bool = False
    ) -> None:
        """Membership no longer counts it as alive. What a standing session says holds on, but
        for one that `is_silent`, which others had better stand in for.
        """
        peer = self._peers.get(node)
        if peer is not None:
            peer.sequence = -1
            if peer.session is None:
                self._lose(peer, reason)
            elif is_silent:
                self.silent.add(node)

    def reconsider(self, standing_of: Callable[[NodeId], Standing]) -> None:
        """Trust or names may have changed; what peers are offered follows at once."""
        for node, peer in self._peers.items():
            peer.standing = standing_of(node)
            self._holders.put(peer)
        self._rules_changed()

    def set_terms(self, terms: Terms) -> None:
        """Other rules hold from now on; those whom they concern are told at once."""
        self.terms = terms
        self._rules_changed()

    def _rules_changed(self) -> None:
        # A person did this, and looks for its effect the next moment.
        ruled, self._ruled = self._ruled, anyio.Event()
        ruled.set()
        self.offers_changed()

    def offers_changed(self) -> None:
        """Tell those who are told what is offered, within OFFERS_EVERY_S."""
        changed, self._changed = self._changed, anyio.Event()
        changed.set()

    def public_offers(self) -> tuple[Offer, ...]:
        """For this cortex' own record."""
        if self._door is None:
            return ()
        own = self._neurons
        return public_offers(self.terms, own.view, own.in_flight, own.catalogue)

    # --- for the fabric

    def knows(self, model: ModelId) -> bool:
        """Whether any cortex has, or had, it. In a mesh of one this is all that a request pays."""
        return model in self._holders

    @property
    def offers_anything(self) -> bool:
        return bool(self._holders)

    def prospects(self, model: ModelId, workload: WorkloadClass) -> Iterator[Prospect]:
        """Who has or had the model, the most trusted first; at most PROSPECTS_MAX."""
        now_s = self._monotonic()
        for peer in islice(self._holders.of(model), PROSPECTS_MAX):
            why_not = peer.why_unreachable(now_s, connects=self._connect is not None)
            yield Prospect(
                peer.standing,
                peer.called,
                peer.offer(model),
                why_not or peer.why_not(model, workload),
                peer.session is not None,
                self.in_flight.get((peer.standing.node, model), 0),
            )

    def models(self) -> Iterator[tuple[ModelId, list[tuple[Standing, str, Offer]]]]:
        """Each model with those that offer it and can be asked, the most trusted first."""
        now_s = self._monotonic()
        for model in self._holders.models():
            found: list[tuple[Standing, str, Offer]] = []
            for peer in islice(self._holders.of(model), LISTED_MAX):
                offer = peer.offer(model)
                away = peer.why_unreachable(now_s, connects=self._connect is not None)
                if offer is not None and not away:
                    found.append((peer.standing, peer.called, offer))
            if found:
                yield model, found

    def offer(self, node: NodeId, model: ModelId) -> Offer | None:
        """What a cortex said of a model last."""
        peer = self._peers.get(node)
        return None if peer is None else peer.offer(model)

    def lane(self, node: NodeId) -> Lane:
        """Where requests for this peer are sent. Raises PeerLost when it is gone."""
        peer = self._peers.get(node)
        if peer is None or peer.why_unreachable(
            self._monotonic(), connects=self._connect is not None
        ):
            raise PeerLost(f"The cortex {self.called(node)} is gone.")
        return self._lanes.to(peer)

    def started(self, node: NodeId, model: ModelId) -> None:
        key = (node, model)
        self.in_flight[key] = self.in_flight.get(key, 0) + 1

    def finished(self, node: NodeId, model: ModelId) -> None:
        key = (node, model)
        left = self.in_flight.get(key, 0) - 1
        if left > 0:
            self.in_flight[key] = left
        else:
            self.in_flight.pop(key, None)

    # --- for the door, and for people

    def standing(self, node: NodeId) -> Standing | None:
        """Who a peer with a session is; None for anybody else."""
        peer = self._peers.get(node)
        return None if peer is None or peer.session is None else peer.standing

    def known(self, node: NodeId) -> Standing | None:
        """Who a cortex is, linked or not; None for one that was never heard of."""
        peer = self._peers.get(node)
        return None if peer is None else peer.standing

    def called(self, node: NodeId) -> str:
        peer = self._peers.get(node)
        return str(node)[:10] if peer is None else peer.called

    def offered_by(self, node: NodeId) -> tuple[ModelId, ...]:
        """Models that it would serve for this cortex, by its own word, as far as that is good."""
        peer = self._peers.get(node)
        if peer is None or peer.is_unheard:
            return ()
        return tuple(sorted(peer.recorded if peer.told is None else peer.told.offers))

    def withheld_by(self, node: NodeId) -> tuple[ModelId, ...]:
        """Models that it has, by its own word, and would not serve for this cortex."""
        peer = self._peers.get(node)
        if peer is None or peer.told is None or peer.is_unheard:
            return ()
        return tuple(sorted(peer.names().difference(peer.told.offers)))

    def note(self, node: NodeId) -> str:
        """What an operator should know about asking it; empty when there is nothing to say."""
        peer = self._peers.get(node)
        if peer is None:
            return ""
        away = peer.why_unreachable(self._monotonic(), connects=self._connect is not None)
        if away:
            return away
        if peer.told is not None:
            for row in peer.told.withheld:
                if not row.models and not row.classes:
                    return row.reason
        return ""

    # ---

    def _enter(self, session: Session, standing: Standing) -> Peer:
        node = session.peer
        peer = self._peers.get(node)
        if peer is None:
            peer = self._peers[node] = Peer(standing)
        peer.standing = standing
        peer.sessions.append(session)
        peer.goodbye = peer.reason = ""
        peer.since_s = None
        peer.failures, peer.retry_at_s, peer.is_unheard = 0, 0.0, False
        self._gone.pop(node, None)
        self.silent.discard(node)
        self._holders.put(peer)
        attended, self._attended = self._attended, anyio.Event()
        attended.set()
        if len(peer.sessions) == 1:
            self._events({"event": "cortex_linked", "node_id": node, "name": standing.name})
        if (early := self._early.pop(session, None)) is not None:
            self._take(peer, early)
        return peer

    def _leave(self, session: Session, peer: Peer, reason: str) -> None:
        peer.sessions.remove(session)
        if peer.session is not None:
            return
        peer.is_unheard = session.ended is None or session.ended.code != CloseCode.NORMAL
        self._lose(peer, reason)
        name = peer.standing.name
        self._events(
            {"event": "cortex_lost", "node_id": session.peer, "name": name, "reason": reason}
        )

    def _lose(self, peer: Peer, reason: str) -> None:
        node = peer.standing.node
        self.silent.discard(node)
        if peer.since_s is None:
            peer.since_s, peer.reason = self._monotonic(), reason
        if not peer.is_gone:
            return
        self._gone[node] = None
        oldest_s = self._monotonic() - GONE_REMEMBERED_S
        for one in list(self._gone):
            since_s = self._peers[one].since_s
            if len(self._gone) <= GONE_MAX and since_s is not None and since_s > oldest_s:
                break
            self._drop(one)

    def _drop(self, node: NodeId) -> None:
        del self._gone[node]
        peer = self._peers.pop(node)
        self._holders.remove(peer)
        self._lanes.close(node)

    def _lost_lane(self, peer: Peer, reason: str) -> None:
        """No session could be made: not tried again at once, nor by every request."""
        now_s = self._monotonic()
        peer.failures += 1
        peer.is_unheard = True
        peer.retry_at_s = now_s + min(2.0**peer.failures, 30.0)
        if peer.since_s is None:
            peer.since_s = now_s
        peer.reason = reason

    def _take(self, peer: Peer, told: Told) -> None:
        node = peer.standing.node
        self.silent.discard(node)
        before = self.offered_by(node)
        peer.told = told
        self._holders.put(peer)
        # Free slots come and go every few seconds; models do not.
        if (models := self.offered_by(node)) != before:
            name = peer.standing.name
            self._events(
                {"event": "cortex_offers", "node_id": node, "name": name, "models": models}
            )

    def _attends(self, session: Session) -> bool:
        peer = self._peers.get(session.peer)
        return peer is not None and session in peer.sessions

    def _offers_for(self, asker: Standing) -> ReportOffers:
        if self._door is None:
            return ReportOffers(withheld=(Withheld(reason=NO_DOOR),))
        own = self._neurons
        return offers_for(self.terms, asker, own.view, own.in_flight, own.catalogue)

    async def _report(self, session: Session, peer: Peer) -> None:
        """Tell the peer what it is offered, for the life of its session."""
        said: ReportOffers | None = None
        with suppress(LinkClosed):
            while True:
                changed, ruled = self._changed, self._ruled
                offers = self._offers_for(peer.standing)
                if offers != said:
                    await session.tell(offers)
                    said = offers
                with anyio.move_on_after(OFFERS_EVERY_S):
                    await ruled.wait()
                with anyio.move_on_after(OFFERS_REFRESH_S):
                    await changed.wait()
