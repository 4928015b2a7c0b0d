"""Small files that only their owner may read, replaced whole or not at all.

A draft beside the file is written to the disk first and takes its name then, so
that a reader, or a machine that lost power, finds the old content or the new.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def replace_private(path: Path, content: bytes) -> None:
    """Make `content` the file's, mode 0600; the folder is made (0700) where missing.

    Raises OSError; the file is then as it was.
    """
    with _drafted(path, content) as draft:
        draft.replace(path)


def create_private(path: Path, content: bytes) -> bool:
    """As `replace_private`, but False and nothing done where the file is there already."""
    with _drafted(path, content) as draft:
        # A link, not a rename: of two processes that start at once the second
        # fails here instead of replacing what the first one made.
        try:
            path.hardlink_to(draft)
        except FileExistsError:
            return False
    return True


@contextmanager
def _drafted(path: Path, content: bytes) -> Iterator[Path]:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        yield draft
    finally:
        draft.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
