"""GGUF models of any size with random weights, written at the speed of the disk.

The engine maps, repacks and multiplies them as any others; what they would say is
noise. A block of random weights is repeated, because making gigabytes of fresh ones
takes longer than loading them.
"""

from __future__ import annotations

import random
import struct
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from helexa.testing import tiny_gguf

_FORMATS: Final = {
    "f32": (0, 1, 4),
    "f16": (1, 1, 2),
    "q4_0": (2, 32, 18),
    "q8_0": (8, 32, 34),
    "q4_k": (12, 256, 144),
    "q5_k": (13, 256, 176),
    "q6_k": (14, 256, 210),
    "iq4_nl": (20, 32, 18),
    "q2_k": (10, 256, 84),
    "q3_k": (11, 256, 110),
    "mxfp4": (39, 32, 17),
    "q5_0": (6, 32, 22),
    "q4_1": (3, 32, 20),
    "bf16": (30, 1, 2),
}
"""ggml's number of the type, elements of a block and bytes of a block."""
_FILE_TYPES: Final = {"f32": 0, "f16": 1, "q4_0": 2, "q8_0": 7}
_REPEATED_BLOCKS: Final = 1 << 15
_CHUNK: Final = 1 << 22


@dataclass(frozen=True, kw_only=True)
class Shape:
    width: int = 512
    layers: int = 4
    heads: int = 8
    heads_kv: int = 0
    """0: as many as heads."""
    feed_forward: int = 0
    """0: four widths."""
    vocabulary: int = 1_024
    context_tokens: int = 32_768
    format: str = "f16"
    pooling: int | None = None
    tied: bool = False
    """Whether the output is the embedding again."""

    @property
    def hidden(self) -> int:
        return self.feed_forward or 4 * self.width

    @property
    def width_kv(self) -> int:
        return self.width // self.heads * (self.heads_kv or self.heads)


def write(path: Path, shape: Shape) -> Path:
    tokens, kinds = _vocabulary(shape.vocabulary)
    fields: dict[str, tiny_gguf.Value] = {
        "general.architecture": "llama",
        "general.name": path.stem,
        "general.file_type": _FILE_TYPES.get(shape.format, 1),
        "llama.context_length": shape.context_tokens,
        "llama.embedding_length": shape.width,
        "llama.block_count": shape.layers,
        "llama.feed_forward_length": shape.hidden,
        "llama.attention.head_count": shape.heads,
        "llama.attention.head_count_kv": shape.heads_kv or shape.heads,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.rope.dimension_count": shape.width // shape.heads,
        "llama.vocab_size": len(tokens),
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": [0.0] * len(tokens),
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.chat_template": tiny_gguf.CHAT_TEMPLATE,
    }
    if shape.pooling is not None:
        fields["llama.pooling_type"] = shape.pooling
    tensors = [
        (name, columns, rows, shape.format if rows else "f32")
        for name, columns, rows in _tensors(shape)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(_head(fields, tensors))
        for _, columns, rows, form in tensors:
            _number, elements, size = _FORMATS[form]
            count = columns * (rows or 1) // elements * size
            written = 0
            block = _block(form)
            while written < count:
                part = block[: count - written]
                written += file.write(part)
            file.write(bytes(-count % tiny_gguf.ALIGNMENT))
    return path


def _tensors(shape: Shape) -> Iterator[tuple[str, int, int]]:
    """Name, columns, rows; a vector has no rows."""
    width, hidden = shape.width, shape.hidden
    yield "token_embd.weight", width, shape.vocabulary
    yield "output_norm.weight", width, 0
    if not shape.tied:
        yield "output.weight", width, shape.vocabulary
    for layer in range(shape.layers):
        block = f"blk.{layer}"
        yield f"{block}.attn_norm.weight", width, 0
        yield f"{block}.attn_q.weight", width, width
        yield f"{block}.attn_k.weight", width, shape.width_kv
        yield f"{block}.attn_v.weight", width, shape.width_kv
        yield f"{block}.attn_output.weight", width, width
        yield f"{block}.ffn_norm.weight", width, 0
        yield f"{block}.ffn_gate.weight", width, hidden
        yield f"{block}.ffn_up.weight", width, hidden
        yield f"{block}.ffn_down.weight", hidden, width


def _vocabulary(size: int) -> tuple[list[str], list[int]]:
    tokens, kinds = tiny_gguf.vocabulary()
    fillers = [f"<filler{number}>" for number in range(size - len(tokens))]
    return [*tokens, *fillers][:size], [*kinds, *(5 for _ in fillers)][:size]


def _head(fields: dict[str, tiny_gguf.Value], tensors: list[tuple[str, int, int, str]]) -> bytes:
    head = bytearray(tiny_gguf.MAGIC + struct.pack("<IQQ", 3, len(tensors), len(fields)))
    for key, value in fields.items():
        head += tiny_gguf.text(key) + tiny_gguf.typed(key, value)
    offset = 0
    for name, columns, rows, form in tensors:
        number, elements, size = _FORMATS[form]
        shape = (columns, rows) if rows else (columns,)
        head += tiny_gguf.text(name) + struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
        head += struct.pack("<IQ", number, offset)
        count = columns * (rows or 1) // elements * size
        offset += count + -count % tiny_gguf.ALIGNMENT
    head += bytes(-len(head) % tiny_gguf.ALIGNMENT)
    return bytes(head)


def _block(form: str) -> bytes:
    chance = random.Random(1)
    if form == "f32":
        block = array("f", (chance.gauss(0, 0.02) for _ in range(_REPEATED_BLOCKS))).tobytes()
    elif form == "bf16":
        block = bytes((0x00, 0x3C)) * _REPEATED_BLOCKS
    elif form == "f16":
        numbers = [chance.gauss(0, 0.02) for _ in range(_REPEATED_BLOCKS)]
        block = struct.pack(f"<{len(numbers)}e", *numbers)
    else:
        size = _FORMATS[form][2]
        scale = struct.pack("<e", 0.0002 if form == "q8_0" else 0.002)
        block = b"".join(scale + chance.randbytes(size - 2) for _ in range(_REPEATED_BLOCKS // 16))
    return block * max(1, _CHUNK // len(block))
