"""`[[models]]` of a TOML file, read into entries: every fault of all of them, each with its line.

A part that is refused is left out and the rest is judged as if it were not there, so
that one mistake does not hide the next and is not told twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from helexa.config.catalogue import ENTRY_SECTION, ENTRY_SETTINGS
from helexa.config.document import not_known
from helexa.config.kinds import Kind, ListOf
from helexa.config.lines import KeyPath
from helexa.config.origin import Origin, Problem
from helexa.config.records import Record
from helexa.cortex.orchestrator.soundness import ENTRIES_MAX, place_of, problems
from helexa.cortex.settings import ModelEntry
from helexa.protocol.ids import is_model_id

Where: TypeAlias = Callable[[KeyPath], Origin]

_REFUSED: Final = object()
"""A value that was refused: there is a problem about it."""


@dataclass(frozen=True, slots=True)
class Entries:
    """`origins` has one for each entry; what is in `settings` was written, by `place_of`."""

    entries: tuple[ModelEntry, ...] = ()
    origins: tuple[Origin, ...] = ()
    settings: tuple[tuple[str, str, Any, Origin], ...] = ()
    """Key, name of the setting, value, origin."""
    problems: tuple[Problem, ...] = ()


def read(raw: object, where: Where, folder: Path) -> Entries:
    """`raw` is the value of `models` as `tomllib` gives it."""
    if not isinstance(raw, list):
        message = f"is an array of tables: write [[{ENTRY_SECTION}]]"
        return Entries(problems=(Problem(where((ENTRY_SECTION,)), ENTRY_SECTION, message),))
    if len(raw) > ENTRIES_MAX:
        message = f"{len(raw)} models; accepted are at most {ENTRIES_MAX}"
        return Entries(problems=(Problem(where((ENTRY_SECTION,)), ENTRY_SECTION, message),))
    tables = [_Table(index, one, where, folder) for index, one in enumerate(raw)]
    whole = [table for table in tables if table.entry is not None]
    entries = tuple(table.entry for table in whole if table.entry is not None)
    for fault in problems(entries):
        whole[fault.entry].refuse(fault.path, fault.message)
    return Entries(
        entries=entries,
        origins=tuple(where((ENTRY_SECTION, table.index)) for table in whole),
        settings=tuple(one for table in whole for one in table.settings()),
        problems=tuple(one for table in tables for one in table.problems),
    )


class _Table:
    """One `[[models]]`. `entry` is None where it has no id that could be used."""

    def __init__(self, index: int, raw: object, where: Where, folder: Path) -> None:
        self.index = index
        self.problems: list[Problem] = []
        self.entry: ModelEntry | None = None
        self._where = where
        self._folder = folder
        self._values: dict[str, Any] = {}
        self._id = ""
        if not isinstance(raw, Mapping):
            self.refuse((), f"is a table: write [[{ENTRY_SECTION}]]")
            return
        named = raw.get("id")
        self._id = named if isinstance(named, str) and is_model_id(named) else ""
        self._read(raw)

    def refuse(self, path: KeyPath, message: str) -> None:
        origin = self._where((ENTRY_SECTION, self.index, *path))
        self.problems.append(Problem(origin, place_of(self.index, self._id, path), message))

    def settings(self) -> Iterator[tuple[str, str, Any, Origin]]:
        for name, value in self._values.items():
            origin = self._where((ENTRY_SECTION, self.index, name))
            yield place_of(self.index, self._id, (name,)), name, value, origin

    def _read(self, raw: Mapping[str, object]) -> None:
        for key in raw:
            if key not in ENTRY_SETTINGS:
                self.refuse((key,), not_known(key, ENTRY_SETTINGS))
        if "id" not in raw:
            self.refuse((), f"has no id; accepted: {ENTRY_SETTINGS['id'].kind.words}")
        for name, setting in ENTRY_SETTINGS.items():
            if name in raw:
                value = self._value(setting.kind, raw[name], (name,))
                if value is not _REFUSED:
                    self._values[name] = value
        if self._id:
            self.entry = ModelEntry(**self._values)

    def _value(self, kind: Kind, raw: object, path: KeyPath) -> Any:
        if isinstance(kind, ListOf) and isinstance(raw, list):
            items = (self._value(kind.item, one, (*path, at)) for at, one in enumerate(raw))
            return tuple(item for item in items if item is not _REFUSED)
        if isinstance(kind, Record) and isinstance(raw, str) and kind.short is not None:
            raw = kind.short(raw)
        if isinstance(kind, Record) and isinstance(raw, Mapping):
            return self._record(kind, raw, path)
        try:
            return kind.from_toml(raw, self._folder)
        except ValueError as error:
            self.refuse(path, f"{error}; accepted: {kind.words}")
            return _REFUSED

    def _record(self, kind: Record, raw: Mapping[str, object], path: KeyPath) -> Any:
        values = {}
        for key, one in raw.items():
            if key not in kind.parts:
                self.refuse((*path, key), not_known(key, kind.parts))
            elif (value := self._value(kind.parts[key], one, (*path, key))) is not _REFUSED:
                values[key] = value
        for key in kind.required - raw.keys():
            self.refuse(path, f"has no {key}; accepted: {kind.words}")
        return kind.make(**values) if kind.required <= values.keys() else _REFUSED
