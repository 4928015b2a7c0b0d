"""Bytes and seconds as people write them."""

from __future__ import annotations

import re
from typing import Final

_SIZE: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]i?B?|B)?\s*\Z", re.IGNORECASE)
_SPAN: Final = re.compile(r"\s*(\d{1,9}(?:\.\d+)?)\s*([smhdw])?\s*\Z", re.IGNORECASE)
_SPANS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_POWERS: Final = {"": 0, "B": 0, "K": 1, "M": 2, "G": 3, "T": 4}


def parse_bytes(text: str) -> int:
    """`512MiB`, `2 GB`, `4096` -> bytes. Powers of 1024 with `i`, of 1000 without.

    Raises ValueError naming the accepted forms.
    """
    match = _SIZE.match(text)
    if match is None:
        raise ValueError(f"{text!r} is not a size; write for example 512MiB, 2GB or 4096")
    unit = (match[2] or "").upper()
    base = 1024 if "I" in unit else 1000
    return int(float(match[1]) * base ** _POWERS[unit[:1]])


def parse_seconds(text: str) -> int:
    """`90`, `30m`, `24h`, `7d`, `2w` -> seconds. Raises ValueError naming the accepted forms."""
    match = _SPAN.match(text)
    if match is None:
        raise ValueError(f"{text!r} is not a time; write for example 30m, 24h or 7d")
    return int(float(match[1]) * _SPANS[(match[2] or "s").lower()])


def format_bytes(count: float) -> str:
    """1536 -> `1.5 KiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def format_seconds(seconds: float) -> str:
    """75.2 -> `1m 15s`."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 24:
        return f"{hours // 24}d {hours % 24}h"
    return f"{hours}h {minutes}m" if hours else f"{minutes}m {rest}s"
