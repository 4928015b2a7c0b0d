"""Whether entries make a catalogue: every problem of all of them, each with its place.

Pure, and the same for the file, the control API and what an earlier life left on disk.
Types and ranges were judged when the entries were read; here is what they mean together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from helexa.cortex.orchestrator import entry_forms
from helexa.cortex.settings import ModelEntry
from helexa.protocol.ids import is_model_id
from helexa.protocol.sources import (
    check_file_name,
    check_sha256,
    parse_source,
    why_incomplete,
)

ENTRIES_MAX: Final = 1_024
ALIASES_MAX: Final = 64
"""Of one entry; so are those that follow."""
FILES_MAX: Final = 1_024
FALLBACKS_MAX: Final = 16
ARGUMENTS_MAX: Final = 64
LABELS_MAX: Final = 32
PLACES_MAX: Final = 256
"""Regions, operators and nodes, each."""
WAYS_MAX: Final = 64
"""Models that share one alias: they are weighed at every request."""
FILE_BYTES_MAX: Final = 1 << 50
PRICE_MAX: Final = 10**15
"""Nano-credits a token: a million credits."""

Path: TypeAlias = tuple[str | int, ...]
"""From the entry inwards: `("files", 0, "sha256")`; empty is the entry itself."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One reason to refuse the entries. `entry` is its index, from 0; -1 is all together."""

    entry: int
    id: str
    path: Path
    message: str

    @property
    def place(self) -> str:
        return place_of(self.entry, self.id, self.path) if self.entry >= 0 else "models"

    def __str__(self) -> str:
        return f"{self.place}: {self.message}"


def place_of(index: int, model: str, path: Path) -> str:
    """`models[3] (team/model).files[0].sha256`."""
    return path_text(f"models[{index}]" + (f" ({model[:200]})" if model else ""), path)


def path_text(whole: str, path: Path) -> str:
    """`team/model.files[0].sha256`; without `whole` from the entry on: `files[0].sha256`."""
    text = whole
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text if whole else text.removeprefix(".")


def problems(entries: Sequence[ModelEntry]) -> list[Fault]:
    """Nothing where `catalogue` may be made of them."""
    if len(entries) > ENTRIES_MAX:
        message = f"{len(entries)} models; accepted are at most {ENTRIES_MAX}"
        return [Fault(-1, "", (), message)]
    names = _Names(entries)
    found = []
    for index, entry in enumerate(entries):
        faults = [*_of_one(entry), *_named(entry, index, names)]
        found += [Fault(index, entry.id, path, message) for path, message in faults]
    return found


class _Names:
    """What can be named: entries' ids, and aliases with the models that they lead to."""

    def __init__(self, entries: Sequence[ModelEntry]) -> None:
        self.first = {entry.id: index for index, entry in reversed(list(enumerate(entries)))}
        self.aliases: dict[str, list[str]] = {}
        self._fallbacks = {entry.id: entry.fallbacks for entry in entries}
        for entry in entries:
            for name in {alias.name for alias in entry.aliases}:
                self.aliases.setdefault(name, []).append(entry.id)
        self._suspects = self._not_sinking()

    def models(self, name: str) -> Sequence[str]:
        """The entries that a name leads to; none where it names nothing."""
        return [name] if name in self.first else self.aliases.get(name, ())

    def way_back(self, model: str, first: str) -> tuple[str, ...]:
        """Fallbacks that lead from `first` to `model` itself, as names; empty where none do."""
        if model not in self._suspects:
            return ()
        seen: set[str] = set()
        ways: list[tuple[str, tuple[str, ...]]] = [(one, (first,)) for one in self.models(first)]
        while ways:
            at, way = ways.pop()
            if at == model:
                return way
            if at not in seen:
                seen.add(at)
                ways += [(to, (*way, name)) for name, to in self._steps(at)]
        return ()

    def _steps(self, model: str) -> Iterator[tuple[str, str]]:
        for name in self._fallbacks.get(model, ()):
            for to in self.models(name):
                yield name, to

    def _not_sinking(self) -> set[str]:
        """Entries whose fallbacks do not all come to an end: those that may be in a circle."""
        left = {model: {to for _, to in self._steps(model)} for model in self.first}
        before: dict[str, list[str]] = {}
        for model, steps in left.items():
            for to in steps:
                before.setdefault(to, []).append(model)
        ends = [model for model, steps in left.items() if not steps]
        while ends:
            ended = ends.pop()
            for model in before.get(ended, ()):
                left[model].discard(ended)
                if not left[model]:
                    ends.append(model)
        return {model for model, steps in left.items() if steps}


_Found: TypeAlias = Iterator[tuple[Path, str]]


def _named(entry: ModelEntry, index: int, names: _Names) -> _Found:
    """Ids, aliases and fallbacks: what one entry's names mean beside the others'."""
    if names.first[entry.id] != index:
        yield ("id",), f"{entry.id[:200]!r} is the id of an entry before it; ids are unique"
    seen: set[str] = set()
    for at, alias in enumerate(entry.aliases):
        path = ("aliases", at)
        if not is_model_id(alias.name):
            yield path, f"{alias.name[:80]!r} cannot name a model"
        elif alias.name in names.first:
            yield path, f"{alias.name!r} is the id of a model; an alias is another name"
        elif alias.name in seen:
            yield path, f"{alias.name!r} is given twice"
        elif len(names.aliases[alias.name]) > WAYS_MAX:
            yield path, f"{alias.name!r} stands for more than {WAYS_MAX} models"
        seen.add(alias.name)
    tried: set[str] = set()
    for at, name in enumerate(entry.fallbacks):
        path = ("fallbacks", at)
        if name in tried:
            yield path, f"{name[:200]!r} is given twice"
        elif not names.models(name):
            yield path, f"{name[:200]!r} is neither a model of the catalogue nor an alias"
        elif way := names.way_back(entry.id, name):
            yield path, f"leads back to the model itself: {' -> '.join((entry.id, *way))}"
        tried.add(name)


def _of_one(entry: ModelEntry) -> _Found:
    """What an entry is by itself."""
    if not is_model_id(entry.id):
        yield ("id",), f"{entry.id[:80]!r} cannot name a model"
    yield from _counts(entry)
    yield from _forms(entry)
    yield from _supply(entry)
    if entry.replicas_max is not None and entry.replicas_min > entry.replicas_max:
        message = f"{entry.replicas_min} is above replicas_max, {entry.replicas_max}"
        yield ("replicas_min",), message


def _counts(entry: ModelEntry) -> _Found:
    bounds = (
        ("aliases", ALIASES_MAX),
        ("files", FILES_MAX),
        ("fallbacks", FALLBACKS_MAX),
        ("arguments", ARGUMENTS_MAX),
        ("labels", LABELS_MAX),
        ("regions", PLACES_MAX),
        ("operators", PLACES_MAX),
        ("nodes", PLACES_MAX),
    )
    for name, most in bounds:
        count = len(getattr(entry, name))
        if count > most:
            yield (name,), f"{count} of them; accepted are at most {most}"


def _forms(entry: ModelEntry) -> _Found:
    yield from _read(("description",), entry_forms.description, entry.description)
    yield from _read(("quantisation",), entry_forms.quantisation, entry.quantisation)
    yield from _read(("runtime",), entry_forms.runtime, entry.runtime)
    lists = (
        ("arguments", entry_forms.argument),
        ("regions", entry_forms.region),
        ("operators", entry_forms.operator),
        ("nodes", entry_forms.node),
    )
    for name, form in lists:
        for at, text in enumerate(getattr(entry, name)):
            yield from _read((name, at), form, text)
    for label, value in entry.labels.items():
        yield from _read(("labels", label[:80]), entry_forms.label, label, value)


def _supply(entry: ModelEntry) -> _Found:
    """The source, the files, and whether both together can be pulled."""
    seen: set[str] = set()
    for at, file in enumerate(entry.files):
        yield from _read(("files", at, "name"), check_file_name, file.name)
        if file.name in seen:
            yield ("files", at, "name"), f"{file.name[:80]!r} is given twice"
        seen.add(file.name)
        if file.sha256:
            yield from _read(("files", at, "sha256"), check_sha256, file.sha256)
        if not 0 <= file.size <= FILE_BYTES_MAX:
            yield ("files", at, "size"), f"{file.size} is out of range"
    if entry.price is not None:
        for name in entry.price.__struct_fields__:
            if not 0 <= getattr(entry.price, name) <= PRICE_MAX:
                yield ("price", name), f"{getattr(entry.price, name)} is out of range"
    if not entry.source:
        if entry.files:
            yield ("files",), "are of no use without a source"
        return
    try:
        place = parse_source(entry.source)
    except ValueError as error:
        yield ("source",), str(error)
        return
    if missing := why_incomplete(place, entry.files):
        yield ("source",), missing


def _read(path: Path, form: Callable[..., object], *texts: str) -> _Found:
    try:
        form(*texts)
    except ValueError as error:
        yield path, str(error)
