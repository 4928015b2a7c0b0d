"""`file:/PATH`: a file or folder on the neuron's own disk, in one of neuron.file_folders.

Whoever may ask for a pull could otherwise publish any file of this machine as a model, so by
default there is no such folder but the models folder itself. Where the filesystem can, the
bytes are shared and not copied: a clone that writes apart, else a second name for the file.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread

from helexa.neuron.models.supply.choice import choose, parts_of
from helexa.neuron.models.supply.failure import OriginChanged, SourceFailed
from helexa.neuron.models.supply.names import targets
from helexa.neuron.models.supply.piece import ORIGIN, PieceUnavailable
from helexa.neuron.models.supply.records import PULLS_FOLDER
from helexa.neuron.models.supply.source import Asked, Found, Means, RemoteFile, Source, checked

ENTRIES_MAX: Final = 10_000
_FICLONE: Final = 0x40049409
"""Linux's number for "share this file's blocks": btrfs, XFS and others know it."""


class Disk:
    def __init__(self, means: Means) -> None:
        # What lies in the models folder may be published as it is.
        self._folders = (means.models_dir, *means.file_folders)

    async def find(self, asked: Asked) -> Found:
        return await anyio.to_thread.run_sync(self._find, asked)

    @asynccontextmanager
    async def giver(self, file: RemoteFile) -> AsyncIterator[DiskOrigin]:
        yield DiskOrigin(file)

    def link(self, file: RemoteFile, into: Path) -> bool:
        path = Path(file.url)
        if _identity(path) != file.validator:
            raise OriginChanged(f"{path.name} is another file now")
        return _cloned(path, into) or _linked(path, into)

    def _find(self, asked: Asked) -> Found:
        path = self._allowed(asked.rest)
        folder, names = _inside(path)
        wanted = [file.name for file in asked.files]
        if path.is_file():
            wanted = wanted or _with_projector(path.name, names)
        chosen = choose(names, wanted=wanted, quantisation=asked.quantisation)
        files = []
        for name, target in targets(asked.model, chosen).items():
            real = self._allowed(str(folder / name))
            status = real.stat()
            found = RemoteFile(
                name=name,
                target=target,
                size=status.st_size,
                url=str(real),
                validator=_identity(real),
            )
            files.append(checked(found, asked.declared(name)))
        return Found(files=tuple(files))

    def _allowed(self, text: str) -> Path:
        """The real file behind a path. What is not allowed and what is not there look alike."""
        refused = SourceFailed(
            f"{text[:200]!r} is no file in a folder that neuron.file_folders allows"
        )
        path = Path(text.removeprefix("//") if text.startswith("///") else text)
        if not path.is_absolute() or "\0" in text:
            raise SourceFailed(f"{text[:200]!r} is no absolute path; write file:/PATH")
        try:
            real = path.resolve(strict=True)
            roots = [folder.resolve(strict=True) for folder in self._folders if folder.is_dir()]
        except (OSError, RuntimeError) as error:
            raise refused from error
        if not any(real.is_relative_to(root) for root in roots) or PULLS_FOLDER in real.parts:
            raise refused
        if not real.is_file() and not real.is_dir():
            raise refused
        return real


class DiskOrigin:
    """`Giver` of a file that could not be shared."""

    name = ORIGIN
    in_order = False
    is_local = True

    def __init__(self, file: RemoteFile) -> None:
        self._file = file

    async def fetch(self, index: int) -> bytes:
        return await anyio.to_thread.run_sync(self._read, *self._file.layout.span(index))

    def _read(self, start: int, length: int) -> bytes:
        path = Path(self._file.url)
        try:
            with path.open("rb", buffering=0) as file:
                if _identity(path) != self._file.validator:
                    raise OriginChanged(f"{path.name} is another file now")
                data = os.pread(file.fileno(), length, start)
        except OSError as error:
            reason = f"{path.name} cannot be read: {error.strerror}"
            raise PieceUnavailable(reason, final=True) from error
        if len(data) != length:
            raise OriginChanged(f"{path.name} became shorter")
        return data


def _inside(path: Path) -> tuple[Path, list[str]]:
    folder = path if path.is_dir() else path.parent
    names = []
    with os.scandir(folder) as entries:
        for count, entry in enumerate(entries):
            if count >= ENTRIES_MAX:
                raise SourceFailed(f"the folder has more than {ENTRIES_MAX} entries")
            if entry.is_file() and entry.name.isprintable():
                names.append(entry.name)
    return folder, names


def _with_projector(name: str, names: list[str]) -> list[str]:
    parts = parts_of(name)
    stem = parts[0].removesuffix(".gguf").partition("-00001-of-")[0]
    usual = (f"{stem}.mmproj.gguf", f"mmproj-{stem}.gguf")
    return [*parts, *(one for one in usual if one in names)][: len(parts) + 1]


def _identity(path: Path) -> str:
    try:
        status = path.stat()
    except OSError as error:
        raise OriginChanged(f"{path.name} is gone") from error
    return f"{status.st_dev}:{status.st_ino}:{status.st_size}:{status.st_mtime_ns}"


def _cloned(path: Path, into: Path) -> bool:
    try:
        with path.open("rb") as source, into.open("wb") as made:
            fcntl.ioctl(made.fileno(), _FICLONE, source.fileno())
    except OSError:
        into.unlink(missing_ok=True)
        return False
    return True


def _linked(path: Path, into: Path) -> bool:
    try:
        os.link(path, into)
    except OSError:
        return False
    return True


def open_source(means: Means) -> Source:
    return Disk(means)
