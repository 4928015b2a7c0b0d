"""The catalogue that is in force, and changing it while the cortex runs.

Two sources: the operator's file, which is read again when it changes, and entries made
by call, which are kept in this cortex's home. A change is judged with all the rest first;
it is in force as a whole or not at all, and what was made by call is then on the disk.

The file comes first: an entry made by call whose id the file takes later steps back, and
is there again once the file lets go of it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import anyio
from anyio import to_thread

from helexa.cortex.orchestrator.catalogue import Catalogue, catalogue
from helexa.cortex.orchestrator.entries import EntriesSource, KeptEntries, Written
from helexa.cortex.orchestrator.soundness import Fault, path_text, problems
from helexa.cortex.settings import ModelEntry, OrchestratorSettings
from helexa.protocol.errors import CatalogueConflict, ModelUnknown, RequestRejected
from helexa.util.home import HomeUnusable

BY_CALL: Final = "made by call"
"""The origin of an entry that no file has."""
TOLD_MAX: Final = 20
"""Faults that one refusal names; the others are counted."""

_log = logging.getLogger(__name__)


class Book:
    """Its one owner is the event loop; every change is made between two of its steps."""

    def __init__(
        self,
        kept: KeptEntries,
        source: EntriesSource,
        emit: Callable[[Mapping[str, Any]], None] = lambda _event: None,
    ) -> None:
        """`emit` is told of changes, as JSON-shaped objects.

        Raises HomeUnusable where what was kept cannot be used, or does not go with the file.
        """
        self.revision = 1
        """One more with each change, from 1 at the start of the process."""
        self.problems: tuple[str, ...] = ()
        """Why the file as it is now is not in force; the catalogue is as before."""
        self._kept = kept
        self._source = source
        self._emit = emit
        self._watchers: list[Callable[[], None]] = []
        self._reading = anyio.Lock()
        self._wanted = anyio.Event()
        self._written = source.given()
        self._own = kept.read()
        faults = problems(_together(self._written, self._own))
        if faults:
            told = "\n".join(_told(fault, self._written) for fault in faults[:TOLD_MAX])
            raise HomeUnusable(f"{kept.path} and the configuration do not go together:\n{told}")
        self._catalogue = catalogue(_together(self._written, self._own))

    # --- what is in force

    @property
    def catalogue(self) -> Catalogue:
        return self._catalogue

    @property
    def orchestrator(self) -> OrchestratorSettings:
        """`[orchestrator]` as it is in force; `provision` as it was at the start."""
        return self._written.orchestrator

    @property
    def stale(self) -> tuple[str, ...]:
        """Settings that the file changed and that hold after a restart."""
        return self._written.stale

    @property
    def stamp(self) -> object:
        """How the file looked when what is in force was read."""
        return self._written.stamp

    @property
    def stepped_back(self) -> tuple[str, ...]:
        """Entries made by call that are not in force, because the file has one of that id."""
        of_file = self._of_file()
        return tuple(entry.id for entry in self._own if entry.id in of_file)

    def origin(self, model: str) -> str:
        """`FILE:LINE` or `made by call`; empty for one that has no entry."""
        if (line := self._of_file().get(model)) is not None:
            return line
        return BY_CALL if model in self._catalogue.entries else ""

    def watch(self, changed: Callable[[], None]) -> None:
        """Be told after each change, with the catalogue in force."""
        self._watchers.append(changed)

    # --- changes by call

    def put(self, entry: ModelEntry) -> bool:
        """Make or replace one; whether it is new. On the disk when this returns.

        Raises CatalogueConflict for one of the file, RequestRejected for one that is not
        sound, HomeUnusable where it cannot be kept. Then nothing changed.
        """
        self._check_free([entry.id])
        own = {one.id: one for one in self._own}
        is_new = entry.id not in own
        self._change(list({**own, entry.id: entry}.values()))
        return is_new

    def remove(self, model: str) -> None:
        """As `put`; ModelUnknown for one that has no entry, CatalogueConflict where others
        still name it.
        """
        self._check_free([model])
        rest = [one for one in self._own if one.id != model]
        if len(rest) == len(self._own):
            raise ModelUnknown(model)
        self._change(rest)

    def replace(self, entries: Iterable[ModelEntry]) -> None:
        """As `put`, for all entries made by call at once: those not named are gone."""
        entries = list(entries)
        self._check_free(entry.id for entry in entries)
        of_file = self._of_file()
        self._change([*entries, *(one for one in self._own if one.id in of_file)])

    # --- changes of the file

    def reread(self) -> None:
        """Have whoever runs `keep_reading` read the file soon."""
        self._wanted.set()

    async def wanted(self) -> None:
        """Return when somebody asked to `reread`, once for each time."""
        await self._wanted.wait()
        self._wanted = anyio.Event()

    async def reload(self) -> tuple[str, ...]:
        """Read the file now. Its problems, with which the catalogue is as before; or none, and
        what it says is in force.
        """
        # Of two readers the later one has the last word.
        async with self._reading:
            self._take(await to_thread.run_sync(self._source.read))
        return self.problems

    def _take(self, written: Written) -> None:
        told = written.problems
        if not told:
            faults = problems(_together(written, self._own))
            told = tuple(_told(fault, written) for fault in faults)
        if told != self.problems and told:
            _log.warning(
                "the catalogue stays as it is: %s cannot be used",
                self._source.where,
                extra={"problems": " | ".join(told[:TOLD_MAX])},
            )
            self._emit({"event": "catalogue_refused", "problems": list(told[:TOLD_MAX])})
        self.problems = told
        if told:
            return
        before, self._written = self._written, written
        if written.stale and written.stale != before.stale:
            _log.warning(
                "settings changed that hold after a restart",
                extra={"settings": " | ".join(written.stale)},
            )
        if (written.entries, written.orchestrator) != (before.entries, before.orchestrator):
            self._renew()

    # ---

    def _of_file(self) -> dict[str, str]:
        written = self._written
        return {
            entry.id: origin for entry, origin in zip(written.entries, written.origins, strict=True)
        }

    def _check_free(self, models: Iterable[str]) -> None:
        of_file = self._of_file()
        for model in models:
            if model in of_file:
                where = of_file[model]
                raise CatalogueConflict(f"{model!r} is an entry of {where}; change it there.", "id")

    def _change(self, own: Sequence[ModelEntry]) -> None:
        if tuple(own) == self._own:
            return
        faults = problems(_together(self._written, own))
        if faults:
            raise _refusal(faults, [entry.id for entry in own if entry not in self._own])
        try:
            # On the disk first: what was answered with success must hold after a crash.
            self._kept.write(own)
        except ValueError as error:
            raise RequestRejected(f"The entry cannot be kept: {error}.") from error
        self._own = tuple(own)
        self._renew()

    def _renew(self) -> None:
        self._catalogue = catalogue(_together(self._written, self._own))
        self.revision += 1
        self._emit(
            {
                "event": "catalogue_changed",
                "revision": self.revision,
                "models": len(self._catalogue.entries),
            }
        )
        for changed in self._watchers:
            changed()


def _together(written: Written, own: Iterable[ModelEntry]) -> list[ModelEntry]:
    """The file's entries, and of those made by call the ones whose ids it leaves free."""
    taken = {entry.id for entry in written.entries}
    return [*written.entries, *(entry for entry in own if entry.id not in taken)]


def _told(fault: Fault, written: Written) -> str:
    """A fault with the place where it can be put right."""
    if 0 <= fault.entry < len(written.origins):
        return f"{written.origins[fault.entry]}: {fault}"
    if fault.entry < 0:
        return str(fault)
    return f"{path_text(fault.id, fault.path)} ({BY_CALL}): {fault.message}"


def _refusal(faults: Sequence[Fault], changed: Iterable[str]) -> RequestRejected:
    """The caller's own mistake, or what others in the catalogue say against it."""
    changed = set(changed)
    own = [fault for fault in faults if fault.id in changed or fault.entry < 0]
    named = own or faults
    told = [f"{path_text(one.id, one.path)}: {one.message}" for one in named[:TOLD_MAX]]
    if len(named) > TOLD_MAX:
        told.append(f"and {len(named) - TOLD_MAX} more")
    message = "; ".join(told)
    if own:
        return RequestRejected(message, path_text("", own[0].path) or None)
    return CatalogueConflict(f"Other entries do not allow that: {message}.")
