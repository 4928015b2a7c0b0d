"""All pulls of this neuron and what they brought: asked for, going on, failed, here, gone again.

One pull a model however many ask; a bounded number at once, the others wait in order. What
is wanted is on disk before it is promised, so a neuron that was killed goes on by itself.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Final, Protocol

import anyio
import anyio.to_thread
import msgspec
from anyio.abc import TaskGroup

from helexa.neuron.models.supply import disk
from helexa.neuron.models.supply.disk_pieces import DiskPieces
from helexa.neuron.models.supply.failure import SourceFailed
from helexa.neuron.models.supply.piece import Exchange, MakePicker, PieceStore
from helexa.neuron.models.supply.pull import Pull, Workshop
from helexa.neuron.models.supply.records import Record, Records, Stage
from helexa.neuron.models.supply.sequential import sequential
from helexa.neuron.models.supply.source import Means
from helexa.protocol.errors import Busy, ModelUnknown, QueueFull, RequestRejected
from helexa.protocol.ids import ModelId
from helexa.protocol.messages import ModelSource, PieceHolder
from helexa.protocol.work import ModelProgress
from helexa.util.background import background

RECORDS_MAX: Final = 1_024
PULLS_WAITING_MAX: Final = 256
LOOK_EVERY_S: Final = 2.0
USE_NOTED_EVERY_S: Final = 60.0
UNUSABLE: Final = (
    "This neuron cannot pull into its models folder: another one does, or it is not writable."
)

log = logging.getLogger(__name__)


class Shelf(Protocol):
    """The models folder as pulls need it: `ModelStore` is one."""

    def holds(self, model: ModelId) -> bool:
        """Whether there are files of that name, good or bad."""
        ...

    async def scan(self) -> bool: ...

    def refresh(self) -> None:
        """Look again soon and tell everybody, whether the folder changed or not."""
        ...


class Pulls:
    """Use inside `running`. Implements `PieceShelf`."""

    def __init__(
        self,
        shelf: Shelf,
        records: Records,
        *,
        limit: int,
        reserve: int,
        parallel: int,
        unix: Callable[[], float] = time.time,
    ) -> None:
        self.disk_free_bytes = 0
        self._shelf = shelf
        self._records = records
        self._limit = limit
        self._reserve = reserve
        self._turns = anyio.CapacityLimiter(parallel)
        self._unix = unix
        self._known: dict[ModelId, Record] = {}
        self._active: dict[ModelId, Pull] = {}
        self._whole: dict[ModelId, tuple[DiskPieces, ...]] = {}
        self._in_use: Callable[[ModelId], bool] = _never
        self._exchange: Exchange | None = None
        self._workshop: Workshop
        self._tasks: TaskGroup
        self._is_usable = False
        self._saving = anyio.Lock()
        self._making_room = anyio.Lock()
        self._granted: set[ModelId] = set()
        """Pulls that were promised the room for what they miss."""
        self._used_unix: dict[ModelId, float] = {}

    @asynccontextmanager
    async def running(
        self,
        means: Means,
        in_use: Callable[[ModelId], bool],
        picker: MakePicker = sequential,
        exchange: Exchange | None = None,
    ) -> AsyncIterator[None]:
        """`in_use`: loaded, or on its way there. At the end of the block all pulls pause."""
        self._in_use, self._exchange = in_use, exchange
        self._workshop = Workshop(
            records=self._records,
            means=means,
            picker=picker,
            make_room=self._make_room,
            save=self._save,
            changed=self._shelf.refresh,
        )
        with self._records.claimed() as self._is_usable:
            if self._is_usable:
                self._known = await anyio.to_thread.run_sync(self._records.load)
            async with background() as self._tasks:
                await self._look()
                self._tasks.start_soon(self._keep_looking, name="disk")
                for record in sorted(self._known.values(), key=lambda one: one.asked_unix):
                    if record.stage is Stage.WANTED:
                        self._start(record)
                yield

    # --- for those who command

    async def pull(
        self,
        model: ModelId,
        source: ModelSource,
        *,
        peers: tuple[PieceHolder, ...] = (),
        pin: bool = False,
    ) -> bool:
        """Whether there is something to fetch; False where the model is here.

        Raises RequestRejected where it is here or on its way from another source, QueueFull,
        and Busy where this neuron cannot pull at all.
        """
        if (leaving := self._active.get(model)) is not None and leaving.scope.cancel_called:
            await leaving.over.wait()
        known = self._known.get(model)
        self._check(model, source, known)
        if self._shelf.holds(model) and model not in self._active:
            if known is not None and known.pin != pin:
                await self._save(msgspec.structs.replace(known, pin=pin))
                self._shelf.refresh()
            return False
        self._share(model, peers)
        active = self._active.get(model)
        if active is not None:
            active.record = msgspec.structs.replace(active.record, peers=peers, pin=pin)
            await self._save(active.record)
            return True
        # Asked anew after it failed or was stopped: which files it has is asked anew too.
        record = Record(model=model, source=source, pin=pin, peers=peers, asked_unix=self._unix())
        await self._save(record)
        if model not in self._active:
            self._start(record)
        return True

    async def cancel(self, model: ModelId) -> None:
        """Return when it has stopped; nothing happens where none goes on."""
        pull = self._active.get(model)
        if pull is not None:
            pull.record = msgspec.structs.replace(pull.record, stage=Stage.STOPPED)
            pull.scope.cancel()
            await pull.over.wait()

    async def remove(self, model: ModelId) -> None:
        """Return when its files are gone, and what a pull of it left.

        Raises Busy while it is loaded, ModelUnknown, and RequestRejected for files that no
        pull brought.
        """
        known = self._known.get(model)
        if known is None:
            if self._shelf.holds(model):
                raise RequestRejected(
                    reason=f"{model!r} was put there by somebody; no pull brought it.",
                    field="model",
                )
            raise ModelUnknown(model=model)
        if self._in_use(model):
            raise Busy(reason=f"{model!r} is loaded; unload it before it is removed.")
        await self.cancel(model)
        await self._remove(model)

    def _check(self, model: ModelId, source: ModelSource, known: Record | None) -> None:
        if not self._is_usable:
            raise Busy(reason=UNUSABLE, wait_s=60)
        if known is None:
            if self._shelf.holds(model):
                return
            if len(self._known) >= RECORDS_MAX:
                raise QueueFull(reason=f"This neuron knows of {RECORDS_MAX} pulls already.")
        elif known.source != source and (model in self._active or self._shelf.holds(model)):
            raise RequestRejected(
                reason=f"{model!r} is here from {known.shown_source}, or on its way; remove it "
                "before it is pulled from elsewhere.",
                field="source",
            )
        if model not in self._active and len(self._active) >= PULLS_WAITING_MAX:
            raise QueueFull(reason=f"{PULLS_WAITING_MAX} pulls go on or wait already.", wait_s=30)

    # --- for those who watch

    async def settled(self, model: ModelId) -> Record | None:
        """Return when no pull of it goes on, with how it stands."""
        while (pull := self._active.get(model)) is not None:
            await pull.over.wait()
        return self._known.get(model)

    def record(self, model: ModelId) -> Record | None:
        """What is known of a model that a pull brought, or is to bring."""
        active = self._active.get(model)
        return active.record if active else self._known.get(model)

    def records(self) -> Iterable[Record]:
        return [
            self._active[model].record if model in self._active else known
            for model, known in sorted(self._known.items())
        ]

    def progress_of(self, model: ModelId) -> ModelProgress | None:
        """None where no pull of it goes on."""
        pull = self._active.get(model)
        return pull.progress() if pull else None

    def have_bytes(self, model: ModelId) -> int | None:
        """What arrived of it; None where no pull of it goes on."""
        pull = self._active.get(model)
        return pull.have_bytes if pull else None

    def progress(self) -> tuple[ModelProgress, ...]:
        return tuple(self._active[model].progress() for model in sorted(self._active))

    # --- PieceShelf

    def find(self, key: str) -> PieceStore | None:
        for model in [*self._active, *self._known]:
            for store in self.of_model(model):
                if store.layout.key == key:
                    return store
        return None

    def of_model(self, model: ModelId) -> tuple[PieceStore, ...]:
        pull = self._active.get(model)
        if pull is not None:
            return tuple(pull.stores.values())
        if model not in self._whole:
            record = self._known.get(model)
            if record is None or record.stage is not Stage.HERE:
                return ()
            self._whole[model] = tuple(self._wholes(record))
        return self._whole[model]

    def _wholes(self, record: Record) -> Iterable[DiskPieces]:
        for file in record.found.files if record.found else ():
            store = DiskPieces.of_whole(
                self._records.target(file), self._records.journal(record.model, file)
            )
            if store is not None:
                yield store

    # --- one pull

    def _start(self, record: Record) -> None:
        pull = self._active[record.model] = Pull(record=record, workshop=self._workshop)
        self._share(record.model, record.peers)
        self._tasks.start_soon(self._attend, pull, name=f"pull of {record.model}")
        self._shelf.refresh()

    async def _attend(self, pull: Pull) -> None:
        reason, done = "", False
        with pull.scope:
            try:
                async with self._turns:
                    log.info(
                        "pull", extra={"model": pull.model, "source": pull.record.shown_source}
                    )
                    await pull.run()
                    done = True
            except SourceFailed as error:
                reason = error.reason
            except Exception:
                # One pull's fault must not take the neuron down.
                log.exception("pull ended", extra={"model": pull.model})
                reason = "it ended by a fault of this neuron's; its log says which"
        with anyio.CancelScope(shield=True):
            await self._settle(pull, reason, done=done)

    async def _settle(self, pull: Pull, reason: str, *, done: bool) -> None:
        record = pull.record
        if done:
            record = msgspec.structs.replace(record, stage=Stage.HERE, used_unix=self._unix())
        elif reason:
            log.warning("pull failed", extra={"model": pull.model, "reason": reason})
            record = msgspec.structs.replace(record, stage=Stage.FAILED, reason=reason)
        try:
            await self._save(record)
            # Seen in the folder before it is no longer seen as a pull: it is never nowhere.
            await self._shelf.scan()
        finally:
            self._whole.pop(pull.model, None)
            del self._active[pull.model]
            self._granted.discard(pull.model)
            pull.over.set()
            self._shelf.refresh()

    async def _save(self, record: Record) -> None:
        self._known[record.model] = record
        try:
            async with self._saving:
                await anyio.to_thread.run_sync(self._records.save, record)
        except OSError as error:
            log.warning("record not kept", extra={"model": record.model, "reason": str(error)})

    def _share(self, model: ModelId, peers: tuple[PieceHolder, ...]) -> None:
        if self._exchange is not None:
            self._exchange.share(model, peers)

    # --- the disk

    async def _make_room(self, model: ModelId, need: int) -> None:
        # One at a time: two that count on the same room would both get it.
        async with self._making_room:
            self._granted.discard(model)
            measured = await self._measured()
            held = [self._held(record) for record in self._known.values()]
            for leaving in disk.removals(model, need, measured, held):
                if not self._in_use(leaving) and leaving not in self._active:
                    log.info("model removed for room", extra={"model": leaving, "wanted": model})
                    await self._remove(leaving)
            self._granted.add(model)

    async def _measured(self) -> disk.Disk:
        promised = sum(self._active[model].missing_bytes for model in self._granted)
        return await anyio.to_thread.run_sync(
            disk.measured, self._records.models_dir, self._limit, self._reserve, promised
        )

    def _held(self, record: Record) -> disk.Held:
        # What somebody deleted by hand gives no room a second time.
        is_here = record.stage is Stage.HERE and self._shelf.holds(record.model)
        return disk.Held(
            model=record.model,
            size=record.total_bytes if is_here else disk.blocks(self._records.folder(record.model)),
            used_unix=max(self._used_unix.get(record.model, 0.0), record.used_unix),
            is_leftover=not is_here,
            is_kept=(is_here and record.pin)
            or record.model in self._active
            or self._in_use(record.model),
        )

    async def _remove(self, model: ModelId) -> None:
        record = self._known.pop(model)
        self._whole.pop(model, None)
        async with self._saving:
            await anyio.to_thread.run_sync(self._records.remove, record)
        await self._shelf.scan()
        self._shelf.refresh()

    async def _keep_looking(self) -> None:
        while True:
            await anyio.sleep(LOOK_EVERY_S)
            await self._look()

    async def _look(self) -> None:
        """How much room there is, and which models are in use."""
        try:
            self.disk_free_bytes = (await self._measured()).room
        except OSError as error:
            log.warning("disk not measured", extra={"reason": str(error)})
        now = self._unix()
        for model in list(self._known):
            record = self._known.get(model)
            if record is None:
                continue
            if self._in_use(model):
                self._used_unix[model] = now
            used = self._used_unix.get(model, 0.0)
            # When it leaves memory, and now and then before: a disk need not be told more often.
            if used - record.used_unix > (USE_NOTED_EVERY_S if used == now else 0):
                await self._save(msgspec.structs.replace(record, used_unix=used))


def _never(model: ModelId) -> bool:
    del model
    return False
