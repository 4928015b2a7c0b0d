"""The news of this cortex: numbered, kept for a while, and handed to those who watch.

A number is EPOCH-SEQUENCE; the epoch is this run of the cortex, so that a number of an
earlier run is never taken for one of this. A watcher that comes back with a number gets
what it missed, or a snapshot where too much was missed. One that reads slowly costs a
bounded queue: first what is repeated anyway is left out, then it is told that it lagged
and gets a snapshot.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple, Protocol, get_args

import anyio
import msgspec

from helexa.cortex.orchestrator.catalogue import Catalogue
from helexa.cortex.orchestrator.changes import catalogue_change, changes, passing
from helexa.cortex.orchestrator.fleet import FleetEvent, FleetView, HealthReported
from helexa.cortex.orchestrator.news import Lagged, NeuronHeartbeat, News, Passing, RequestRouted
from helexa.protocol.errors import Busy
from helexa.protocol.ids import ModelId, NodeId
from helexa.protocol.routing import Target

KEPT_MAX: Final = 4_096
KEPT_BYTES_MAX: Final = 2 * 1024 * 1024
QUEUE_MAX: Final = 1_024
"""News that wait for one watcher."""
MISSED_MAX: Final = 512
"""Who missed more is better served by a snapshot."""
QUEUE_PASSING_MAX: Final = 512
"""With more than these waiting, it is told no passing ones."""
WATCHERS_MAX: Final = 64
HEARTBEAT_EVERY_S: Final = 1.0
"""Of one neuron, however often it reports."""

_PASSING: Final = get_args(Passing)


class InForce(Protocol):
    """What of a book is looked at here."""

    @property
    def catalogue(self) -> Catalogue: ...


class Item(NamedTuple):
    id: str
    event: str
    data: bytes
    """JSON, on one line."""


class Log:
    """`emit` is for whoever has news, `watching` for whoever wants them."""

    def __init__(
        self, *, epoch: str, monotonic: Callable[[], float], unix: Callable[[], float]
    ) -> None:
        self._epoch = epoch
        self._monotonic = monotonic
        self._unix = unix
        self._sequence = 0
        self._kept: deque[tuple[int, Item]] = deque()
        self._kept_bytes = 0
        self._lost = 0
        """The last number that is kept no longer."""
        self._watchers: set[Watcher] = set()
        self._beats: dict[NodeId, float] = {}

    @property
    def is_watched(self) -> bool:
        """Whether passing news are worth making."""
        return bool(self._watchers)

    def emit(self, news: News) -> None:
        """Number it, keep it unless it is a passing one, and hand it out. Never waits."""
        is_passing = isinstance(news, _PASSING)
        if is_passing and not self._watchers:
            return
        self._sequence += 1
        item = self._item(news)
        if not is_passing:
            self._keep(item)
        for watcher in self._watchers:
            watcher.put(item, is_passing=is_passing)

    def fleet(self, before: FleetView, after: FleetView, event: FleetEvent) -> None:
        """Emit what the event changed."""
        if after is before:
            return
        for news in changes(before, after, event):
            self.emit(news)
        if self._watchers and isinstance(event, HealthReported):
            for news in passing(before, after, event):
                if not isinstance(news, NeuronHeartbeat) or self._beats_again(news.node):
                    self.emit(news)

    def routed(self, target: Target, model: ModelId) -> None:
        """A request is on its way: made into news for those who listen alone, as there are many."""
        if self._watchers:
            reason = target.reason
            self.emit(RequestRouted(model=model, node=target.node, via=target.via, reason=reason))

    def check_room(self) -> None:
        """Raises Busy when as many watch as may."""
        if len(self._watchers) >= WATCHERS_MAX:
            raise Busy(f"{WATCHERS_MAX} watch already; close one of them.", 10)

    @contextmanager
    def watching(self, since: str, snapshot: Callable[[], News]) -> Iterator[Watcher]:
        """A watcher that starts after the number `since`; after the block it costs nothing.

        `snapshot` makes what a watcher begins with that did not see what came before. Raises
        Busy when there are too many already.
        """
        self.check_room()
        watcher = Watcher(lambda: self._item(snapshot()), self._item, self._missed(since))
        self._watchers.add(watcher)
        try:
            yield watcher
        finally:
            self._watchers.discard(watcher)
            if not self._watchers:
                self._beats.clear()

    @property
    def now(self) -> str:
        """The number of the latest news."""
        return f"{self._epoch}-{self._sequence}"

    def _missed(self, since: str) -> Sequence[Item] | None:
        """What was kept since then; None where that is not all that there was."""
        epoch, _, number = since.rpartition("-")
        if epoch != self._epoch or not number.isdecimal() or len(number) > 18:
            return None
        if not self._lost <= int(number) <= self._sequence:
            return None
        missed = [item for sequence, item in self._kept if sequence > int(number)]
        return missed if len(missed) <= MISSED_MAX else None

    def _item(self, news: News) -> Item:
        told = msgspec.structs.replace(news, id=self.now, at_s=round(self._unix(), 3))
        return Item(told.id, str(news.__struct_config__.tag), msgspec.json.encode(told))

    def _keep(self, item: Item) -> None:
        self._kept.append((self._sequence, item))
        self._kept_bytes += len(item.data)
        while len(self._kept) > KEPT_MAX or self._kept_bytes > KEPT_BYTES_MAX:
            self._lost, gone = self._kept.popleft()
            self._kept_bytes -= len(gone.data)

    def _beats_again(self, node: NodeId) -> bool:
        now_s = self._monotonic()
        if now_s - self._beats.get(node, float("-inf")) < HEARTBEAT_EVERY_S:
            return False
        self._beats[node] = now_s
        return True


class CatalogueNews:
    """Tells the log what is new in a catalogue; `changed` is for `Book.watch`."""

    def __init__(self, book: InForce, log: Log) -> None:
        self._book = book
        self._log = log
        self._before = book.catalogue

    def changed(self) -> None:
        before, self._before = self._before, self._book.catalogue
        self._log.emit(catalogue_change(before, self._before))


class Watcher:
    """One reader's queue. `read` is for one task alone."""

    def __init__(
        self,
        snapshot: Callable[[], Item],
        item: Callable[[News], Item],
        missed: Sequence[Item] | None,
    ) -> None:
        """`missed` is what it begins with; None: with a snapshot."""
        self._snapshot = snapshot
        self._item = item
        self._queue: deque[Item] = deque(missed if missed is not None else (snapshot(),))
        self._lost = 0
        self._wake = anyio.Event()

    def put(self, item: Item, *, is_passing: bool) -> None:
        if is_passing and len(self._queue) >= QUEUE_PASSING_MAX:
            return
        if len(self._queue) >= QUEUE_MAX:
            self._lost += len(self._queue)
            self._queue.clear()
        if self._lost:
            self._lost += 1
        else:
            self._queue.append(item)
        self._wake.set()

    async def read(self) -> Sequence[Item]:
        """What is new, when there is any. After a loss: that there was one, and a snapshot."""
        while not self._queue and not self._lost:
            self._wake = anyio.Event()
            await self._wake.wait()
        if self._lost:
            lost, self._lost = self._lost, 0
            # Both at once: between them nothing can happen that neither of them shows.
            return [self._item(Lagged(missed=lost)), self._snapshot()]
        items = list(self._queue)
        self._queue.clear()
        return items
