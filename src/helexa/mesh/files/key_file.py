"""A secret key in a file of one line: a header that says whose, then 64 hexadecimal digits.

Losing the file is becoming somebody else to every peer, so nothing here ever
overwrites one, and one that others could read is refused rather than used.
"""

from __future__ import annotations

import os
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from helexa.mesh.files.private_files import create_private

SECRET_BYTES: Final = 32
_FILE_BYTES_MAX: Final = 1_024


class KeyUnusable(Exception):
    """A key file that this node will not run with. Says which file and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyKind:
    """Which sort of key a file holds, and how its messages speak of it."""

    header: str
    noun: str
    """For messages: `node key`."""
    remedy: str
    """What is left to do when the file holds no key."""


def create_secret(path: Path, kind: KeyKind) -> bool:
    """A new random key in `path`, 0600; False and nothing done where there is a file already.

    Raises KeyUnusable when it cannot be written.
    """
    try:
        if path.exists():
            return False
        return create_private(path, f"{kind.header} {secrets.token_hex(SECRET_BYTES)}\n".encode())
    except OSError as error:
        raise _unusable(path, kind, error) from error


def read_secret(path: Path, kind: KeyKind) -> bytes:
    """The 32 bytes in `path`. Raises KeyUnusable, also when there is no such file."""
    try:
        content = _content(path, kind)
    except OSError as error:
        raise _unusable(path, kind, error) from error
    header, _, digits = content.decode("ascii", "replace").strip().partition(" ")
    try:
        secret = bytes.fromhex(digits)
    except ValueError:
        secret = b""
    if header != kind.header or len(secret) != SECRET_BYTES:
        raise KeyUnusable(
            f"the {kind.noun} {path} does not hold a key ({kind.header!r} and 64 hexadecimal "
            f"digits); {kind.remedy}"
        )
    return secret


def _content(path: Path, kind: KeyKind) -> bytes:
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise KeyUnusable(f"the {kind.noun} {path} is not a regular file; move it away")
        if status.st_mode & 0o077:
            raise KeyUnusable(
                f"the {kind.noun} {path} can be used by others (mode "
                f"{stat.S_IMODE(status.st_mode):04o}); if nobody read it, run: chmod 600 {path}"
            )
        return file.read(_FILE_BYTES_MAX)


def _unusable(path: Path, kind: KeyKind, error: OSError) -> KeyUnusable:
    return KeyUnusable(
        f"the {kind.noun} {path} cannot be used: {error.strerror or error}; "
        "check the owner and the permissions of the file and its folder"
    )
