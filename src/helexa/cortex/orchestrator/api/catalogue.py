"""The catalogue by call: read, made, changed, taken out, read again from its file, and judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from helexa.cortex.orchestrator.api.calls import Asked, Call, Nothing, Wish
from helexa.cortex.orchestrator.api.models import model_of
from helexa.cortex.orchestrator.book import Book
from helexa.cortex.orchestrator.fleet import FleetView
from helexa.cortex.orchestrator.neurons import Neurons
from helexa.cortex.orchestrator.soundness import path_text, problems
from helexa.cortex.settings import ModelEntry
from helexa.protocol.errors import (
    CatalogueConflict,
    EntryUnknown,
    ModelUnknown,
    RequestRejected,
)
from helexa.protocol.ids import ModelId, is_model_id

CHECKED_MAX: Final = 256
"""Entries in one call: more do not fit into a body."""


class Entry(ModelEntry, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model's entry; its `id` may be left to the path."""

    id: str = ""


class EntryRow(msgspec.Struct, frozen=True, kw_only=True):
    entry: ModelEntry
    origin: str
    """`FILE:LINE`, or `made by call`."""


class CatalogueShown(msgspec.Struct, frozen=True, kw_only=True):
    revision: int
    """One more with each change, from 1 at the start of the cortex."""
    entries: Sequence[EntryRow]
    problems: Sequence[str]
    """Why the file as it is now is not in force."""
    stale: Sequence[str]
    """Settings that the file changed and that hold after a restart."""
    stepped_back: Sequence[str]
    """Entries made by call that are not in force, because the file has one of that id."""


class EntryPut(msgspec.Struct, frozen=True, kw_only=True):
    entry: ModelEntry
    created: bool


class EntryRemoved(msgspec.Struct, frozen=True, kw_only=True):
    removed: ModelId


class Reloaded(msgspec.Struct, frozen=True, kw_only=True):
    revision: int
    problems: Sequence[str]
    """With any, the catalogue is as it was before."""


class CheckEntries(Wish, frozen=True, kw_only=True):
    entries: Annotated[tuple[ModelEntry, ...], Meta(max_length=CHECKED_MAX)] = ()


class EntryFault(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    where: str
    """From the entry inwards, such as `files[0].sha256`; empty is the entry itself."""
    message: str


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """What would be refused if these entries were put. Without entries, of the file as it is."""

    problems: Sequence[EntryFault]


def as_held(view: FleetView, model: ModelId) -> ModelEntry:
    """An entry for a model as neurons have it. Raises ModelUnknown."""
    held = [view.neurons[node].capabilities[model] for node in view.holders.get(model, ())]
    if not held:
        raise ModelUnknown(str(model))
    # The one that was described best: an older neuron tells less.
    best = max(held, key=lambda one: (bool(one.source), one.context_tokens, one.memory_bytes))
    return ModelEntry(
        id=str(model),
        source=best.source,
        quantisation=best.quantisation,
        runtime=best.runtime,
        context_tokens=best.context_tokens or None,
        slots=best.slots or None,
        memory_bytes=best.memory_bytes,
        pin=best.pinned,
    )


@dataclass(frozen=True, slots=True)
class CatalogueCalls:
    book: Book
    neurons: Neurons

    async def all(self, asked: Asked[Nothing, Nothing]) -> CatalogueShown:  # noqa: ARG002 - a call's shape
        book = self.book
        return CatalogueShown(
            revision=book.revision,
            entries=[self._row(entry) for entry in book.catalogue.entries.values()],
            problems=book.problems,
            stale=book.stale,
            stepped_back=book.stepped_back,
        )

    async def one(self, asked: Asked[Nothing, Nothing]) -> EntryRow:
        entry = self.book.catalogue.entries.get(ModelId(asked.path["model"]))
        if entry is None:
            raise EntryUnknown(asked.path["model"])
        return self._row(entry)

    async def put(self, asked: Asked[Nothing, Entry]) -> EntryPut:
        named = asked.path["model"]
        if not is_model_id(named):
            raise RequestRejected(f"{named[:80]!r} cannot be the name of a model.", "model")
        model = ModelId(named)
        if asked.body.id not in ("", model):
            raise RequestRejected(f"`id` is not {str(model)!r}, as the path says.", "id")
        given = {name: getattr(asked.body, name) for name in ModelEntry.__struct_fields__}
        entry = ModelEntry(**{**given, "id": str(model)})
        return EntryPut(entry=entry, created=self.book.put(entry))

    async def take_over(self, asked: Asked[Nothing, Nothing]) -> EntryPut:
        entry = as_held(self.neurons.view, model_of(asked.path["model"]))
        return EntryPut(entry=entry, created=self.book.put(entry))

    async def remove(self, asked: Asked[Nothing, Nothing]) -> EntryRemoved:
        model = model_of(asked.path["model"])
        try:
            self.book.remove(model)
        except ModelUnknown:
            raise EntryUnknown(str(model)) from None
        return EntryRemoved(removed=model)

    async def reload(self, asked: Asked[Nothing, Nothing]) -> Reloaded:  # noqa: ARG002
        found = await self.book.reload()
        return Reloaded(revision=self.book.revision, problems=found)

    async def check(self, asked: Asked[Nothing, CheckEntries]) -> Checked:
        wished = asked.body.entries
        if not wished:
            told = [EntryFault(id="", where="", message=text) for text in self.book.problems]
            return Checked(problems=told)
        ids = {entry.id for entry in wished}
        others = [one for one in self.book.catalogue.entries.values() if one.id not in ids]
        return Checked(
            problems=[
                EntryFault(id=one.id, where=path_text("", one.path), message=one.message)
                for one in problems([*others, *wished])
            ]
        )

    def calls(self) -> list[Call]:
        changes = (CatalogueConflict, RequestRejected)
        return [
            Call("GET", "/api/v1/catalogue", "Every entry, and where it is from.", self.all),
            Call(
                "GET",
                "/api/v1/catalogue/{model}",
                "One entry.",
                self.one,
                refuses=(EntryUnknown,),
            ),
            Call(
                "PUT",
                "/api/v1/catalogue/{model}",
                "Make an entry, or replace it.",
                self.put,
                refuses=changes,
            ),
            Call(
                "DELETE",
                "/api/v1/catalogue/{model}",
                "Take an entry out; the model's files stay where they are.",
                self.remove,
                refuses=(ModelUnknown, EntryUnknown, *changes),
            ),
            Call(
                "POST",
                "/api/v1/catalogue/reload",
                "Read the configuration's entries again, now.",
                self.reload,
            ),
            Call(
                "POST",
                "/api/v1/catalogue/check",
                "What would be wrong with these entries among the others; changes nothing.",
                self.check,
            ),
            Call(
                "POST",
                "/api/v1/models/{model}/import",
                "Make an entry of what a neuron has.",
                self.take_over,
                refuses=(ModelUnknown, *changes),
            ),
        ]

    def _row(self, entry: ModelEntry) -> EntryRow:
        return EntryRow(entry=entry, origin=self.book.origin(entry.id))
