"""What a folder of safetensors says about itself, read with every length in doubt.

The headers give tensors and their types, the JSON files beside them the rest (`folder_config`).
Both are claims of files from anywhere: nothing is allocated on the word of a length field, and
anything wrong is one exception with the reason.
"""

from __future__ import annotations

import os
import struct
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from helexa.neuron.models import folder_config
from helexa.neuron.models.gguf import ModelUnreadable
from helexa.neuron.models.listing import CONFIG, INDEX, File
from helexa.protocol.ids import ModelId
from helexa.runtime.contract import ModelFiles

HEADER_BYTES_MAX: Final = 100_000_000
"""As the format itself says."""
TENSORS_MAX: Final = 1_000_000
DIMENSIONS_MAX: Final = 16

_BITS: Final = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F4": 4, "F6_E2M3": 6,
    "F6_E3M2": 6, "U16": 16, "I16": 16, "F16": 16, "BF16": 16, "U32": 32, "I32": 32, "F32": 32,
    "C64": 64, "U64": 64, "I64": 64, "F64": 64,
}  # fmt: skip
_METADATA: Final = "__metadata__"


class _Tensor(msgspec.Struct, frozen=True):
    dtype: str
    shape: list[int]
    data_offsets: tuple[int, int]


def described(model: ModelId, folder: Path, files: Iterable[File]) -> ModelFiles:
    """Raises ModelUnreadable."""
    weights = [file.path for file in files if file.path.suffix == ".safetensors"]
    config = folder_config.read_json(folder / CONFIG)
    for index in (file.path for file in files if file.path.name.endswith(INDEX)):
        _check_index(index)
    elements: Counter[str] = Counter()
    for path in weights:
        elements.update(_elements(path))
    return ModelFiles(
        model=model,
        weights=folder,
        format="safetensors",
        parameters=elements.total(),
        quantisation=_quantisation(config, elements),
        weights_bytes=sum(path.stat().st_size for path in weights),
        **folder_config.told(folder, config),
    )


def _elements(path: Path) -> Counter[str]:
    """Elements by type of one file, whose end is where its header says."""
    try:
        with path.open("rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            length = _header_bytes(path, file.read(8), size)
            told = _all(file.read, length)
    except OSError as error:
        raise ModelUnreadable(f"{path.name} cannot be read: {error.strerror or error}") from error
    try:
        header = msgspec.json.decode(told, type=dict[str, msgspec.Raw])
        header.pop(_METADATA, None)
        if len(header) > TENSORS_MAX:
            raise ModelUnreadable(f"{path.name} claims {len(header)} tensors")
        tensors = [msgspec.json.decode(raw, type=_Tensor) for raw in header.values()]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ModelUnreadable(f"the header of {path.name} is not understood: {error}") from error
    found: Counter[str] = Counter()
    end = 0
    for tensor in tensors:
        found[tensor.dtype[:16]] += _counted(path, tensor)
        end = max(end, tensor.data_offsets[1])
    end += 8 + length
    if end > size:
        raise ModelUnreadable(
            f"{path.name} is truncated: its tensors end at byte {end} and it has {size}"
        )
    return found


def _header_bytes(path: Path, first: bytes, size: int) -> int:
    if len(first) < 8:
        raise ModelUnreadable(f"{path.name} is no safetensors file: only {size} bytes long")
    (length,) = struct.unpack("<Q", first)
    if length > HEADER_BYTES_MAX or 8 + length > size:
        raise ModelUnreadable(f"{path.name} claims a header of {length} bytes and has {size}")
    return int(length)


def _counted(path: Path, tensor: _Tensor) -> int:
    if len(tensor.shape) > DIMENSIONS_MAX or any(one < 0 for one in tensor.shape):
        raise ModelUnreadable(f"{path.name} has a tensor of the shape {tensor.shape[:4]}...")
    count = 1
    for one in tensor.shape:
        count *= one
    start, end = tensor.data_offsets
    bits = _BITS.get(tensor.dtype)
    # Of a type from a newer version the size is unknown here; the engine will judge it.
    if not 0 <= start <= end or (bits is not None and (count * bits + 7) // 8 != end - start):
        raise ModelUnreadable(f"{path.name} has a tensor whose bytes do not fit its shape")
    return count


def _check_index(path: Path) -> None:
    named = folder_config.read_json(path).get("weight_map")
    if not isinstance(named, dict):
        raise ModelUnreadable(f"{path.name} has no weight_map")
    wanted = {folder_config.words(one) for one in named.values()}
    missing = sorted(one for one in wanted if "/" in one or not (path.parent / one).is_file())
    if missing:
        raise ModelUnreadable(f"{len(missing)} of its {len(wanted)} files are missing")


def _quantisation(config: Mapping[str, Any], elements: Counter[str]) -> str:
    """What it was packed with, else the type of most elements."""
    packed = config.get("quantization_config")
    if isinstance(packed, dict) and folder_config.words(packed.get("quant_method")):
        return folder_config.words(packed["quant_method"])[:32].upper()
    return elements.most_common(1)[0][0] if elements else ""


def _all(read: Any, count: int) -> bytes:
    parts = []
    while count:
        part = read(min(count, 1 << 20))
        if not part:
            raise OSError("it became shorter while it was read")
        parts.append(part)
        count -= len(part)
    return b"".join(parts)
