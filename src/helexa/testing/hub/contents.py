"""What the hub holds: repositories of commits of files, and the digests it says of them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

LFS_BYTES_LEAST: Final = 1 << 10
"""Larger files are LFS objects, as are all whose names say weights; real hubs go by both."""
_WEIGHTS: Final = (".gguf", ".safetensors", ".bin", ".model")
_POINTER_BYTES: Final = 134


class Content:
    """Bytes, or a file on disk that is read as it is asked for."""

    def __init__(self, source: bytes | Path) -> None:
        self._source = source
        self.size = len(source) if isinstance(source, bytes) else source.stat().st_size
        sha256 = hashlib.sha256()
        blob = hashlib.sha1(b"blob %d\0" % self.size, usedforsecurity=False)
        for start in range(0, self.size, 1 << 20):
            part = self.read(start, 1 << 20)
            sha256.update(part)
            blob.update(part)
        self.sha256 = sha256.hexdigest()
        self.git_sha1 = blob.hexdigest()

    def read(self, start: int, length: int) -> bytes:
        if isinstance(self._source, bytes):
            return self._source[start : start + length]
        with self._source.open("rb") as file:
            file.seek(start)
            return file.read(min(length, self.size - start))


@dataclass(slots=True)
class Repo:
    """`commit` adds one and moves the branch; earlier commits stay."""

    name: str
    branches: dict[str, str] = field(default_factory=dict)
    commits: dict[str, dict[str, Content]] = field(default_factory=dict)
    gated: bool = False
    private: bool = False
    """Its existence is told to nobody without the token."""

    def commit(self, files: Mapping[str, bytes | Path | Content], *, branch: str = "main") -> str:
        contents = {
            name: one if isinstance(one, Content) else Content(one) for name, one in files.items()
        }
        told = "".join(f"{name}{one.sha256}" for name, one in sorted(contents.items()))
        parent = self.branches.get(branch, "")
        commit = hashlib.sha1((parent + told).encode(), usedforsecurity=False).hexdigest()
        self.commits[commit] = contents
        self.branches[branch] = commit
        return commit

    def at(self, revision: str) -> tuple[str, Mapping[str, Content]] | None:
        commit = self.branches.get(revision, revision)
        files = self.commits.get(commit)
        return None if files is None else (commit, files)

    def described(self, revision: str, *, blobs: bool) -> dict[str, Any] | None:
        """What `/api/models/{repo}/revision/{revision}` answers."""
        found = self.at(revision)
        if found is None:
            return None
        commit, files = found
        siblings = [
            {"rfilename": name, **(_blob(name, one) if blobs else {})}
            for name, one in sorted(files.items())
        ]
        return {
            "_id": commit[:24],
            "id": self.name,
            "modelId": self.name,
            "sha": commit,
            "private": self.private,
            "gated": "auto" if self.gated else False,
            "siblings": siblings,
        }


def is_lfs(name: str, content: Content) -> bool:
    return name.endswith(_WEIGHTS) or content.size >= LFS_BYTES_LEAST


def _blob(name: str, content: Content) -> dict[str, Any]:
    if not is_lfs(name, content):
        return {"size": content.size, "blobId": content.git_sha1}
    # The blob of an LFS file is its pointer, so its id says nothing about the content.
    pointer = hashlib.sha1(content.sha256.encode(), usedforsecurity=False).hexdigest()
    lfs = {"sha256": content.sha256, "size": content.size, "pointerSize": _POINTER_BYTES}
    return {"size": content.size, "blobId": pointer, "lfs": lfs}
