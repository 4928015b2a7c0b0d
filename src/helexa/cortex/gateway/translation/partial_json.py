"""The object in a text of JSON that breaks off, as far as it goes. Pure.

The arguments of a call end wherever an answer reached its limit. What stands there for certain
is kept: a text, number or word that is not finished is left out, with its name.
"""

from __future__ import annotations

import json
from typing import Any, Final

DEPTH_MAX: Final = 200
TRIES_MAX: Final = 8
"""The second is good where the text is what it seems: a name may have ended, but no value."""

_CLOSES: Final = {"{": "}", "[": "]"}


def completed(text: str) -> dict[str, Any]:
    """Empty where nothing is certain, or where it is no object."""
    for end, closing in _ends(text)[: -TRIES_MAX - 1 : -1]:
        try:
            found = json.loads(text[:end] + closing)
        except ValueError:
            continue
        return found if isinstance(found, dict) else {}
    return {}


def _ends(text: str) -> list[tuple[int, str]]:
    """Where a value may have ended, the last last, and what closes all that is open there."""
    ends: list[tuple[int, str]] = []
    open_now: list[str] = []
    inside = escaped = False
    for at, char in enumerate(text):
        if inside:
            if escaped:
                escaped = False
            elif char == "\\":
                escaped = True
            elif char == '"':
                inside = False
                ends.append((at + 1, "".join(reversed(open_now))))
        elif char == '"':
            inside = True
        elif char in _CLOSES:
            if len(open_now) >= DEPTH_MAX:
                break
            open_now.append(_CLOSES[char])
            ends.append((at + 1, "".join(reversed(open_now))))
        elif char == ",":
            ends.append((at, "".join(reversed(open_now))))
        elif char in "}]" and open_now:
            open_now.pop()
            ends.append((at + 1, "".join(reversed(open_now))))
    return ends
