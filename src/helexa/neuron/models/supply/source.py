"""What a source of weights is to a pull: it says which files there are, and gives their bytes.

A file in `sources/` exports `open_source`; its name is the word before the colon. A source
knows one kind of place, and neither the disk nor the pulls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias, runtime_checkable

import msgspec

from helexa.neuron.models.supply.failure import SourceFailed
from helexa.neuron.models.supply.piece import (
    FILE_BYTES_MAX,
    FindSize,
    Giver,
    Layout,
    content_key,
    origin_key,
)
from helexa.neuron.models.supply.web import Token, Web
from helexa.protocol.ids import ModelId
from helexa.protocol.messages import SourceFile


class RemoteFile(msgspec.Struct, frozen=True, kw_only=True):
    """One file as it was found. Kept on disk, so that a pull which goes on later means the same."""

    name: str
    target: str
    """Its path in the models folder."""
    size: int
    sha256: str = ""
    git_sha1: str = ""
    """Of git's blob, where that is all that is known of the content."""
    url: str = ""
    validator: str = ""
    """What changes when the content does: an ETag, a time."""
    in_order: bool = False
    """Its place gives no ranges."""

    @property
    def layout(self) -> Layout:
        if self.sha256:
            return Layout(key=content_key(self.sha256), size=self.size)
        return Layout(
            key=origin_key(self.url, self.validator or self.git_sha1, self.size), size=self.size
        )


class Found(msgspec.Struct, frozen=True, kw_only=True):
    files: tuple[RemoteFile, ...]
    """In the order in which they are put into the models folder."""
    revision: str = ""
    """What the source calls this state of itself; all files are of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a pull wants of its source."""

    model: ModelId
    source: str
    files: tuple[SourceFile, ...] = ()
    quantisation: str = ""

    @property
    def rest(self) -> str:
        """What is behind the colon."""
        return self.source.partition(":")[2]

    def declared(self, name: str) -> SourceFile:
        return next((one for one in self.files if one.name == name), SourceFile(name=name))


class Source(Protocol):
    async def find(self, asked: Asked) -> Found:
        """The files to take. Raises SourceFailed."""
        ...

    def giver(self, file: RemoteFile) -> AbstractAsyncContextManager[Giver | None]:
        """Where its pieces come from; None where peers alone have them.

        `fetch` raises OriginChanged where what is there now is another file.
        """
        ...


@runtime_checkable
class Linking(Protocol):
    """An optional ability of a source: its files are on this disk already."""

    def link(self, file: RemoteFile, into: Path) -> bool:
        """Another name for the same bytes, or a copy that costs none; for a thread.

        False where that cannot be done, and then nothing is there. Raises SourceFailed.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What sources need of the neuron around them."""

    web: Web
    models_dir: Path
    hub: str
    hub_token: Token | None = None
    file_folders: Iterable[Path] = ()
    find_size: FindSize | None = None
    """None: no peers are asked here."""


OpenSource: TypeAlias = Callable[[Means], Source]


def checked(file: RemoteFile, declared: SourceFile) -> RemoteFile:
    """With what the catalogue says of it. Raises SourceFailed where the two differ."""
    where = file.name[:80]
    if not 0 <= file.size <= FILE_BYTES_MAX:
        raise SourceFailed(f"{where} claims to have {file.size} bytes")
    if declared.size and declared.size != file.size:
        raise SourceFailed(
            f"{where} has {file.size} bytes at its source, and was declared with {declared.size}"
        )
    sha256 = declared.sha256.lower()
    if sha256 and not is_sha256(sha256):
        raise SourceFailed(f"what was declared for {where} is no SHA-256")
    if sha256 and file.sha256 and sha256 != file.sha256:
        raise SourceFailed(
            f"{where} has SHA-256 {file.sha256} at its source, and was declared with {sha256}"
        )
    return msgspec.structs.replace(file, sha256=file.sha256 or sha256)


def is_sha256(text: str) -> bool:
    return len(text) == 64 and all(one in "0123456789abcdef" for one in text)
