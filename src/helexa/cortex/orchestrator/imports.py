"""Entries for what neurons have and no entry names: the catalogue that one finds, written down.

Pure. A cortex treats such models as entries of defaults already; written down, they can
be given aliases, replicas and places. What neurons say is taken as far as it could
stand in a file: they are not always ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final, TypeVar

import msgspec

from helexa.cortex.orchestrator import entry_forms
from helexa.cortex.orchestrator.catalogue import Catalogue
from helexa.cortex.orchestrator.fleet import FleetView, Presence
from helexa.cortex.orchestrator.soundness import ENTRIES_MAX
from helexa.cortex.settings import ModelEntry
from helexa.protocol.ids import ModelId, is_model_id
from helexa.protocol.work import ModelCapability, WorkloadClass

T = TypeVar("T")

_ORDER: Final = {one: at for at, one in enumerate(WorkloadClass)}


def imported(view: FleetView, catalogue: Catalogue) -> list[ModelEntry]:
    """By id; none that an entry or an alias names already, and no more than there is room for.

    Neurons that are gone count for nothing. Where the others differ about a setting it is
    left to each of them, as it is now.
    """
    found = [
        entry
        for model in sorted(view.holders)
        if model not in catalogue.entries and model not in catalogue.aliases
        if (entry := described(view, model)) is not None
    ]
    return found[: max(ENTRIES_MAX - len(catalogue.entries), 0)]


def described(view: FleetView, model: ModelId) -> ModelEntry | None:
    """The entry for what neurons have of this model; None where none has it."""
    had = _had(view, model) if is_model_id(model) else []
    return _entry(model, had) if had else None


def _had(view: FleetView, model: ModelId) -> list[ModelCapability]:
    return [
        view.neurons[node].capabilities[model]
        for node in view.holders.get(model, ())
        if view.neurons[node].presence is not Presence.GONE
    ]


def _entry(model: ModelId, found: list[ModelCapability]) -> ModelEntry:
    classes = {one for capability in found for one in capability.classes}
    entry = ModelEntry(
        id=model,
        source=_agreed((one.source for one in found if one.source), _source) or "",
        quantisation=_agreed((one.quantisation for one in found), entry_forms.quantisation) or "",
        context_tokens=_agreed((one.context_tokens for one in found), int) or None,
        slots=_agreed((one.slots for one in found), int) or None,
        classes=tuple(sorted(classes, key=_ORDER.__getitem__)),
    )
    return _within(entry)


def _agreed(values: Iterable[T], form: Callable[[T], T]) -> T | None:
    """The value that all give, if it is one that an entry may have."""
    different = set(values)
    if len(different) != 1:
        return None
    with suppress(ValueError):
        return form(different.pop())
    return None


def _source(text: str) -> str:
    if text == "peer:":
        # A neuron does not say which files it had; without them peers cannot be asked.
        raise ValueError(text)
    return entry_forms.source(text)


def _within(entry: ModelEntry) -> ModelEntry:
    """The entry without numbers that are out of an entry's range."""
    for name in ("context_tokens", "slots"):
        try:
            msgspec.convert({"id": entry.id, name: getattr(entry, name)}, ModelEntry)
        except msgspec.ValidationError:
            entry = msgspec.structs.replace(entry, **{name: None})
    return entry
