"""One pull, from what was asked to files in the models folder: find, make room, fetch, place.

Every step may be the last before a kill -9. What is done is on disk before it counts, and
each step begins by looking at what is there, so that going on is the same as beginning.
"""

from __future__ import annotations

import errno
import logging
import os
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread
import msgspec

from helexa.neuron.models.supply.disk_pieces import DiskPieces
from helexa.neuron.models.supply.download import download
from helexa.neuron.models.supply.failure import OriginChanged, SourceFailed
from helexa.neuron.models.supply.journal import Heading
from helexa.neuron.models.supply.meter import Meter
from helexa.neuron.models.supply.piece import ORIGIN, Giver, MakePicker
from helexa.neuron.models.supply.records import Record, Records
from helexa.neuron.models.supply.source import Asked, Found, Linking, Means, RemoteFile, Source
from helexa.neuron.models.supply.sources import open_source
from helexa.protocol.errors import DoesNotFit
from helexa.protocol.ids import ModelId
from helexa.protocol.work import ModelProgress, Phase, Progress
from helexa.util.backoff import Backoff

FINDS_MAX: Final = 8
"""Failures in a row of asking which files there are."""
RESTARTS_MAX: Final = 3
"""How often the files may become others while they are fetched."""
_BACKOFF: Final = Backoff(first_s=0.25, factor=2.0, most_s=30.0)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workshop:
    """What every pull of this neuron works with."""

    records: Records
    means: Means
    picker: MakePicker
    make_room: Callable[[ModelId, int], Awaitable[None]]
    """For so many more bytes, which are promised to it from then on. Raises DoesNotFit."""
    save: Callable[[Record], Awaitable[None]]
    changed: Callable[[], None]
    clock: Callable[[], float] = time.monotonic


@dataclass(slots=True, kw_only=True)
class Pull:
    """`run` once. The rest may be looked at by anybody at any time."""

    record: Record
    workshop: Workshop
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    stores: dict[str, DiskPieces] = field(default_factory=dict)
    """By target, of the files that were begun."""
    over: anyio.Event = field(default_factory=anyio.Event)
    placed_bytes: int = 0
    _origins: list[Giver] = field(default_factory=list)
    """Of the files that are being fetched."""
    _shown_bytes: int = 0
    _meter: Meter = field(default_factory=Meter)

    @property
    def model(self) -> ModelId:
        return self.record.model

    @property
    def have_bytes(self) -> int:
        return self.placed_bytes + sum(store.have_bytes for store in self.stores.values())

    @property
    def missing_bytes(self) -> int:
        return max(0, self.record.total_bytes - self.have_bytes)

    def progress(self) -> ModelProgress:
        """At least as often as somebody asks, the rate is measured."""
        now = self.workshop.clock()
        # A piece counts while it comes: a slow line needs a minute for one. It is counted in two
        # places in turn, and what was shown is not taken back for the moment between them.
        coming = sum(getattr(origin, "bytes_coming", 0) for origin in self._origins)
        total = self.record.total_bytes
        have = min(self.have_bytes + coming, total) if total else self.have_bytes
        have = self._shown_bytes = max(have, min(self._shown_bytes, total))
        self._meter.note(now, have)
        left = max(0, total - have)
        known = self.record.found is not None
        return ModelProgress(
            model=self.model,
            progress=Progress(
                phase=Phase.DOWNLOADING,
                bytes_done=have,
                bytes_total=total,
                eta_s=self._meter.eta_s(now, left) if known else None,
            ),
            bytes_from_peers=sum(store.bytes_not_from(ORIGIN) for store in self.stores.values()),
        )

    async def run(self) -> None:
        """Return when the files are in place. Raises SourceFailed with the reason."""
        try:
            for _ in range(RESTARTS_MAX):
                try:
                    await self._run()
                except OriginChanged as error:
                    log.info("pull begun anew", extra={"model": self.model, "reason": str(error)})
                    await self._keep(found=None)
                    self.stores.clear()
                else:
                    return
            raise SourceFailed("the files at its source change faster than they can be fetched")
        except DoesNotFit as error:
            raise SourceFailed(error.message) from error
        except OSError as error:
            raise SourceFailed(_words_of(error)) from error

    async def _run(self) -> None:
        source = open_source(self.record.source.source, self.workshop.means)
        files = (await self._found(source)).files
        await self._begin(files)
        await self.workshop.make_room(self.model, self.missing_bytes)
        for file in files:
            if file.target in self.stores:
                await self._fetch(source, file)
        # Who is cancelled here has the model all the same.
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self._place, files)

    # --- which files

    async def _found(self, source: Source) -> Found:
        if self.record.found is not None:
            return self.record.found
        asked = Asked(
            model=self.model,
            source=self.record.source.source,
            files=self.record.source.files,
            quantisation=self.record.source.quantisation,
        )
        failures = 0
        while True:
            try:
                found = await source.find(asked)
            except SourceFailed as error:
                failures += 1
                if error.final or failures >= FINDS_MAX:
                    raise
                wait_s = error.retry_after_s or _BACKOFF.delay_s(failures, random.random)
                await anyio.sleep(wait_s)
            else:
                await self._keep(found=found)
                await anyio.to_thread.run_sync(self.workshop.records.keep_only, self.record)
                return found

    async def _begin(self, files: tuple[RemoteFile, ...]) -> None:
        records = self.workshop.records
        self.placed_bytes = 0
        for file in files:
            if await anyio.to_thread.run_sync(self._is_in_place, file):
                self.placed_bytes += file.size
                continue
            heading = Heading(key=file.layout.key, size=file.size, model=self.model, name=file.name)
            self.stores[file.target] = await DiskPieces.open_partial(
                records.part(self.model, file), records.journal(self.model, file), heading
            )
        self._meter.restart()
        self._shown_bytes = 0
        self.workshop.changed()

    def _is_in_place(self, file: RemoteFile) -> bool:
        """Put there by this pull, which was ended before it could say so."""
        records = self.workshop.records
        if not records.target(file).exists():
            return False
        if not records.brought(self.model, file):
            raise SourceFailed(
                f"{file.target} is in the models folder already, and no pull brought it"
            )
        return True

    # --- their content

    async def _fetch(self, source: Source, file: RemoteFile) -> None:
        store = self.stores[file.target]
        if not store.have_count and isinstance(source, Linking):
            await anyio.to_thread.run_sync(self._link, source, file, store)
        async with source.giver(file) as origin:
            if origin is not None:
                self._origins.append(origin)
            try:
                await download(store, file, origin, self.workshop.picker)
            finally:
                self._origins = [one for one in self._origins if one is not origin]

    def _link(self, source: Linking, file: RemoteFile, store: DiskPieces) -> None:
        beside = store.data.with_suffix(".link")
        beside.unlink(missing_ok=True)
        if source.link(file, beside):
            beside.replace(store.data)
            store.adopt(ORIGIN)

    # --- in the models folder

    def _place(self, files: tuple[RemoteFile, ...]) -> None:
        records = self.workshop.records
        for file in files:
            store = self.stores.get(file.target)
            if store is None:
                continue
            target = records.target(file)
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.exists():
                raise SourceFailed(f"{file.target} has appeared in the models folder meanwhile")
            _to_disk(store.data)
            store.data.replace(target)
            store.data = target
            _to_disk(target.parent)

    async def _keep(self, *, found: Found | None) -> None:
        self.record = msgspec.structs.replace(self.record, found=found)
        await self.workshop.save(self.record)


def _to_disk(path: Path) -> None:
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _words_of(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full; what arrived stays, and goes on when there is room"
    return f"the disk would not take it: {error.strerror or error}"
