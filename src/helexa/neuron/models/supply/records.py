"""What is known of each model that a pull brought or is to bring; survives kill -9 at any point.

    MODELS/.pulls/lock
    MODELS/.pulls/FOLDER/record.json    one folder a model
    MODELS/.pulls/FOLDER/FILE.part      data of a file that is not whole yet
    MODELS/.pulls/FOLDER/FILE.pieces    its journal, kept when the file is whole

A record is replaced as a whole. One that cannot be read is left where it is and counts as
none: its model is then a file that somebody put there, which nobody removes.
"""

from __future__ import annotations

import enum
import fcntl
import hashlib
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from helexa.neuron.models.supply.disk_pieces import DiskPieces
from helexa.neuron.models.supply.source import Found, RemoteFile
from helexa.protocol.ids import ModelId, is_model_id
from helexa.protocol.messages import ModelSource, PieceHolder

PULLS_FOLDER: Final = ".pulls"
RECORD_BYTES_MAX: Final = 16 << 20

log = logging.getLogger(__name__)


class Stage(enum.Enum):
    WANTED = "wanted"
    FAILED = "failed"
    STOPPED = "stopped"
    """By somebody; what arrived stays for another try."""
    HERE = "here"


class Record(msgspec.Struct, frozen=True, kw_only=True):
    model: ModelId
    source: ModelSource
    stage: Stage = Stage.WANTED
    reason: str = ""
    """Why it failed."""
    pin: bool = False
    peers: tuple[PieceHolder, ...] = ()
    found: Found | None = None
    """Which files they are; kept so that a pull that goes on takes the same."""
    asked_unix: float = 0.0
    used_unix: float = 0.0

    @property
    def shown_source(self) -> str:
        """Without its query, which may hold somebody's signature."""
        return self.source.source.partition("?")[0]

    @property
    def total_bytes(self) -> int:
        return sum(file.size for file in self.found.files) if self.found else 0


class Records:
    """Its methods read and write small files; call them where that may wait."""

    def __init__(self, models_dir: Path) -> None:
        self.models_dir = models_dir
        self.root = models_dir / PULLS_FOLDER

    @contextmanager
    def claimed(self) -> Iterator[bool]:
        """Whether this process alone pulls into the folder while the block lasts."""
        try:
            # Tickets of peers and signed URLs are in it.
            self.root.mkdir(mode=0o700, exist_ok=True)
            lock = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            log.info("no pulls", extra={"reason": error.strerror or str(error)})
            yield False
            return
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                yield False
                return
            yield True
        finally:
            os.close(lock)

    def load(self) -> dict[ModelId, Record]:
        found = {}
        for path in sorted(self.root.glob("*/record.json")):
            record = _read(path)
            if record is not None and self.folder(record.model) == path.parent:
                found[record.model] = record
        return found

    def save(self, record: Record) -> None:
        folder = self.folder(record.model)
        folder.mkdir(exist_ok=True)
        draft = folder / "record.new"
        with draft.open("wb") as file:
            file.write(msgspec.json.encode(record))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(folder / "record.json")

    def folder(self, model: ModelId) -> Path:
        # Ids have slashes, and differ in case where a filesystem may not.
        return self.root / hashlib.sha256(model.encode()).hexdigest()[:32]

    def part(self, model: ModelId, file: RemoteFile) -> Path:
        return self.folder(model) / f"{_short(file)}.part"

    def journal(self, model: ModelId, file: RemoteFile) -> Path:
        return self.folder(model) / f"{_short(file)}.pieces"

    def brought(self, model: ModelId, file: RemoteFile) -> bool:
        """Whether what lies at its place was put there by a pull, whole and right."""
        target, journal = self.target(file), self.journal(model, file)
        return (
            target.is_file()
            and target.stat().st_size == file.size
            and not self.part(model, file).exists()
            and DiskPieces.of_whole(target, journal) is not None
        )

    def remove(self, record: Record) -> None:
        """Its files, as far as a pull brought them, and all that a pull has left half-way."""
        root = self.models_dir.resolve()
        # What makes the listing see it goes first.
        for file in reversed(record.found.files if record.found else ()):
            target = self.target(file)
            if self.brought(record.model, file):
                target.unlink()
                _remove_empty(target.parent, root)
        shutil.rmtree(self.folder(record.model), ignore_errors=True)

    def keep_only(self, record: Record) -> None:
        """Remove what is left of files that are no longer its own."""
        files = record.found.files if record.found else ()
        wanted = {self.part(record.model, file) for file in files}
        wanted |= {self.journal(record.model, file) for file in files}
        for path in self.folder(record.model).glob("*"):
            if path.suffix in (".part", ".pieces") and path not in wanted:
                path.unlink(missing_ok=True)

    def target(self, file: RemoteFile) -> Path:
        return self.models_dir / file.target


def _remove_empty(folder: Path, root: Path) -> None:
    while folder.resolve() != root:
        try:
            folder.rmdir()
        except OSError:
            return
        folder = folder.parent


def _short(file: RemoteFile) -> str:
    # By place too: a repository may hold the same bytes under two names.
    return hashlib.sha256(f"{file.layout.key}\n{file.target}".encode()).hexdigest()[:24]


def _read(path: Path) -> Record | None:
    try:
        if path.stat().st_size > RECORD_BYTES_MAX:
            return None
        record = msgspec.json.decode(path.read_bytes(), type=Record)
    except (OSError, msgspec.MsgspecError) as error:
        log.warning("record of a pull not read", extra={"path": str(path), "reason": str(error)})
        return None
    return record if is_model_id(record.model) else None
