"""The federation settings of a cortex that runs, and what `helexa mesh policy` changed of them.

A change lies over the layers that the node was started with and outlives its
restarts: it is kept in `federation.json` of the cortex's folder, by name of the
setting. It is judged by the same kinds as a file or a flag would be, so the same
refusal is told for the same mistake.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from helexa.config import document
from helexa.config.catalogue import SETTINGS, Setting
from helexa.config.load import Config, Value
from helexa.config.origin import ConfigRefused, Layer, Origin, Problem
from helexa.cortex.settings import FederationSettings
from helexa.mesh.files.private_files import replace_private
from helexa.protocol.errors import RequestRejected

FILE: Final = "federation.json"
FILE_BYTES_MAX: Final = 256 * 1024
BY_HAND: Final = "helexa mesh policy"
_SECTION: Final = "federation"


class FederationStore:
    """The one owner of the file; a cortex that runs has one, and so may a command when none runs.

    Implements `helexa.cortex.orchestrator.live_policy.LivePolicy`.
    """

    def __init__(self, path: Path, values: Mapping[str, Value]) -> None:
        """`values` as `load` made them. Raises ConfigRefused for a file that it cannot use."""
        self._path = path
        self._given = {
            value.setting.name: value
            for value in values.values()
            if value.setting.section == _SECTION
        }
        self._changed = _read(path)
        self.settings = self._laid_over()

    @classmethod
    def of(cls, config: Config) -> FederationStore:
        """That of the cortex of this configuration. Raises ConfigRefused."""
        return cls(config.cortex.home / FILE, config.values)

    def shown(self) -> dict[str, dict[str, Any]]:
        """By name of the setting: `value`, `origin` and `accepted`, as JSON can hold them."""
        return {
            name: {
                "value": _plain(self._changed.get(name, given.value)),
                "origin": BY_HAND if name in self._changed else str(given.origin),
                "accepted": given.setting.kind.words,
            }
            for name, given in self._given.items()
        }

    def change(self, changes: Mapping[str, Any], unset: Collection[str]) -> FederationSettings:
        """Set some, return others to what the configuration says; all of it or nothing.

        Raises RequestRejected naming the setting and the range, OSError when the file cannot
        be written; then nothing changed.
        """
        read: dict[str, Any] = {}
        problems: list[tuple[str, str]] = []
        for name in (*changes, *unset):
            if name not in self._given:
                problems.append((name[:80], document.unknown(f"{_SECTION}.{name[:80]}")))
            elif name in changes and name in unset:
                problems.append((name, "is to be set and unset at once"))
            elif name in changes:
                try:
                    read[name] = _value(self._given[name].setting, changes[name])
                except ValueError as error:
                    problems.append((name, str(error)))
        if problems:
            message = "; ".join(f"{name}: {problem}" for name, problem in problems)
            raise RequestRejected(message, problems[0][0])
        kept = {name: value for name, value in self._changed.items() if name not in unset} | read
        _write(self._path, kept)
        self._changed = kept
        self.settings = self._laid_over()
        return self.settings

    def _laid_over(self) -> FederationSettings:
        given = {name: value.value for name, value in self._given.items()}
        return FederationSettings(**{**given, **self._changed})


def _value(setting: Setting, raw: Any) -> Any:
    """A JSON value or the text of a flag. Raises ValueError naming what is accepted."""
    if raw is None and setting.default is None:
        return None
    read = setting.kind.from_text if isinstance(raw, str) else setting.kind.from_toml
    try:
        return read(raw, Path())
    except ValueError as error:
        raise ValueError(f"{error}; accepted: {setting.kind.words}") from None


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _read(path: Path) -> dict[str, Any]:
    """What was changed. Raises ConfigRefused with every problem found."""
    try:
        with path.open("rb") as file:
            raw = file.read(FILE_BYTES_MAX)
        table = json.loads(raw)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or f"is not JSON: {error}"
        raise ConfigRefused([_problem(path, "", f"{reason}; {_REMEDY}")]) from error
    if not isinstance(table, dict):
        raise ConfigRefused([_problem(path, "", f"is not a JSON object; {_REMEDY}")])
    found: dict[str, Any] = {}
    problems = []
    for name, one in table.items():
        key = f"{_SECTION}.{name}"
        if key not in SETTINGS:
            problems.append(_problem(path, key, f"{document.unknown(key)}; {_REMEDY}"))
            continue
        try:
            found[name] = _value(SETTINGS[key], one)
        except ValueError as error:
            problems.append(_problem(path, key, str(error)))
    if problems:
        raise ConfigRefused(problems)
    return found


_REMEDY: Final = "put it right, or remove the file to return to the configuration"


def _problem(path: Path, key: str, message: str) -> Problem:
    return Problem(Origin(Layer.FILE, str(path)), key, message)


def _write(path: Path, changed: Mapping[str, Any]) -> None:
    replace_private(path, json.dumps(dict(_sorted(changed)), indent=1).encode() + b"\n")


def _sorted(changed: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name in sorted(changed):
        yield name, _plain(changed[name])
