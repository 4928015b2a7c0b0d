"""GGUF, read and written with the standard library alone, as far as these scripts need it."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from .numbers import Tensor, f16_bytes, f16_of, f32_bytes, f32_of, q8_0_of

_ALIGNMENT = 32
_F32, _F16, _Q8_0 = 0, 1, 8
_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?",
            10: "<Q", 11: "<q", 12: "<d"}  # fmt: skip
_STRING, _ARRAY = 8, 9
_U32, _I32, _FLOAT, _BOOL = 4, 5, 6, 7


@dataclass(frozen=True)
class Gguf:
    fields: Mapping[str, Any]
    tensors: Mapping[str, Tensor]


def read(path: Path) -> Gguf:
    with path.open("rb") as file:
        assert file.read(4) == b"GGUF", path
        _version, tensor_count, field_count = struct.unpack("<IQQ", file.read(20))
        fields = {}
        for _ in range(field_count):
            name = _text(file)
            fields[name] = _value(file, _scalar(file, "<I"))
        told = [_told(file) for _ in range(tensor_count)]
        start = _aligned(file.tell())
        return Gguf(fields, {name: _tensor(file, start, *rest) for name, *rest in told})


def _scalar(file: BinaryIO, form: str) -> Any:
    return struct.unpack(form, file.read(struct.calcsize(form)))[0]


def _text(file: BinaryIO) -> str:
    return file.read(_scalar(file, "<Q")).decode()


def _value(file: BinaryIO, kind: int) -> Any:
    if kind == _STRING:
        return _text(file)
    if kind == _ARRAY:
        item, count = _scalar(file, "<I"), _scalar(file, "<Q")
        return [_value(file, item) for _ in range(count)]
    return _scalar(file, _SCALARS[kind])


def _told(file: BinaryIO) -> tuple[str, tuple[int, ...], int, int]:
    name = _text(file)
    shape = [_scalar(file, "<Q") for _ in range(_scalar(file, "<I"))]
    return name, tuple(reversed(shape)), _scalar(file, "<I"), _scalar(file, "<Q")


def _tensor(file: BinaryIO, start: int, shape: tuple[int, ...], kind: int, offset: int) -> Tensor:
    count = 1
    for size in shape:
        count *= size
    file.seek(start + offset)
    if kind == _F32:
        return Tensor(shape, f32_of(file.read(count * 4)))
    if kind == _F16:
        return Tensor(shape, f16_of(file.read(count * 2)))
    assert kind == _Q8_0, f"tensors of type {kind} are not read here"
    return Tensor(shape, q8_0_of(file.read(count // 32 * 34)))


_ADDED = ("position_embd.weight", "token_types.weight")


def write(
    path: Path, fields: Mapping[str, Any], tensors: Mapping[str, Tensor], *, half: bool
) -> None:
    """`half` writes matrices as f16, but for what is added and not multiplied: llama.cpp aborts."""
    head = [b"GGUF", struct.pack("<IQQ", 3, len(tensors), len(fields))]
    for name, value in fields.items():
        head += [_packed_text(name), _packed(value)]
    parts: list[bytes] = []
    offset = 0
    for name, tensor in tensors.items():
        small = half and len(tensor.shape) > 1 and name not in _ADDED
        data = f16_bytes(tensor.values) if small else f32_bytes(tensor.values)
        head += [
            _packed_text(name),
            struct.pack("<I", len(tensor.shape)),
            *(struct.pack("<Q", size) for size in reversed(tensor.shape)),
            struct.pack("<IQ", _F16 if small else _F32, offset),
        ]
        padding = _aligned(len(data)) - len(data)
        parts += [data, bytes(padding)]
        offset += len(data) + padding
    start = b"".join(head)
    with path.open("wb") as file:
        file.write(start + bytes(_aligned(len(start)) - len(start)))
        file.writelines(parts)


def _aligned(position: int) -> int:
    return -(-position // _ALIGNMENT) * _ALIGNMENT


def _packed_text(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _packed(value: Any) -> bytes:
    kind, data = _typed(value)
    return struct.pack("<I", kind) + data


def _typed(value: Any) -> tuple[int, bytes]:
    if isinstance(value, str):
        return _STRING, _packed_text(value)
    if isinstance(value, bool):
        return _BOOL, struct.pack("<?", value)
    if isinstance(value, int):
        return (_U32, struct.pack("<I", value)) if value >= 0 else (_I32, struct.pack("<i", value))
    if isinstance(value, float):
        return _FLOAT, struct.pack("<f", value)
    # Types of tokens are i32 by the specification, and there is no other array of numbers here.
    kind = _STRING if isinstance(value[0], str) else _I32
    packed = [_packed_text(one) if kind == _STRING else struct.pack("<i", one) for one in value]
    return _ARRAY, struct.pack("<IQ", kind, len(value)) + b"".join(packed)
