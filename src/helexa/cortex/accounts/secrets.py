"""The form of an API key: `hx_live_` + 256 random bits + a checksum, in base 62.

The prefix lets secret scanners find a leaked key; the checksum tells a mistyped
key from an unknown one without a look-up.
"""

from __future__ import annotations

import hashlib
import secrets
import zlib
from typing import Final

PREFIX: Final = "hx_live_"
_ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_BODY_CHARS: Final = 43
_CHECK_CHARS: Final = 6
SECRET_CHARS: Final = len(PREFIX) + _BODY_CHARS + _CHECK_CHARS


def new_secret() -> str:
    body = _base62(secrets.randbits(256), _BODY_CHARS)
    return f"{PREFIX}{body}{_checksum(body)}"


def is_well_formed(secret: str) -> bool:
    if len(secret) != SECRET_CHARS or not secret.startswith(PREFIX) or not secret.isascii():
        return False
    body = secret[len(PREFIX) : -_CHECK_CHARS]
    return _checksum(body) == secret[-_CHECK_CHARS:]


def hash_of(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()


def hint_of(secret: str) -> str:
    return f"{secret[: len(PREFIX) + 4]}...{secret[-4:]}"


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), _CHECK_CHARS)


def _base62(number: int, width: int) -> str:
    digits = []
    for _ in range(width):
        number, digit = divmod(number, 62)
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))
