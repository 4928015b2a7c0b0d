"""Which files in a folder make which models; names and sizes only, nothing is opened.

    NAME.gguf                       model NAME
    NAME-00001-of-00003.gguf ...    one model NAME, in parts
    NAME.mmproj.gguf, mmproj-NAME.gguf   the projector of NAME, beside it
    FOLDER/NAME.gguf                model FOLDER/NAME

A link may point to another file of the same folder; one that leaves it is
refused, because whoever may write a link could otherwise publish any file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from helexa.protocol.ids import MODEL_ID_CHARS_MAX, ModelId, is_model_id
from helexa.protocol.work import MODELS_PER_NEURON_MAX

DEPTH_MAX: Final = 4
ENTRIES_MAX: Final = 100_000
PARTS_MAX: Final = 1_000

_SUFFIX: Final = ".gguf"
_PART: Final = re.compile(r"(.+)-(\d{5})-of-(\d{5})\Z")


@dataclass(frozen=True, slots=True)
class File:
    path: Path
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """The files of one model, parts in order. Comparable: equal means nothing changed on disk."""

    parts: tuple[File, ...]
    projector: File | None = None

    @property
    def size(self) -> int:
        return sum(part.size for part in self.parts) + (
            self.projector.size if self.projector else 0
        )


@dataclass(frozen=True, slots=True)
class Listing:
    models: dict[ModelId, Listed] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    """Name -> why its files make no model."""


def list_models(folder: Path) -> Listing:
    """Raises OSError when the folder itself cannot be read."""
    root = folder.resolve()
    listing = Listing()
    whole: dict[str, File] = {}
    parts: dict[str, dict[int, File]] = {}
    counts: dict[str, int] = {}
    projectors: dict[str, File] = {}
    for name, file, refusal in _files(root):
        if refusal:
            listing.refused[name] = refusal
        elif (owner := _projector_of(name)) is not None:
            projectors[owner] = file
        elif part := _PART.match(name):
            parts.setdefault(part[1], {})[int(part[2])] = file
            counts[part[1]] = int(part[3])
        else:
            whole[name] = file
    for name, found in parts.items():
        missing = counts[name] - len(found)
        if missing or not 0 < counts[name] <= PARTS_MAX:
            listing.refused[name] = f"{missing} of its {counts[name]} parts are missing"
            continue
        _add(listing, name, tuple(found[at] for at in sorted(found)), projectors.get(name))
    for name, file in whole.items():
        _add(listing, name, (file,), projectors.get(name))
    return listing


def _add(listing: Listing, name: str, parts: tuple[File, ...], projector: File | None) -> None:
    if not is_model_id(name):
        listing.refused[name[:MODEL_ID_CHARS_MAX]] = (
            "its name cannot be a model's: use letters, digits and . _ : @ + - in at most "
            f"{DEPTH_MAX} folders deep, and no '..'"
        )
    elif len(listing.models) >= MODELS_PER_NEURON_MAX:
        listing.refused[name] = f"more than {MODELS_PER_NEURON_MAX} models"
    else:
        listing.models[ModelId(name)] = Listed(parts=parts, projector=projector)


def _projector_of(name: str) -> str | None:
    folder, slash, stem = name.rpartition("/")
    if stem.endswith(".mmproj"):
        return folder + slash + stem.removesuffix(".mmproj")
    if stem.startswith("mmproj-"):
        return folder + slash + stem.removeprefix("mmproj-")
    return None


def _files(root: Path) -> Iterator[tuple[str, File, str]]:
    """Name without suffix, the file, and why it is refused or ""."""
    pending = [(root, 1)]
    seen = 0
    while pending:
        folder, depth = pending.pop()
        for entry in _entries(folder):
            seen += 1
            if seen > ENTRIES_MAX:
                return
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                if depth < DEPTH_MAX:
                    pending.append((Path(entry.path), depth + 1))
            elif entry.name.endswith(_SUFFIX):
                yield _file(root, Path(entry.path))


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def _file(root: Path, path: Path) -> tuple[str, File, str]:
    name = path.relative_to(root).as_posix().removesuffix(_SUFFIX)
    # Another encoding's bytes in a file name could be neither shown nor sent.
    name = name.encode(errors="replace").decode()
    try:
        target = path.resolve(strict=True)
        status = target.stat()
    except (OSError, RuntimeError) as error:
        return name, File(path, 0, 0), f"cannot be read: {error}"
    file = File(path, status.st_size, status.st_mtime_ns)
    if not target.is_relative_to(root):
        return name, file, "it is a link to a file outside the models folder"
    if not target.is_file():
        return name, file, "it is not a regular file"
    return name, file, ""
