"""Who, which record, which pulse: 18 bytes that stand for a record, and sums over many of them."""

from __future__ import annotations

import hashlib
import struct
from array import array
from collections.abc import Iterator
from typing import Final, NamedTuple, TypeAlias

from helexa.protocol.gossip import BUCKET_BYTES, BUCKETS, HEAD_BYTES, SHORT_BYTES
from helexa.protocol.ids import NodeId

Short: TypeAlias = bytes
"""The first 8 bytes of a node id. Two keys that share them take 2**64 tries to find; whoever
comes second is not taken."""

Version: TypeAlias = tuple[int, int]
"""Sequence, then pulse: the higher one is the newer word of that node."""

PULSE_MAX: Final = 0xFFFF

_head: Final = struct.Struct(">8sQH")
assert _head.size == HEAD_BYTES


class Head(NamedTuple):
    short: Short
    version: Version


def short_of(node: NodeId) -> Short:
    """Of a whole node id."""
    return bytes.fromhex(node[: 2 * SHORT_BYTES])


def pack(short: Short, version: Version) -> bytes:
    """18 bytes; see the top."""
    return _head.pack(short, version[0], version[1])


def unpack(heads: bytes) -> Iterator[Head]:
    """Whole heads; a remainder is left out."""
    whole = len(heads) - len(heads) % HEAD_BYTES
    for short, sequence, pulse in _head.iter_unpack(heads[:whole]):
        yield Head(short, (sequence, pulse))


def shorts_in(wanted: bytes) -> Iterator[Short]:
    """One after another; a remainder is left out."""
    for start in range(0, len(wanted) - SHORT_BYTES + 1, SHORT_BYTES):
        yield wanted[start : start + SHORT_BYTES]


def mark(head: bytes) -> int:
    """4 bytes that differ when heads do. Who forges a collision hides news from two nodes for
    one comparison, which saying nothing does as well.
    """
    return int.from_bytes(hashlib.blake2b(head, digest_size=BUCKET_BYTES).digest(), "big")


class Sums:
    """One sum per bucket, so that two directories are compared in a kilobyte."""

    __slots__ = ("_sums",)

    def __init__(self) -> None:
        self._sums = array("I", bytes(BUCKETS * array("I").itemsize))

    def toggle(self, head: bytes) -> None:
        """Add what is not in, take out what is."""
        self._sums[head[0]] ^= mark(head)

    def packed(self) -> bytes:
        """For a message: 1 KiB."""
        return struct.pack(f">{BUCKETS}I", *self._sums)

    def differing(self, packed: bytes) -> list[int]:
        """The buckets that are not alike; none for sums of another length."""
        if len(packed) != BUCKETS * BUCKET_BYTES:
            return []
        pairs = zip(self._sums, struct.unpack(f">{BUCKETS}I", packed), strict=True)
        return [at for at, (own, other) in enumerate(pairs) if own != other]
