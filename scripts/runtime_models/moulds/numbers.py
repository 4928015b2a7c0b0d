"""Numbers of tensors between the types of files, with the standard library alone.

No numpy: a test that needs one of these models then needs nothing installed to make it.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

_Q8_BLOCK = 32
_CHUNK = 1 << 16


@dataclass(frozen=True)
class Tensor:
    """Rows of f32, the last dimension the fastest."""

    shape: tuple[int, ...]
    values: array[float]

    def __post_init__(self) -> None:
        count = 1
        for size in self.shape:
            count *= size
        assert count == len(self.values), (self.shape, len(self.values))


def f32_of(data: bytes) -> array[float]:
    values = array("f")
    values.frombytes(data)
    if sys.byteorder == "big":
        values.byteswap()
    return values


def f32_bytes(values: array[float]) -> bytes:
    if sys.byteorder == "big":
        values = array("f", values)
        values.byteswap()
    return values.tobytes()


def f16_bytes(values: array[float]) -> bytes:
    parts = []
    for at in range(0, len(values), _CHUNK):
        part = values[at : at + _CHUNK]
        parts.append(struct.pack(f"<{len(part)}e", *part))
    return b"".join(parts)


def f16_of(data: bytes) -> array[float]:
    return array("f", struct.unpack(f"<{len(data) // 2}e", data))


def q8_0_of(data: bytes) -> array[float]:
    """Blocks of a scale in f16 and 32 signed bytes. The products are exact in f32."""
    block = struct.Struct(f"<e{_Q8_BLOCK}b")
    values = array("f")
    for scale, *steps in block.iter_unpack(data):
        values.extend([scale * step for step in steps])
    return values


def bf16_of(data: bytes) -> array[float]:
    halves = struct.unpack(f"<{len(data) // 2}H", data)
    return f32_of(b"".join(struct.pack("<I", half << 16) for half in halves))


def rows(tensor: Tensor) -> Sequence[array[float]]:
    width = tensor.shape[-1]
    return [tensor.values[at : at + width] for at in range(0, len(tensor.values), width)]
