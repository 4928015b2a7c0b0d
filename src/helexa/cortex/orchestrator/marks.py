"""What an operator said about neurons, kept over restarts: drained, cordoned.

The file is the truth, the fleet view has its copy. A neuron forgets at its own restart that
it was told to drain, so it is told again whenever it registers; and one that was away while
its mark was taken off is told so when it comes back.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

import anyio
import msgspec

from helexa.cortex.orchestrator.fleet import (
    NEURONS_MAX,
    FleetEvent,
    FleetView,
    Mark,
    NeuronMarked,
    Presence,
)
from helexa.mesh.files.private_files import replace_private
from helexa.protocol.errors import HelexaError, NoCapacity
from helexa.protocol.ids import NodeId, is_node_id
from helexa.util.background import background
from helexa.util.home import HomeUnusable

MARKS_FILE: Final = "marks.json"
AGAIN_S: Final = 5.0
"""After a neuron did not take the word."""
_VERSION: Final = 1

_log = logging.getLogger(__name__)


class Marks(Protocol):
    """What the control API needs of those who keep marks."""

    async def set(self, node: NodeId, mark: Mark | None) -> None:
        """In force and on the disk when this returns; the neuron is told if it is there.

        Raises NoCapacity where too many are marked, and HomeUnusable.
        """
        ...


class Fleet(Protocol):
    """What the keeper needs of `Neurons`."""

    @property
    def view(self) -> FleetView: ...

    def post(self, event: FleetEvent) -> None: ...

    async def drain(self, node: NodeId, *, enabled: bool) -> None: ...


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    version: int
    marks: dict[NodeId, Mark]
    released: tuple[NodeId, ...] = ()
    """No longer drained, and not told so yet."""


@dataclass(frozen=True, slots=True)
class Word:
    """What a neuron is to be told, and of which of its registrations that is the news."""

    node: NodeId
    drained: bool
    since_s: float


def owed(
    view: FleetView, released: frozenset[NodeId], told: Mapping[NodeId, Word]
) -> tuple[Word, ...]:
    """Who is still to be told something. `told` is the last word that each of them took."""
    words = []
    for node in sorted(view.marks.keys() | released):
        neuron = view.neurons.get(node)
        if neuron is None or neuron.presence is not Presence.PRESENT:
            continue
        drained = view.marks.get(node) is Mark.DRAINED
        word = Word(node, drained, neuron.since_s)
        if (drained or node in released) and told.get(node) != word:
            words.append(word)
    return tuple(words)


@dataclass(slots=True)
class MarksKept:
    """Made by `running`."""

    path: Path
    fleet: Fleet
    released: frozenset[NodeId] = frozenset()
    told: dict[NodeId, Word] = field(default_factory=dict)
    _telling: set[NodeId] = field(default_factory=set)
    _news: anyio.Event = field(default_factory=anyio.Event)

    @classmethod
    @asynccontextmanager
    async def running(cls, home: Path, fleet: Fleet) -> AsyncIterator[MarksKept]:
        """Post what is kept, and tell neurons inside the block. Raises HomeUnusable."""
        kept = cls(home / MARKS_FILE, fleet)
        file = _read(kept.path)
        kept.released = frozenset(file.released)
        for node, mark in file.marks.items():
            fleet.post(NeuronMarked(node=node, mark=mark))
        async with background() as tasks:
            tasks.start_soon(kept._keep_telling)
            yield kept

    def changed(self) -> None:
        """For `Neurons.watch`: somebody may have come who is owed a word."""
        self._news.set()

    async def set(self, node: NodeId, mark: Mark | None) -> None:
        marks = {**self.fleet.view.marks}
        before = marks.pop(node, None)
        if mark is not None:
            if len(marks) >= NEURONS_MAX:
                raise NoCapacity(f"{NEURONS_MAX} neurons are marked already.", 60)
            marks[node] = mark
        released = self.released - {node}
        if before is Mark.DRAINED and mark is not Mark.DRAINED:
            released |= {node}
        # On the disk first: what an operator was told to hold must hold after a crash.
        _write(self.path, marks, released)
        self.released = released
        self.told.pop(node, None)
        self.fleet.post(NeuronMarked(node=node, mark=mark))
        await self._tell_all()

    async def _keep_telling(self) -> None:
        while True:
            self._news = anyio.Event()
            await self._tell_all()
            late = owed(self.fleet.view, self.released, self.told)
            with anyio.move_on_after(AGAIN_S if late else None):
                await self._news.wait()

    async def _tell_all(self) -> None:
        async with anyio.create_task_group() as tasks:
            for word in owed(self.fleet.view, self.released, self.told):
                tasks.start_soon(self._tell, word)

    async def _tell(self, word: Word) -> None:
        if word.node in self._telling or self.told.get(word.node) == word:
            return
        self._telling.add(word.node)
        try:
            await self.fleet.drain(word.node, enabled=word.drained)
        except HelexaError as error:
            _log.info("mark_not_told", extra={"node": word.node, "why": error.message})
            return
        finally:
            self._telling.discard(word.node)
        drained = self.fleet.view.marks.get(word.node) is Mark.DRAINED
        if drained is not word.drained:
            return  # It changed meanwhile, and that is told by whoever changed it.
        self.told[word.node] = word
        if word.node in self.released:
            self.released -= {word.node}
            _write(self.path, self.fleet.view.marks, self.released)


def _read(path: Path) -> _File:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return _File(version=_VERSION, marks={})
    except OSError as error:
        raise HomeUnusable(f"cannot read {path}: {error.strerror or error}") from error
    try:
        file = msgspec.json.decode(content, type=_File)
        _check(file)
    except (ValueError, RecursionError) as error:
        raise HomeUnusable(
            f"{path} does not hold which neurons are drained or cordoned: {error}; restore it "
            "from a backup, or remove it and mark them again (helexa nodes)"
        ) from error
    return file


def _check(file: _File) -> None:
    if file.version != _VERSION:
        raise ValueError(f"it is of version {file.version}; this build reads {_VERSION}")
    for node in (*file.marks, *file.released):
        if not is_node_id(node):
            raise ValueError(f"{node[:80]!r} is no node's id")


def _write(path: Path, marks: Mapping[NodeId, Mark], released: frozenset[NodeId]) -> None:
    file = _File(version=_VERSION, marks=dict(marks), released=tuple(sorted(released)))
    try:
        replace_private(path, msgspec.json.format(msgspec.json.encode(file), indent=1) + b"\n")
    except OSError as error:
        raise HomeUnusable(f"cannot write {path}: {error.strerror or error}") from error
