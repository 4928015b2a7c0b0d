"""A compressed body made whole again, with the limit on what comes out of it.

A few bytes can stand for gigabytes, so nothing is unpacked further than the limit
lets it. What is large is unpacked by another thread, a few at a time.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Iterator
from typing import Final

from helexa.util.asgi import BodyTooBig

CODINGS: Final = ("gzip", "deflate")
PIECE_BYTES: Final = 64 * 1024
INLINE_BYTES_MAX: Final = 256 * 1024
"""Unpacked at once, in less than a millisecond; all other requests wait meanwhile."""

MEMBERS_MAX: Final = 16
"""Of gzip, which allows files one behind another. Empty ones cost most and count for nothing."""

_GZIP: Final = frozenset((b"gzip", b"x-gzip"))
_GZIP_BITS: Final = 16 + zlib.MAX_WBITS


class CodingUnknown(Exception):
    """`coding` is a stranger's word, decoded."""

    def __init__(self, coding: str) -> None:
        super().__init__(f"a body packed by {coding!r}")
        self.coding = coding


class Corrupt(Exception):
    """What came is not what its coding says, or not all of it."""


async def unpacked(
    body: bytes, coding: bytes, *, bytes_max: int, beside: asyncio.Semaphore
) -> bytes:
    """`body` without its content coding, as a `content-encoding` header names it.

    `beside` bounds how many are unpacked by other threads at once. Raises CodingUnknown
    (also for several codings, one on another), Corrupt, or BodyTooBig.
    """
    name = coding.strip().lower()
    if name in (b"", b"identity"):
        return body
    if name in _GZIP:
        pieces = _members(body, _GZIP_BITS, MEMBERS_MAX)
    elif name == b"deflate":
        pieces = _members(body, _deflate_bits(body), 1)
    else:
        raise CodingUnknown(coding.decode("latin-1"))
    whole = bytearray()
    if len(body) <= INLINE_BYTES_MAX and _take(pieces, whole, INLINE_BYTES_MAX, bytes_max):
        return bytes(whole)
    async with beside:
        return await asyncio.to_thread(_all, pieces, whole, bytes_max)


def _all(pieces: Iterator[bytes], whole: bytearray, bytes_max: int) -> bytes:
    _take(pieces, whole, bytes_max, bytes_max)
    return bytes(whole)


def _take(pieces: Iterator[bytes], whole: bytearray, until: int, bytes_max: int) -> bool:
    """Add pieces until there are more than `until` bytes; whether that was all."""
    try:
        for piece in pieces:
            whole += piece
            if len(whole) > bytes_max:
                raise BodyTooBig(bytes_max)
            if len(whole) > until:
                return False
    except zlib.error as error:
        raise Corrupt(str(error)) from error
    return True


def _deflate_bits(body: bytes) -> int:
    """Of a zlib stream, as the standard has it, or of a bare one, as some clients send."""
    has_head = len(body) > 1 and body[0] & 15 == 8 and (body[0] << 8 | body[1]) % 31 == 0
    return zlib.MAX_WBITS if has_head else -zlib.MAX_WBITS


def _members(body: bytes, bits: int, members_max: int) -> Iterator[bytes]:
    """What up to `members_max` packed files one behind another hold, in pieces."""
    packed, at = memoryview(body), 0
    for _ in range(members_max):
        unpacker = zlib.decompressobj(bits)
        feed: bytes | memoryview = b""
        while not unpacker.eof:
            if not feed:
                feed = packed[at : at + PIECE_BYTES]
                at += len(feed)
            piece = unpacker.decompress(feed, PIECE_BYTES)
            if piece:
                yield piece
            elif not feed:
                raise Corrupt("it ends too early")
            feed = unpacker.unconsumed_tail
        at -= len(unpacker.unused_data)
        if at == len(packed):
            return
    raise Corrupt("there is more behind its end")
