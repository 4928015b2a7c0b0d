"""The file that holds what a server is shown."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_BYTES_MAX: Final = 4_096


class KeyRefused(Exception):
    """Says why, without a word of the key."""


def read(path: Path) -> str:
    """Raises KeyRefused."""
    try:
        with path.open(encoding="ascii") as file:
            key = file.read(_BYTES_MAX).strip()
    except OSError as error:
        raise KeyRefused(f"{path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError:
        raise KeyRefused(f"{path} holds no key: one word of ASCII is expected") from None
    if not key:
        raise KeyRefused(f"{path} is empty")
    if not key.isprintable() or " " in key:
        raise KeyRefused(f"{path} holds no key: one word is expected")
    return key
