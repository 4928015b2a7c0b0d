"""A copy of a GGUF file with other metadata: the same weights behind another chat template."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from helexa.testing import tiny_gguf

_SIZES: Final = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_TEXT: Final = 8
_HEAD: Final = 24


def write(source: Path, target: Path, metadata: Mapping[str, tiny_gguf.Value]) -> Path:
    """`metadata` is put in place of the entries of those names, or added."""
    data = source.read_bytes()
    tensors, entries = struct.unpack_from("<QQ", data, 8)
    kept, count, at = bytearray(), 0, _HEAD
    for _ in range(entries):
        start = at
        at, key = _text(data, at)
        at = _behind(data, at)
        if key not in metadata:
            kept += data[start:at]
            count += 1
    for key, value in metadata.items():
        kept += tiny_gguf.text(key) + tiny_gguf.typed(key, value)
    infos = at
    for _ in range(tensors):
        at, _name = _text(data, at)
        (dimensions,) = struct.unpack_from("<I", data, at)
        at += 4 + 8 * dimensions + 4 + 8
    head = data[:16] + struct.pack("<Q", count + len(metadata)) + kept + data[infos:at]
    head += bytes(-len(head) % tiny_gguf.ALIGNMENT)
    at += -at % tiny_gguf.ALIGNMENT
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(head + data[at:])
    return target


def _text(data: bytes, at: int) -> tuple[int, str]:
    (length,) = struct.unpack_from("<Q", data, at)
    end = at + 8 + length
    return end, data[at + 8 : end].decode()


def _behind(data: bytes, at: int) -> int:
    """Where the value ends whose type is at `at`."""
    (kind,) = struct.unpack_from("<I", data, at)
    at += 4
    if kind in _SIZES:
        return at + _SIZES[kind]
    if kind == _TEXT:
        return _text(data, at)[0]
    kind, count = struct.unpack_from("<IQ", data, at)
    at += 12
    if kind in _SIZES:
        return at + int(_SIZES[kind] * count)
    for _ in range(count):
        at = _text(data, at)[0]
    return at
