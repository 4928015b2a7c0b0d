"""The values a TOML file gives, each with its line, and what in it is not a setting."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from helexa.config import names, runtime_words
from helexa.config.catalogue import (
    ENTRY_SECTION,
    NAMED_SECTIONS,
    NAMED_SETTINGS,
    SECTIONS,
    SETTINGS,
)
from helexa.config.lines import KeyPath, key_lines
from helexa.config.origin import DEFAULT, Layer, Origin, Problem
from helexa.protocol.ids import is_model_id

FILE_BYTES_MAX: Final = 1024 * 1024

_NAMED: Final = {tuple(section.split(".")): section for section in NAMED_SECTIONS}


@dataclass(slots=True)
class Given:
    """What one layer says: raw values by key, and reasons to refuse it."""

    values: dict[str, tuple[Any, Origin]] = field(default_factory=dict)
    named: dict[str, dict[str, dict[str, tuple[Any, Origin]]]] = field(default_factory=dict)
    """Of the sections whose tables an operator names: by section, name and setting."""
    entries: Any = None
    """`[[models]]` as it was written; None where the file has none."""
    where: Callable[[KeyPath], Origin] = lambda _path: DEFAULT
    problems: list[Problem] = field(default_factory=list)


def read(path: Path) -> Given:
    """Read a file as far as keys go; values are judged with those of the other layers."""
    given = Given()
    whole = Origin(Layer.FILE, str(path))
    try:
        raw = path.read_bytes()
    except OSError as error:
        given.problems.append(Problem(whole, "", f"cannot be read: {error.strerror or error}"))
        return given
    if len(raw) > FILE_BYTES_MAX:
        problem = f"{len(raw)} bytes; accepted are at most {FILE_BYTES_MAX}"
        given.problems.append(Problem(whole, "", problem))
        return given
    try:
        text = raw.decode()
        tables = tomllib.loads(text)
        lines = key_lines(text)
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        given.problems.append(Problem(whole, "", f"is not TOML: {error}"))
        return given
    _Walk(path, lines, given).top(tables)
    return given


class _Walk:
    """From nested tables to settings' keys."""

    def __init__(self, path: Path, lines: Mapping[KeyPath, int], given: Given) -> None:
        self._path = path
        self._lines = lines
        self._given = given
        given.where = self._origin

    def top(self, tables: Mapping[str, Any]) -> None:
        for name, value in tables.items():
            if name == ENTRY_SECTION:
                self._given.entries = value
            elif name not in SECTIONS or not name:
                self._take("", name, value)
            elif not isinstance(value, dict):
                self._refuse((name,), f"is a table: write [{name}]")
            else:
                for key, one in value.items():
                    if (name, key) in _NAMED:
                        self._tables(_NAMED[name, key], one)
                    else:
                        self._take(name, key, one)

    def _take(self, section: str, name: str, value: Any) -> None:
        key = f"{section}.{name}" if section else name
        path = (section, name) if section else (name,)
        if key in SETTINGS:
            self._given.values[key] = (value, self._origin(path))
        else:
            self._refuse(path, unknown(key))

    def _tables(self, section: str, tables: Any) -> None:
        whole = tuple(section.split("."))
        if not isinstance(tables, dict):
            self._refuse(whole, f"is a table of tables: write [{section}.NAME]")
            return
        settings = NAMED_SETTINGS[section]
        for name, table in tables.items():
            path = (*whole, name)
            refusal = _NAMES[section](name)
            if refusal:
                self._refuse(path, refusal)
            elif not isinstance(table, dict):
                self._refuse(path, f"is a table: write [{section}.{name}]")
            else:
                found = self._given.named.setdefault(section, {}).setdefault(name, {})
                for key, value in table.items():
                    if key in settings:
                        found[key] = (value, self._origin((*path, key)))
                    else:
                        self._refuse((*path, key), not_known(key, settings))

    def _origin(self, path: KeyPath) -> Origin:
        """Where `path` is written, or else what it is a part of."""
        while path and path not in self._lines:
            path = path[:-1]
        line = self._lines.get(path)
        return Origin(Layer.FILE, f"{self._path}:{line}" if line else str(self._path))

    def _refuse(self, path: tuple[str, ...], message: str) -> None:
        self._given.problems.append(Problem(self._origin(path), ".".join(path), message))


def _model_name(name: str) -> str:
    return "" if is_model_id(name) else f"{name[:80]!r} cannot name a model; quote a name with dots"


def _runtime_name(name: str) -> str:
    known = runtime_words.known()
    if name in known:
        return ""
    near = closest(name, known)
    return f"no runtime is named {name[:80]!r}; " + (
        f"did you mean {near}?" if near else f"known are {', '.join(known)}"
    )


def _server_name(name: str) -> str:
    try:
        names.SERVER.from_text(name, Path())
    except ValueError as error:
        return str(error)
    return ""


_NAMES: Final[Mapping[str, Callable[[str], str]]] = {
    "neuron.models": _model_name,
    "neuron.runtimes": _runtime_name,
    "neuron.servers": _server_name,
}
"""Why a name cannot be one, or nothing."""


def unknown(key: str) -> str:
    """Why `key` is refused, and which setting its writer may have meant."""
    section, _, name = key.rpartition(".")
    elsewhere = [one.key for one in SETTINGS.values() if one.name == name]
    if elsewhere:
        return f"is not a setting; did you mean {' or '.join(elsewhere)}?"
    siblings = [one.name for one in SETTINGS.values() if one.section == section]
    if not section:
        siblings += [*(one for one in SECTIONS if one), ENTRY_SECTION]
    return not_known(name, siblings)


def not_known(name: str, known: Iterable[str]) -> str:
    near = closest(name, known)
    return "is not a setting" + (f"; did you mean {near}?" if near else "")


def closest(name: str, known: Iterable[str]) -> str:
    """The known name that `name` was probably meant to be, or nothing."""
    return next(iter(difflib.get_close_matches(name, list(known), 1, 0.6)), "")
