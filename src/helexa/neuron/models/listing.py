"""Which files in a folder make which models; names and sizes only, nothing is opened.

    NAME.gguf                       model NAME
    NAME-00001-of-00003.gguf ...    one model NAME, in parts
    NAME.mmproj.gguf, mmproj-NAME.gguf   the projector of NAME, beside it
    FOLDER/NAME.gguf                model FOLDER/NAME
    NAME/config.json, *.safetensors model NAME

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

CONFIG: Final = "config.json"
INDEX: Final = ".safetensors.index.json"

_SUFFIX: Final = ".gguf"
_TENSORS: Final = ".safetensors"
_OF_TENSORS: Final = (_TENSORS, INDEX)
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
    folder: Path | None = None
    """Of safetensors, whose parts do not say by themselves what they make."""

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
    tensors: dict[str, dict[str, tuple[File, str]]] = {}
    for name, file, refusal in _files(root, tensors):
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
    for name, beside in tensors.items():
        if name not in listing.models:
            _add_folder(listing, root, name, beside)
    return listing


def _add_folder(
    listing: Listing, root: Path, name: str, beside: dict[str, tuple[File, str]]
) -> None:
    if CONFIG not in beside or not any(one.endswith(_TENSORS) for one in beside):
        return
    refused = [refusal for _, refusal in beside.values() if refusal]
    if refused:
        listing.refused[name] = refused[0]
        return
    parts = tuple(file for _, (file, _) in sorted(beside.items()))
    _add(listing, name, parts, None, folder=root / name)


def _add(
    listing: Listing,
    name: str,
    parts: tuple[File, ...],
    projector: File | None,
    folder: Path | None = None,
) -> None:
    if not is_model_id(name):
        listing.refused[name[:MODEL_ID_CHARS_MAX]] = (
            "its name cannot be a model's: use letters, digits and . _ : @ + - in at most "
            f"{DEPTH_MAX} folders deep, and no '..'"
        )
    elif len(listing.models) >= MODELS_PER_NEURON_MAX:
        listing.refused[name] = f"more than {MODELS_PER_NEURON_MAX} models"
    else:
        listing.models[ModelId(name)] = Listed(parts=parts, projector=projector, folder=folder)


def _projector_of(name: str) -> str | None:
    folder, slash, stem = name.rpartition("/")
    if stem.endswith(".mmproj"):
        return folder + slash + stem.removesuffix(".mmproj")
    if stem.startswith("mmproj-"):
        return folder + slash + stem.removeprefix("mmproj-")
    return None


def _files(
    root: Path, tensors: dict[str, dict[str, tuple[File, str]]]
) -> Iterator[tuple[str, File, str]]:
    """Name without suffix, the file, and why it is refused or "". Those of safetensors go into
    `tensors`, by folder and name.
    """
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
                if depth <= DEPTH_MAX:
                    pending.append((Path(entry.path), depth + 1))
            elif entry.name.endswith(_SUFFIX):
                if depth <= DEPTH_MAX:
                    yield _file(root, Path(entry.path))
            elif folder != root and (entry.name == CONFIG or entry.name.endswith(_OF_TENSORS)):
                _, file, refusal = _file(root, Path(entry.path))
                owner = folder.relative_to(root).as_posix().encode(errors="replace").decode()
                tensors.setdefault(owner, {})[entry.name] = (file, refusal)


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
