"""What is no text, although it stands where JSON has one: no engine reads it.

Bytes that are no UTF-8 are found by those readers of JSON alone that look at them. And a
character outside the first plane is written as two escapes: one of the two alone has no UTF-8,
and each reader says something else about it, or replaces it.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable
from typing import Any, Final

from helexa.protocol.errors import BodyMalformed

NAMED_BYTES_MAX: Final = 1 << 20
"""In a larger body the place is not looked for: all other requests wait meanwhile."""
PLACE_CHARS_MAX: Final = 200
_BLOCK_BYTES: Final = 64 * 1024
"""Looked at in one piece, so that a large body is not in memory once more."""
_LONE: Final = re.compile(
    rb"(?<!\\)(?<!\\u[dD][89abAB][0-9a-fA-F]{2})(?:\\\\)*\\u[dD]"
    rb"(?:[89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F][0-9a-fA-F]{2})|[c-fC-F][0-9a-fA-F]{2})"
)
_ESCAPED: Final = re.compile(rb"\\u[dD]")
_HALF: Final = re.compile("[\ud800-\udfff]")


def check(body: bytes) -> None:
    """Raises BodyMalformed for a body that has such a thing. Quick for what is usual."""
    if not body.isascii() and (at := first_odd(body)) is not None:
        field = _field(body.decode("utf-8", "surrogateescape")) if _is_small(body) else None
        where = f", in `{field}`" if field else ""
        raise BodyMalformed(
            reason=f"The body is not UTF-8: the byte 0x{body[at]:02x} at position {at}{where}.",
            field=field,
        )
    # A byte is looked for far faster than two, and a pattern with two letters faster than a word.
    if body.find(b"\\") < 0 or _ESCAPED.search(body) is None:
        return
    if _LONE.search(body) is None:
        return
    field = _field(body.decode()) if _is_small(body) else None
    where = f"`{field}`" if field else "The body"
    raise BodyMalformed(
        reason=f"{where} has half of a character: an escape from \\ud800 to \\udfff without its "
        "other half.",
        field=field,
    )


def first_odd(body: bytes) -> int | None:
    """The position of the first byte that is no UTF-8; None where all are."""
    view = memoryview(body)
    at = 0
    while at < len(body):
        is_last = at + _BLOCK_BYTES >= len(body)
        try:
            at += codecs.utf_8_decode(view[at : at + _BLOCK_BYTES], "strict", is_last)[1]
        except UnicodeDecodeError as error:
            return at + error.start
    return None


def _is_small(body: bytes) -> bool:
    return len(body) <= NAMED_BYTES_MAX


def _field(body: str) -> str | None:
    """Where the first one stands; None where that has no name."""
    return place(body, lambda value: isinstance(value, str) and _HALF.search(value) is not None)


def place(body: str | bytes, is_odd: Callable[[Any], bool]) -> str | None:
    """Where the first value that is odd, or has an odd name, stands in what may be JSON."""
    try:
        left: list[tuple[str, Any]] = [("", json.loads(body))]
    except (ValueError, RecursionError):
        return None
    while left:
        at, value = left.pop()
        if is_odd(value):
            return _said(at)
        if isinstance(value, list):
            left += reversed([(f"{at}[{number}]", one) for number, one in enumerate(value)])
        elif isinstance(value, dict):
            if any(map(is_odd, value)):
                return _said(at)
            members = [(f"{at}.{name}" if at else name, one) for name, one in value.items()]
            left += reversed(members)
    return None


def _said(at: str) -> str | None:
    """It may be made of names that a client chose."""
    return at if 0 < len(at) <= PLACE_CHARS_MAX else None
