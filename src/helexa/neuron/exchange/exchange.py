"""The exchange of pieces of one neuron: who is let in, what is given, and the pickers that take."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, Final

import anyio
import msgspec

from helexa.mesh.node import MeshNode
from helexa.mesh.sessions.session import Session
from helexa.neuron.exchange.board import Boards
from helexa.neuron.exchange.circles import Circles
from helexa.neuron.exchange.figures import Figures
from helexa.neuron.exchange.giving import Giving
from helexa.neuron.exchange.line import LineDown, Lines, NotThere, PieceBusy
from helexa.neuron.exchange.picker import Past, Surroundings, SwarmPicker
from helexa.neuron.exchange.wire import EXCHANGED_BYTES_MAX
from helexa.neuron.models.supply.piece import (
    Giver,
    Local,
    Picker,
    PieceShelf,
    PieceStore,
    PieceUnavailable,
    is_content_key,
)
from helexa.neuron.models.supply.sequential import sequential
from helexa.protocol.ids import ModelId, NodeId
from helexa.protocol.messages import PieceHolder
from helexa.util.background import background
from helexa.util.http_server import App

CALL_AFTER_S: Final = 2.0
CALL_AGAIN_S: Final = 10.0
LINGER_S: Final = 5.0
"""A link that nothing is exchanged over stays so long: the next file may need it."""
PASTS_MAX: Final = 64
"""Files of which it is remembered what their pull found out."""
SIZE_WITHIN_S: Final = 10.0

IsKin = Callable[[Session], bool]
"""Whether the proven peer is of this neuron's operator."""


class PieceExchange:
    """Implements `Exchange`. Sessions are wanted only inside `running`."""

    def __init__(self, me: NodeId, shelf: PieceShelf, *, is_kin: IsKin, origin_lanes: int) -> None:
        self.figures = Figures()
        self._me = me
        self._is_kin = is_kin
        self._origin_lanes = origin_lanes
        self._circles = Circles()
        self._boards = Boards()
        self._giving = Giving(shelf, self._circles, self._boards, self.figures)
        self._pasts: dict[str, Past] = {}
        self._pulling: dict[ModelId, int] = {}
        """Pickers at work, by model."""
        self._news = anyio.Event()
        self._lines: Lines | None = None

    @asynccontextmanager
    async def running(self, mesh: MeshNode) -> AsyncIterator[None]:
        self._lines = lines = Lines(mesh)
        try:
            with self._boards:
                async with background() as tasks:
                    tasks.start_soon(self._keep_calling, lines, name="calls")
                    yield
        finally:
            self._lines = None

    @property
    def app(self) -> App:
        """For the streams of those that are admitted."""
        return self._giving.app

    # --- who

    def share(self, model: ModelId, peers: tuple[PieceHolder, ...]) -> None:
        """See `Exchange.share`."""
        self._circles.share(model, self._others(peers))
        self._tell()

    def give(self, model: ModelId, peers: tuple[PieceHolder, ...]) -> None:
        """From now on these neurons may take pieces of this model, and no others."""
        self._circles.give(model, self._others(peers))
        self._tell()

    def admits(self, node: NodeId) -> bool:
        """Whether its streams are served the pieces that it may have."""
        return self._circles.admits(node)

    async def attend(self, session: Session) -> None:
        """Return when the session ended, or when nothing is exchanged with its peer any more."""
        while session.ended is None:
            news = self._news
            if self.wants(session.peer):
                await _first_of(news.wait, session.wait_closed)
                continue
            with anyio.move_on_after(LINGER_S):
                await _first_of(news.wait, session.wait_closed)
            if not self.wants(session.peer):
                return

    def wants(self, node: NodeId) -> bool:
        """Whether there is a reason for a session with that node now."""
        if self._circles.admits(node):
            return True
        return any(node in self._circles.sources(model) for model in self._pulling)

    def _others(self, peers: tuple[PieceHolder, ...]) -> tuple[PieceHolder, ...]:
        return tuple(one for one in peers if one.node != self._me)

    async def _keep_calling(self, lines: Lines) -> None:
        """Those that may take and have not called: this neuron may be one that nobody can dial."""
        while True:
            news = self._news
            with anyio.move_on_after(CALL_AFTER_S if self._circles.takers() else None):
                await news.wait()
                continue
            async with anyio.create_task_group() as tasks:
                for node, holder in self._circles.takers().items():
                    if lines.standing(node) is None:
                        tasks.start_soon(_called, lines, holder)
            await anyio.sleep(CALL_AGAIN_S)

    # --- for pulls

    @asynccontextmanager
    async def picker(self, store: PieceStore, origin: Giver | None) -> AsyncIterator[Picker]:
        """`MakePicker`. Content without a SHA-256 is not exchanged: nothing would show a lie."""
        lines = self._lines
        fits = 0 < store.layout.piece_bytes <= EXCHANGED_BYTES_MAX
        known = is_content_key(store.layout.key)
        here = isinstance(origin, Local)
        if lines is None or here or not (fits and known):
            async with sequential(store, origin, lanes=self._origin_lanes) as alone:
                yield alone
            return
        around = Surroundings(
            me=self._me,
            lines=lines,
            figures=self.figures,
            sources=lambda: self._circles.sources(store.model),
            sources_changed=lambda: self._news,
            is_kin=lambda node: self._kin(lines, node),
            origin_lanes=self._origin_lanes,
        )
        board = self._boards.of(store)
        with self._working(store.model):
            past = self._past(store)
            async with SwarmPicker.running(store, origin, board, around, past) as picker:
                yield picker

    async def find_size(self, model: ModelId, key: str) -> int:
        """`FindSize`. Where neurons differ, what most of them say; a wrong one shows later."""
        said: dict[int, int] = {}
        lines = self._lines

        async def ask(holder: PieceHolder) -> None:
            assert lines is not None
            async with lines.to(holder) as line:
                with suppress(LineDown, NotThere, PieceBusy, msgspec.MsgspecError):
                    found = await line.map(key, epoch=0, since=0, wait_s=0)
                    said[found.size] = said.get(found.size, 0) + 1

        if lines is not None:
            with self._working(model), anyio.move_on_after(SIZE_WITHIN_S):
                async with anyio.create_task_group() as tasks:
                    for holder in self._circles.sources(model).values():
                        tasks.start_soon(ask, holder)
        if not said:
            raise PieceUnavailable("no neuron that may give it says how long it is")
        return max(said, key=lambda size: (said[size], -size))

    def _past(self, store: PieceStore) -> Past:
        past = self._pasts.pop(store.layout.key, None) or Past()
        if len(self._pasts) >= PASTS_MAX:
            del self._pasts[next(iter(self._pasts))]
        self._pasts[store.layout.key] = past
        return past

    def _kin(self, lines: Lines, node: NodeId) -> bool:
        session = lines.standing(node)
        return session is not None and self._is_kin(session)

    # --- what is seen of it

    def standing(self) -> Mapping[str, Any]:
        return self.figures.standing()

    @contextmanager
    def _working(self, model: ModelId) -> Iterator[None]:
        self._pulling[model] = self._pulling.get(model, 0) + 1
        self._tell()
        try:
            yield
        finally:
            self._pulling[model] -= 1
            if not self._pulling[model]:
                del self._pulling[model]
            self._tell()

    def _tell(self) -> None:
        news, self._news = self._news, anyio.Event()
        news.set()


async def _called(lines: Lines, holder: PieceHolder) -> None:
    with suppress(LineDown):
        await lines.session(holder)


async def _first_of(*waits: Callable[[], Awaitable[object]]) -> None:
    async with anyio.create_task_group() as tasks:

        async def wait(one: Callable[[], Awaitable[object]]) -> None:
            await one()
            tasks.cancel_scope.cancel()

        for one in waits:
            tasks.start_soon(wait, one)
