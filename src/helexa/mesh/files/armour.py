"""Sealed statements as text that survives mail, chat and an editor.

    helexa-certificate-1
    base64 in lines of 64
    (an empty line, and the next one)

Nothing here protects the content: that is what its signature does.
"""

from __future__ import annotations

import base64
import binascii
from typing import Final

CERTIFICATE: Final = "helexa-certificate-1"
REVOCATIONS: Final = "helexa-revocations-1"
SUCCESSIONS: Final = "helexa-succession-1"

TEXT_BYTES_MAX: Final = 1 << 20
_LINE_CHARS: Final = 64


class ArmourBroken(Exception):
    """Not such a text. Says what is wrong with it."""


def armour(header: str, *blobs: bytes) -> str:
    """A text of one block for each of `blobs`."""
    return "\n".join(_block(header, blob) for blob in blobs)


def unarmour(header: str, text: str) -> tuple[bytes, ...]:
    """Every block in `text`, in order. Raises ArmourBroken, also where there is none."""
    if len(text) > TEXT_BYTES_MAX:
        raise ArmourBroken(f"it is longer than {TEXT_BYTES_MAX} characters")
    before, *blocks = text.split(header)
    if before.strip() or not blocks:
        raise ArmourBroken(f"it does not begin with {header!r}")
    return tuple(map(_content, blocks))


def _block(header: str, blob: bytes) -> str:
    digits = base64.b64encode(blob).decode("ascii")
    lines = (digits[at : at + _LINE_CHARS] for at in range(0, len(digits), _LINE_CHARS))
    return "\n".join((header, *lines)) + "\n"


def _content(block: str) -> bytes:
    try:
        content = base64.b64decode("".join(block.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ArmourBroken("it is cut or altered; copy it again") from error
    if not content:
        raise ArmourBroken("it is cut; copy it again")
    return content
