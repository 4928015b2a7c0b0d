"""One file, from its missing pieces to one that is whole and what it was declared to be."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import Final

import anyio
import anyio.from_thread
import anyio.to_thread

from helexa.neuron.models.supply.disk_pieces import DiskPieces
from helexa.neuron.models.supply.failure import OriginChanged, SourceFailed
from helexa.neuron.models.supply.piece import (
    ORIGIN,
    Giver,
    MakePicker,
    Picker,
    PieceRefused,
    PieceUnavailable,
    Take,
)
from helexa.neuron.models.supply.sequential import sequential
from helexa.neuron.models.supply.source import RemoteFile

DOUBTS_MAX: Final = 4
"""How often other peers' pieces are tried where there is no origin, and the whole was wrong."""
_CHUNK: Final = 1 << 20

log = logging.getLogger(__name__)


async def download(
    store: DiskPieces, file: RemoteFile, origin: Giver | None, make_picker: MakePicker
) -> None:
    """Return when the file is whole and right. What arrived stays, whatever is raised.

    Raises SourceFailed (where the content is wrong: then it is gone), OriginChanged, and
    OSError where the disk would not take it.
    """
    await _fetch(store, origin, make_picker)
    wrong = await _difference(store.data, file)
    for make_doubtful in _doubts(origin, make_picker):
        given = [index for index in range(store.layout.count) if store.giver(index) != ORIGIN]
        if not wrong or not given:
            break
        log.warning("pieces of peers dropped", extra={"file": file.name, "reason": wrong})
        store.doubted = frozenset(given)
        for index in given:
            await store.drop(index)
        try:
            await _fetch(store, origin, make_doubtful)
        except SourceFailed as error:
            if origin is not None:
                raise
            wrong = f"{wrong}; {error.reason}"
            break
        wrong = await _difference(store.data, file)
    if wrong:
        for index in range(store.layout.count):
            await store.drop(index)
        await anyio.to_thread.run_sync(store.discard)
        raise SourceFailed(f"{file.name}: {wrong}")
    store.verified = bool(file.sha256)


def _doubts(origin: Giver | None, make_picker: MakePicker) -> tuple[MakePicker, ...]:
    """Who is asked for pieces anew when the whole is wrong, round by round."""
    if origin is None:
        return (make_picker,) * DOUBTS_MAX
    # The first round shows who lied. The second has no peers in it, whatever they say.
    return make_picker, sequential


async def _fetch(store: DiskPieces, origin: Giver | None, make_picker: MakePicker) -> None:
    if store.is_complete:
        return
    async with make_picker(store, origin) as picker:
        lanes = _Lanes(store, picker)
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:
                lanes.scope = scope
                for number in range(picker.lanes):
                    tasks.start_soon(lanes.work, name=f"lane {number} of {store.name}")
    if lanes.failure is not None:
        raise lanes.failure


class _Lanes:
    """The first failure of any lane is that of all."""

    def __init__(self, store: DiskPieces, picker: Picker) -> None:
        self.failure: Exception | None = None
        self.scope: anyio.CancelScope | None = None
        self._store = store
        self._picker = picker

    async def work(self) -> None:
        try:
            while not self._store.is_complete:
                await self._take(await self._picker.next())
        except PieceUnavailable as error:
            self.failure = self.failure or SourceFailed(error.reason)
        except (OriginChanged, OSError) as error:
            self.failure = self.failure or error
        if self.scope is not None:
            self.scope.cancel()

    async def _take(self, take: Take) -> None:
        failure: PieceUnavailable | PieceRefused | None = None
        try:
            data = await take.giver.fetch(take.index)
            await self._store.write(take.index, data, take.giver.name)
        except (PieceUnavailable, PieceRefused) as error:
            failure = error
        self._picker.ended(take, failure)


async def _difference(path: Path, file: RemoteFile) -> str:
    """What is wrong with the whole file; empty where nothing is, or nothing was declared."""
    if not file.sha256 and not file.git_sha1:
        return ""
    return await anyio.to_thread.run_sync(_compared, path, file)


def _compared(path: Path, file: RemoteFile) -> str:
    sha256 = hashlib.sha256()
    # Git's own hash of a small file, where its hub gives no better one.
    blob = hashlib.sha1(b"blob %d\0" % file.size, usedforsecurity=False)
    with path.open("rb", buffering=0) as data:
        while chunk := data.read(_CHUNK):
            anyio.from_thread.check_cancelled()
            if file.sha256:
                sha256.update(chunk)
            else:
                blob.update(chunk)
    if file.sha256 and sha256.hexdigest() != file.sha256:
        return f"its SHA-256 is {sha256.hexdigest()}, and {file.sha256} was declared"
    if not file.sha256 and blob.hexdigest() != file.git_sha1:
        return f"git's hash of it is {blob.hexdigest()}, and {file.git_sha1} was declared"
    return ""
