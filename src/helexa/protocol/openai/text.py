"""Halves of characters: JSON can write them, but they are no text and no engine reads them.

A character outside the first plane is written as two escapes. One of the two alone has no
UTF-8, and each reader of JSON says something else about it, or replaces it.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

from helexa.protocol.errors import BodyMalformed

NAMED_BYTES_MAX: Final = 1 << 20
"""In a larger body the place is not looked for: all other requests wait meanwhile."""
_LONE: Final = re.compile(
    rb"(?<!\\)(?<!\\u[dD][89abAB][0-9a-fA-F]{2})(?:\\\\)*\\u[dD]"
    rb"(?:[89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F][0-9a-fA-F]{2})|[c-fC-F][0-9a-fA-F]{2})"
)
_ESCAPED: Final = re.compile(rb"\\u[dD]")
_HALF: Final = re.compile("[\ud800-\udfff]")


def check(body: bytes) -> None:
    """Raises BodyMalformed for a body that has one. Quick where nothing is escaped."""
    # A byte is looked for far faster than two, and a pattern with two letters faster than a word.
    if body.find(b"\\") < 0 or _ESCAPED.search(body) is None:
        return
    if _LONE.search(body) is None:
        return
    field = _field(body) if len(body) <= NAMED_BYTES_MAX else None
    where = f"`{field}`" if field else "The body"
    raise BodyMalformed(
        reason=f"{where} has half of a character: an escape from \\ud800 to \\udfff without its "
        "other half.",
        field=field,
    )


def _field(body: bytes) -> str | None:
    """Where the first one stands; None where that has no name."""
    try:
        left: list[tuple[str, Any]] = [("", json.loads(body))]
    except (ValueError, RecursionError):
        return None
    while left:
        at, value = left.pop()
        if isinstance(value, str) and _HALF.search(value):
            return at or None
        if isinstance(value, list):
            left += reversed([(f"{at}[{number}]", one) for number, one in enumerate(value)])
        elif isinstance(value, dict):
            if any(map(_HALF.search, value)):
                return at or None
            members = [(f"{at}.{name}" if at else name, one) for name, one in value.items()]
            left += reversed(members)
    return None
