"""The picker of a download that has neurons beside its origin: it performs what `choice` decides.

For each neuron that may give something a task asks for its map again and again; each map,
each piece and each end of a take is news, upon which the lanes that wait decide anew.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, Self

import anyio
import msgspec
from anyio.abc import TaskGroup

from helexa.neuron.exchange import bits
from helexa.neuron.exchange.board import Board
from helexa.neuron.exchange.choice import PEER_LANES, Ask, Drop, Fetch, Hopeless, Rest, decide
from helexa.neuron.exchange.figures import Figures
from helexa.neuron.exchange.line import Line, LineDown, Lines, NotThere, PeerGiver, PieceBusy
from helexa.neuron.exchange.swarm import Swarm
from helexa.neuron.models.supply.piece import (
    ORIGIN,
    Counting,
    Giver,
    PieceRefused,
    PieceStore,
    PieceUnavailable,
    Take,
)
from helexa.protocol.ids import NodeId
from helexa.protocol.messages import PieceHolder
from helexa.util.background import background
from helexa.util.backoff import Backoff

MAP_WAIT_S: Final = 4
"""A map comes at least so often, and with it the sign that its sender gets on."""
AGAIN: Final = Backoff(first_s=0.25, factor=1.6, most_s=3.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a picker needs of the exchange that it belongs to."""

    me: NodeId
    lines: Lines
    figures: Figures
    sources: Callable[[], Mapping[NodeId, PieceHolder]]
    sources_changed: Callable[[], anyio.Event]
    is_kin: Callable[[NodeId], bool]
    origin_lanes: int


@dataclass(slots=True)
class Past:
    """What an earlier round of the same pull found out."""

    liars: dict[NodeId, str] = field(default_factory=dict)
    disputed_by: frozenset[NodeId] = frozenset()
    """Who said what was believed where others said something else."""


class SwarmPicker:
    """`Picker`; made by `running`."""

    def __init__(
        self, store: PieceStore, origin: Giver | None, board: Board, around: Surroundings
    ) -> None:
        self._store = store
        self._origin = origin
        self._board = board
        self._around = around
        self._givers: dict[NodeId, PeerGiver] = {}
        self._gone_bytes = 0
        self._news = anyio.Event()
        self.liars: dict[NodeId, str] = {}
        self.swarm = Swarm(
            around.me,
            store.layout,
            have=bits.from_bytes(store.have, store.layout.count),
            origin_lanes=around.origin_lanes if origin else 0,
            in_order=origin.in_order if origin else False,
            now_s=anyio.current_time(),
        )
        self.lanes = self.swarm.origin_lanes + PEER_LANES

    @classmethod
    @asynccontextmanager
    async def running(
        cls,
        store: PieceStore,
        origin: Giver | None,
        board: Board,
        around: Surroundings,
        past: Past,
    ) -> AsyncIterator[Self]:
        picker = cls(store, origin, board, around)
        for index in bits.each(picker.swarm.have):
            picker._changed(index)
        picker._remember(past)
        board.swarm, board.origin_bytes = picker.swarm, picker._origin_bytes
        board.touch()
        try:
            with store.observe(picker._changed):
                async with background() as tasks:
                    tasks.start_soon(picker._keep_company, tasks, name="swarm")
                    yield picker
        finally:
            board.swarm = None
            board.touch()
            picker._conclude(past)

    # --- Picker

    async def next(self) -> Take:
        swarm = self.swarm
        while True:
            now_s = anyio.current_time()
            swarm.saw(self._bytes_seen(), now_s)
            news = self._news
            match decide(swarm, now_s, random.random):
                case Fetch(index, name):
                    swarm.began(index, name, now_s)
                    self._board.touch()
                    return Take(index, self._giver(name))
                case Ask(node, wanted):
                    swarm.members[node].asked_s = now_s
                    swarm.handed(await self._givers[node].claim(wanted))
                case Drop(index):
                    await self._store.drop(index)
                case Hopeless(reason):
                    raise PieceUnavailable(reason, final=True)
                case Rest(seconds):
                    with anyio.move_on_after(seconds):
                        await news.wait()

    def ended(self, take: Take, failure: PieceUnavailable | PieceRefused | None) -> None:
        now_s = anyio.current_time()
        took_s = now_s - self.swarm.ended(take.index, take.giver.name)
        if take.giver.name == ORIGIN:
            if failure is None:
                self.swarm.took_s(took_s)
            else:
                self.swarm.origin_failed(str(failure))
        else:
            if failure is None:
                self._around.figures.taken_bytes += self._store.layout.span(take.index)[1]
            self._peer_ended(NodeId(take.giver.name), failure, took_s, now_s)
        self._board.touch()
        self._tell()

    def _peer_ended(
        self,
        node: NodeId,
        failure: PieceUnavailable | PieceRefused | None,
        took_s: float,
        now_s: float,
    ) -> None:
        member = self.swarm.members.get(node)
        if isinstance(failure, PieceRefused):
            self._around.figures.refused_pieces += 1
            self.swarm.expose(node, str(failure))
            self._note_liars()
        elif member is None:
            return
        elif failure is None:
            member.gave(took_s)
        elif isinstance(failure, PieceBusy):
            member.was_busy(now_s)
        else:
            member.failed(now_s)

    def _giver(self, name: str) -> Giver:
        if name == ORIGIN:
            assert self._origin is not None
            return self._origin
        return self._givers[NodeId(name)]

    # --- news

    def _tell(self) -> None:
        news, self._news = self._news, anyio.Event()
        news.set()

    def _changed(self, index: int) -> None:
        digest, giver = self._store.digest(index), self._store.giver(index)
        if digest is None:
            self.swarm.dropped(index)
        else:
            self.swarm.gained(index, digest, giver, anyio.current_time())
        self._note_liars()
        self._tell()

    def _note_liars(self) -> None:
        for member in self.swarm.members.values():
            if member.liar and member.node not in self.liars:
                self.liars[member.node] = member.liar
                self._around.figures.drop(self._store.model, member.node, member.liar)

    def _bytes_seen(self) -> int:
        peers = sum(giver.bytes_seen for giver in self._givers.values())
        return self._gone_bytes + peers + self._origin_bytes()

    def _origin_bytes(self) -> int:
        origin: object = self._origin
        return origin.bytes_seen if isinstance(origin, Counting) else 0

    # --- an earlier round

    def _remember(self, past: Past) -> None:
        self.liars.update(past.liars)
        doubted = bits.of(self._store.doubted) & self.swarm.missing
        if doubted and self.swarm.has_origin:
            self.swarm.doubted = doubted
        elif doubted:
            for node in past.disputed_by:
                self.liars.setdefault(node, "what it says of pieces makes no right file")
            if not past.disputed_by:
                self.swarm.origin_failure = "what other neurons gave is not what was declared"

    def _conclude(self, past: Past) -> None:
        past.liars |= self.liars
        past.disputed_by = frozenset(
            node
            for index, digest in self.swarm.beliefs.disputed()
            for node in self.swarm.members
            if self.swarm.beliefs.says(node, index) == digest
        )

    # --- the others

    async def _keep_company(self, tasks: TaskGroup) -> None:
        """A task for each source, as they come and go."""
        scopes: dict[NodeId, anyio.CancelScope] = {}
        while True:
            changed = self._around.sources_changed()
            sources = self._around.sources()
            self.swarm.told(sources, anyio.current_time())
            for node in set(scopes) - set(self.swarm.members):
                scopes.pop(node).cancel()
            for node, member in self.swarm.members.items():
                if node in self.liars:
                    self.swarm.awaited.discard(node)
                    member.liar = self.liars[node]
                elif node not in scopes:
                    scopes[node] = anyio.CancelScope()
                    tasks.start_soon(self._within, scopes[node], sources[node], name="maps")
            self._board.touch()
            self._tell()
            await changed.wait()

    async def _within(self, scope: anyio.CancelScope, holder: PieceHolder) -> None:
        with scope:
            async with self._around.lines.to(holder) as line:
                await self._follow(line)

    async def _follow(self, line: Line) -> None:
        node, key = line.node, self._store.layout.key
        giver = PeerGiver(line, key, self._store.layout.span)
        giver.expected = self.swarm.beliefs.expected
        old = self._givers.get(node)
        if old is not None:
            self._gone_bytes += old.bytes_seen
        self._givers[node] = giver
        epoch = since = failures = 0
        while node in self.swarm.members and not self.swarm.members[node].liar:
            try:
                said = await line.map(key, epoch=epoch, since=since, wait_s=MAP_WAIT_S)
            except (LineDown, NotThere, PieceBusy) as error:
                failures += 1
                self._missed(node, error)
                await anyio.sleep(AGAIN.delay_s(failures, random.random))
                continue
            except msgspec.MsgspecError as error:
                self.swarm.expose(node, f"its map is not one: {error}")
                self.swarm.awaited.discard(node)
                self._note_liars()
                self._tell()
                return
            failures = 0
            if said.epoch != epoch:
                self.swarm.begins_anew(node)
            epoch, since = said.epoch, said.version
            now_s = anyio.current_time()
            self.swarm.heard(node, said, now_s, is_kin=self._around.is_kin(node))
            self._note_liars()
            self._board.touch_for_owners(now_s)
            self._tell()

    def _missed(self, node: NodeId, error: Exception) -> None:
        if isinstance(error, NotThere):
            self.swarm.absent(node)
        elif isinstance(error, LineDown):
            self.swarm.lost(node)
        self._tell()
