"""Sets of pieces as integers: bit i stands for piece i.

A set of 32,768 pieces is 4 KiB and is joined with another in a microsecond, which is what
makes it cheap to decide anew for every piece.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

_MIRRORED: Final = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def full(count: int) -> int:
    return (1 << count) - 1


def of(pieces: Iterable[int]) -> int:
    bits = 0
    for index in pieces:
        bits |= 1 << index
    return bits


def to_bytes(bits: int, count: int) -> bytes:
    """As `PieceStore.have` has it: the first piece in the highest bit of the first byte."""
    return bits.to_bytes(-(-count // 8), "little").translate(_MIRRORED)


def from_bytes(data: bytes, count: int) -> int:
    """Raises ValueError where it is not a set of so many pieces."""
    bits = int.from_bytes(data.translate(_MIRRORED), "little")
    if len(data) != -(-count // 8) or bits >> count:
        raise ValueError(f"not a set of {count} pieces")
    return bits


def lowest(bits: int) -> int:
    """Of a set that is not empty."""
    return (bits & -bits).bit_length() - 1


def highest(bits: int) -> int:
    """Of a set that is not empty."""
    return bits.bit_length() - 1


def some(bits: int, random: Callable[[], float]) -> int:
    """A member of a set that is not empty, by chance; `random` gives numbers in 0..1."""
    start = min(int(random() * bits.bit_length()), bits.bit_length() - 1)
    return start + lowest(bits >> start)


def each(bits: int) -> Iterator[int]:
    while bits:
        index = lowest(bits)
        yield index
        bits &= bits - 1
