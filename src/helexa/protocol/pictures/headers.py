"""What kind of picture some bytes are, and how large it would be once decoded.

Only headers are read, and whether the file goes on to its end. A few hundred bytes can
unfold to gigabytes of pixels, so the size is what the file says of itself, at its largest
where it says so more than once.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

TYPES: Final = ("png", "jpeg", "webp", "gif")
CHUNKS_MAX: Final = 1 << 16
"""Of a png, or a gif before its first frame: some are written in parts of a few hundred bytes."""
SEGMENTS_MAX: Final = 4096
"""Parts of a file that are passed over until its size is found."""


class NotAPicture(Exception):
    """Says what is wrong, to go on from "it"."""


@dataclass(frozen=True, slots=True)
class Look:
    type: str
    width: int
    height: int


def looked_at(data: bytes) -> Look:
    """By the bytes alone, whatever a name or a media type says. Raises NotAPicture."""
    kind = type_of(data)
    try:
        width, height, is_whole = _LOOKS[kind](data)
    except (struct.error, IndexError):
        raise NotAPicture(f"ends within the header of a {kind}") from None
    if width < 1 or height < 1:
        raise NotAPicture(f"is a {kind} without pixels")
    if not is_whole:
        raise NotAPicture(f"is a {kind} that ends too soon")
    return Look(kind, width, height)


def type_of(data: bytes) -> str:
    """By its first bytes. Raises NotAPicture."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if data.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "gif"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    raise NotAPicture(f"is none of {', '.join(TYPES)}")


Found: TypeAlias = tuple[int, int, bool]
"""Its width, its height, and whether its end is there."""


def _png(data: bytes) -> Found:
    name, width, height = struct.unpack_from(">4sII", data, 12)
    if name != b"IHDR":
        raise NotAPicture("is a png that does not begin with its header")
    at = 8
    for _ in range(CHUNKS_MAX):
        if at + 12 > len(data):
            return width, height, False
        length, name = struct.unpack_from(">I4s", data, at)
        at += 12 + length
        if name == b"IEND":
            return width, height, at <= len(data)
    raise NotAPicture("is a png of too many parts")


_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_BARE: Final = frozenset({0x01, *range(0xD0, 0xD9)})


def _jpeg(data: bytes) -> Found:
    at, largest = 2, (0, 0)
    for _ in range(SEGMENTS_MAX):
        if data[at] != 0xFF:
            raise NotAPicture("is a jpeg whose header is broken")
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        if marker in _BARE:
            at += 2
            continue
        if marker in (0xDA, 0xD9):
            # The scan: no size behind it counts for those who decode one picture.
            # Within a scan these two bytes are its end and nothing else.
            return *largest, data.find(b"\xff\xd9", at) >= 0
        (length,) = struct.unpack_from(">H", data, at + 2)
        if length < 2:
            raise NotAPicture("is a jpeg whose header is broken")
        if marker in _FRAMES:
            height, width = struct.unpack_from(">HH", data, at + 5)
            largest = max(largest[0], width), max(largest[1], height)
        at += 2 + length
    raise NotAPicture("is a jpeg with an endless header")


def _gif(data: bytes) -> Found:
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    at, blocks = 13 + _colours(flags), 0
    # The first frame may claim to be larger than the screen that it is drawn on.
    for _ in range(SEGMENTS_MAX):
        block = data[at]
        if block == 0x2C:
            left, top, wide, high = struct.unpack_from("<HHHH", data, at + 1)
            # Some writers fill up what follows.
            is_whole = data.rstrip(b"\0\r\n ").endswith(b";")
            return max(width, left + wide), max(height, top + high), is_whole
        if block != 0x21:
            raise NotAPicture("is a gif without a frame")
        at += 2
        while data[at]:
            at += 1 + data[at]
            blocks += 1
            if blocks > CHUNKS_MAX:
                raise NotAPicture("is a gif with an endless header")
        at += 1
    raise NotAPicture("is a gif with an endless header")


def _colours(flags: int) -> int:
    return 3 << (1 + (flags & 7)) if flags & 0x80 else 0


def _webp(data: bytes) -> Found:
    (size,) = struct.unpack_from("<I", data, 4)
    return *_webp_size(data), 8 + size <= len(data)


def _webp_size(data: bytes) -> tuple[int, int]:
    chunk = data[12:16]
    if chunk == b"VP8X":
        wide = int.from_bytes(_part(data, 24, 3), "little") + 1
        high = int.from_bytes(_part(data, 27, 3), "little") + 1
        return wide, high
    if chunk == b"VP8L":
        if _part(data, 20, 1) != b"\x2f":
            raise NotAPicture("is a webp whose header is broken")
        bits = int.from_bytes(_part(data, 21, 4), "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if chunk == b"VP8 ":
        if _part(data, 23, 3) != b"\x9d\x01\x2a":
            raise NotAPicture("is a webp whose header is broken")
        wide, high = struct.unpack_from("<HH", data, 26)
        return wide & 0x3FFF, high & 0x3FFF
    raise NotAPicture("is a webp whose header is broken")


def _part(data: bytes, at: int, length: int) -> bytes:
    found = data[at : at + length]
    if len(found) != length:
        raise IndexError
    return found


_LOOKS: Final[Mapping[str, Callable[[bytes], Found]]] = {
    "png": _png,
    "jpeg": _jpeg,
    "gif": _gif,
    "webp": _webp,
}
