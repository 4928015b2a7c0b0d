"""A folder of safetensors and JSON files; the same input gives the same bytes."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .numbers import Tensor, bf16_of, f16_of, f32_bytes, f32_of

_READ = {"F32": f32_of, "F16": f16_of, "BF16": bf16_of}


def write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """All in f32."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, tensor in sorted(tensors.items()):
        size = len(tensor.values) * 4
        header[name] = {
            "dtype": "F32",
            "shape": list(tensor.shape),
            "data_offsets": [at, at + size],
        }
        at += size
    told = json.dumps(header).encode()
    told += b" " * (-len(told) % 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(told)) + told)
        for _, tensor in sorted(tensors.items()):
            file.write(f32_bytes(tensor.values))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Those of floating-point numbers."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        found = {}
        for name, told in header.items():
            if told["dtype"] not in _READ:
                continue
            start, end = told["data_offsets"]
            file.seek(8 + length + start)
            values = _READ[told["dtype"]](file.read(end - start))
            found[name] = Tensor(tuple(told["shape"]), values)
        return found
