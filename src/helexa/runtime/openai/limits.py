"""How long an answer may become: several names for it, one number.

Engines differ in which of the names they read, which of two wins, and what a number that is
none - 0, a negative one, one that does not fit into 32 bits - comes to; some of it is an
answer without an end. What is counted is paid for, so the engine and whoever counts have to
go by the same number: the least of those that a client gave.
"""

from __future__ import annotations

from typing import Final

from helexa.protocol.errors import BodyMalformed
from helexa.protocol.openai import body as bodies

NAMES: Final = ("max_tokens", "max_completion_tokens", "n_predict")


def output_tokens(raw: bodies.Fields) -> int | None:
    """Of each choice; None where nothing was said. Raises BodyMalformed."""
    said = [one for name in NAMES if (one := _said(raw, name)) is not None]
    return min(said) if said else None


def taken_out(raw: bodies.Fields) -> int | None:
    """The same, which is then no member of `raw` any more."""
    found = output_tokens(raw)
    for name in NAMES:
        raw.pop(name, None)
    return found


def _said(raw: bodies.Fields, name: str) -> int | None:
    value: int | None = bodies.value(raw, name, int)
    if value is not None and value < 1:
        raise BodyMalformed(reason=f"`{name}` is a whole number of 1 or more.", field=name)
    return value
