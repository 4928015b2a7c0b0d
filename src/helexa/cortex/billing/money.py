"""Amounts: integers of nano-credits, so that nothing is ever rounded but where it is divided."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

NANO: Final = 1_000_000_000
"""Nano-credits in a credit."""
AMOUNT_MAX: Final = 10**18
"""A thousand million credits: far inside what a database keeps in eight bytes, so that sums of
many fit there, too.
"""
MILLION: Final = 1_000_000
_WRITTEN: Final = re.compile(r"(-?)([0-9]{1,10})(?:\.([0-9]{1,9}))?")


def nano(text: str) -> int:
    """Nano-credits of what a person wrote: `12`, `0.000000015`. Raises ValueError."""
    found = _WRITTEN.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no amount: digits, and up to nine behind a point")
    sign, whole, part = found.groups()
    amount = int(whole) * NANO + int((part or "").ljust(9, "0"))
    if amount > AMOUNT_MAX:
        raise ValueError(f"{text!r} is more than {shown(AMOUNT_MAX)}")
    return -amount if sign else amount


def shown(amount: int) -> str:
    """As `nano` reads it, without zeros at the end."""
    whole, part = divmod(abs(amount), NANO)
    sign = "-" if amount < 0 else ""
    return f"{sign}{whole}.{part:09}".rstrip("0").rstrip(".")


def divided(amount: int, parts: Sequence[int]) -> list[int]:
    """An amount by millionths that come to a million, to the last nano-credit.

    Each gets its part rounded down; what that leaves goes, one each, to those whose parts lost
    most, of equals to the first. Raises ValueError for parts that come to something else.
    """
    if sum(parts) != MILLION or min(parts, default=-1) < 0 or amount < 0:
        raise ValueError(f"{amount} cannot be divided by {list(parts)} millionths")
    found = [amount * part // MILLION for part in parts]
    lost = [amount * part % MILLION for part in parts]
    for place in sorted(range(len(parts)), key=lambda at: -lost[at])[: amount - sum(found)]:
        found[place] += 1
    return found
