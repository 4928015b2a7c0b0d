"""The pieces of one file on disk: `PieceStore` for a download, and for what it became.

The data lies in a sparse file of the whole length, what is known of it in a journal beside
it. Both are opened for each piece anew: against four megabytes that costs nothing, and a
store then has no end that somebody must remember.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Self

import anyio
import anyio.to_thread

from helexa.neuron.models.supply import journal as journals
from helexa.neuron.models.supply.journal import Entry, Heading, Journal
from helexa.neuron.models.supply.piece import Layout, PieceMissing, PieceRefused, is_content_key

_CHUNK: Final = 1 << 20

log = logging.getLogger(__name__)


class DiskPieces:
    """Made by `open_partial` or `of_whole`; the work on disk happens in threads."""

    def __init__(self, data: Path, journal_path: Path, journal: Journal) -> None:
        self.data = data
        self.journal_path = journal_path
        self.model = journal.heading.model
        self.name = journal.heading.name
        self.layout: Layout = journal.heading.layout
        self.verified = False
        self.doubted: frozenset[int] = frozenset()
        self._entries = journal.entries
        self._writing: dict[int, anyio.Event] = {}
        self._observers: list[Callable[[int], None]] = []

    @classmethod
    async def open_partial(cls, data: Path, journal_path: Path, heading: Heading) -> Self:
        """What is there already of this file, read and checked, else an empty one.

        Raises OSError.
        """
        return await anyio.to_thread.run_sync(cls._opened, data, journal_path, heading)

    @classmethod
    def of_whole(cls, data: Path, journal_path: Path) -> Self | None:
        """A file that is complete; None where its journal does not say so."""
        journal = journals.read(journal_path)
        if journal is None or len(journal.entries) != journal.heading.layout.count:
            return None
        store = cls(data, journal_path, journal)
        store.verified = is_content_key(store.layout.key)
        return store

    @classmethod
    def _opened(cls, data: Path, journal_path: Path, heading: Heading) -> Self:
        journal = journals.read(journal_path)
        if journal is None or journal.heading.layout != heading.layout or not _is_ours(data):
            data.unlink(missing_ok=True)
            journal = journals.begun(journal_path, heading)
        journals.repair(journal_path, journal)
        journal.heading = heading
        data.touch(mode=0o644)
        os.truncate(data, heading.size)
        store = cls(data, journal_path, journal)
        for index in [each for each in journal.entries if not store._is_intact(each)]:
            log.warning("piece lost", extra={"model": heading.model, "piece": index})
            del store._entries[index]
            journals.note_loss(journal_path, index)
        return store

    # --- PieceStore

    @property
    def have(self) -> bytes:
        bits = bytearray(-(-self.layout.count // 8))
        for index in self._entries:
            bits[index >> 3] |= 0x80 >> (index & 7)
        return bytes(bits)

    @property
    def have_count(self) -> int:
        return len(self._entries)

    @property
    def have_bytes(self) -> int:
        last = self.layout.count - 1
        whole = len(self._entries) * self.layout.piece_bytes
        if last not in self._entries:
            return whole
        return whole - self.layout.piece_bytes + self.layout.span(last)[1]

    @property
    def is_complete(self) -> bool:
        return len(self._entries) == self.layout.count

    def bytes_not_from(self, giver: str) -> int:
        others = [index for index, entry in self._entries.items() if entry.giver != giver]
        return sum(self.layout.span(index)[1] for index in others)

    def has(self, index: int) -> bool:
        return index in self._entries

    def digest(self, index: int) -> bytes | None:
        entry = self._entries.get(index)
        return entry.digest if entry else None

    def giver(self, index: int) -> str:
        entry = self._entries.get(index)
        return entry.giver if entry else ""

    async def read(self, index: int) -> bytes:
        if index not in self._entries:
            raise PieceMissing(index)
        return await anyio.to_thread.run_sync(self._read, index)

    async def write(self, index: int, data: bytes, giver: str) -> bool:
        _, length = self.layout.span(index)
        if len(data) != length:
            raise PieceRefused(f"piece {index} has {len(data)} bytes and not {length}")
        while (other := self._writing.get(index)) is not None:
            await other.wait()
        if index in self._entries:
            return False
        done = self._writing[index] = anyio.Event()
        try:
            # Not given up half-way: what is on disk and what is known here must agree.
            with anyio.CancelScope(shield=True):
                self._entries[index] = await anyio.to_thread.run_sync(
                    self._write, index, data, giver
                )
        finally:
            del self._writing[index]
            done.set()
        self._tell(index)
        return True

    async def drop(self, index: int) -> None:
        if self._entries.pop(index, None) is not None:
            await anyio.to_thread.run_sync(journals.note_loss, self.journal_path, index)
            self._tell(index)

    @contextmanager
    def observe(self, changed: Callable[[int], None]) -> Iterator[None]:
        self._observers.append(changed)
        try:
            yield
        finally:
            self._observers.remove(changed)

    # --- the whole

    def adopt(self, giver: str) -> None:
        """Take what the data file holds already for pieces; for a thread."""
        for index in range(self.layout.count):
            start, length = self.layout.span(index)
            digest = hashlib.sha256(_read_at(self.data, start, length)).digest()
            entry = Entry(digest, giver)
            journals.note(self.journal_path, index, entry)
            self._entries[index] = entry

    def discard(self) -> None:
        """Nothing of it is left on disk; for a thread."""
        self.data.unlink(missing_ok=True)
        self.journal_path.unlink(missing_ok=True)

    def _is_intact(self, index: int) -> bool:
        start, length = self.layout.span(index)
        try:
            data = _read_at(self.data, start, length)
        except OSError:
            return False
        return hashlib.sha256(data).digest() == self._entries[index].digest

    def _read(self, index: int) -> bytes:
        start, length = self.layout.span(index)
        entry = self._entries.get(index)
        try:
            data = _read_at(self.data, start, length)
        except OSError as error:
            raise PieceMissing(index) from error
        if entry is None or hashlib.sha256(data).digest() != entry.digest:
            raise PieceMissing(index)
        return data

    def _write(self, index: int, data: bytes, giver: str) -> Entry:
        start, _ = self.layout.span(index)
        file = os.open(self.data, os.O_WRONLY | os.O_CLOEXEC)
        try:
            view = memoryview(data)
            while view:
                written = os.pwrite(file, view, start)
                view, start = view[written:], start + written
        finally:
            os.close(file)
        entry = Entry(hashlib.sha256(data).digest(), giver)
        journals.note(self.journal_path, index, entry)
        return entry

    def _tell(self, index: int) -> None:
        for observer in tuple(self._observers):
            observer(index)


def _is_ours(data: Path) -> bool:
    """A file with a second name is somebody's own: writing into it would change theirs."""
    try:
        return data.lstat().st_nlink == 1 and not data.is_symlink()
    except OSError:
        return False


def _read_at(path: Path, start: int, length: int) -> bytes:
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = []
        while length:
            part = os.pread(file, min(length, _CHUNK), start)
            if not part:
                raise OSError("the file ends early")
            parts.append(part)
            start, length = start + len(part), length - len(part)
        return b"".join(parts)
    finally:
        os.close(file)
