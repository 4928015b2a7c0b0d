"""Where the entries of a catalogue come from: the operator's file, and what was made by call.

The layers of configuration lie above this package, so what reads the file comes in from
there (`helexa.config.entries_file`). What was made by call is kept in this cortex's home.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

import msgspec

from helexa.cortex.settings import ModelEntry, OrchestratorSettings
from helexa.mesh.files.private_files import replace_private
from helexa.util.home import HomeUnusable

KEPT_FILE: Final = "catalogue.json"
KEPT_BYTES_MAX: Final = 16 * 1024 * 1024
_VERSION: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What the operator's configuration says; with `problems` the rest of it is not to be used."""

    entries: tuple[ModelEntry, ...] = ()
    origins: tuple[str, ...] = ()
    """`FILE:LINE` of each entry."""
    orchestrator: OrchestratorSettings = field(default_factory=OrchestratorSettings)
    stale: tuple[str, ...] = ()
    """Settings that say something else than at the start: they hold after a restart."""
    problems: tuple[str, ...] = ()
    stamp: object = None
    """Of the file, as it looked before it was read."""


class EntriesSource(Protocol):
    @property
    def where(self) -> str:
        """The file's name for people; empty where there is none and nothing will ever change."""
        ...

    def given(self) -> Written:
        """What this process was started with. Without problems."""
        ...

    def read(self) -> Written:
        """What holds by now. It may block, and never raises."""
        ...

    def stamp(self) -> object:
        """How the file looks: equal as long as nobody changed or replaced it. It may block."""
        ...


class FixedEntries:
    """Entries that stay as they were given: for a cortex that is started without a file."""

    where = ""

    def __init__(
        self, entries: Sequence[ModelEntry] = (), orchestrator: OrchestratorSettings | None = None
    ) -> None:
        self._written = Written(
            entries=tuple(entries),
            origins=("the configuration",) * len(entries),
            orchestrator=orchestrator or OrchestratorSettings(),
        )

    def given(self) -> Written:
        return self._written

    def read(self) -> Written:
        return self._written

    def stamp(self) -> object:
        return None


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    version: int
    entries: tuple[ModelEntry, ...]


class KeptEntries:
    """Those that were made by call, on the disk: all of them in one file, replaced as a whole."""

    def __init__(
        self, path: Path, replace: Callable[[Path, bytes], None] = replace_private
    ) -> None:
        """`replace` makes bytes the content of a file, whole or not at all."""
        self.path = path
        self._replace = replace

    def read(self) -> tuple[ModelEntry, ...]:
        """Raises HomeUnusable that names the file: what was asked to be kept is not dropped."""
        try:
            with self.path.open("rb") as file:
                content = file.read(KEPT_BYTES_MAX + 1)
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise HomeUnusable(f"cannot read {self.path}: {error.strerror or error}") from error
        try:
            return _decoded(content)
        except (ValueError, RecursionError) as error:
            raise HomeUnusable(
                f"{self.path} does not hold the models that were made by call: {error}; restore it "
                "from a backup, or remove it and make them again"
            ) from error

    def write(self, entries: Sequence[ModelEntry]) -> None:
        """On the disk when this returns.

        Raises ValueError for what could not be read again, HomeUnusable where the disk does
        not take it; the file is then as it was.
        """
        raw = msgspec.json.encode(_File(version=_VERSION, entries=tuple(entries)))
        content = msgspec.json.format(raw, indent=1) + b"\n"
        if _decoded(content) != tuple(entries):
            raise ValueError("an entry that would be another one once it is read again")
        try:
            self._replace(self.path, content)
        except OSError as error:
            raise HomeUnusable(f"cannot write {self.path}: {error.strerror or error}") from error


def _decoded(content: bytes) -> tuple[ModelEntry, ...]:
    if len(content) > KEPT_BYTES_MAX:
        raise ValueError(f"it is larger than {KEPT_BYTES_MAX} bytes")
    file = msgspec.json.decode(content, type=_File)
    if file.version != _VERSION:
        raise ValueError(f"it is of version {file.version}; this build reads {_VERSION}")
    return file.entries
