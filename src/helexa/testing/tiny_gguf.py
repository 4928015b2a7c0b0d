"""Tiny random-weight GGUF models, written in milliseconds with nothing but the standard library.

A test of the store, the supervisor or the real engine needs a file that llama.cpp
accepts, not one that is clever. The weights come from a seed, so the file and
what the engine generates from it at temperature 0 are the same on every run. The
output rows of everything but lower-case letters and the space are zero, so the
text is readable and never ends by itself: a stream lasts until somebody stops it.
"""

from __future__ import annotations

import random
import struct
from array import array
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

MAGIC: Final = b"GGUF"
ALIGNMENT: Final = 32

_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"
_CHARACTERS: Final = [chr(code) for code in range(33, 127)]
_WIDTH: Final = 32
_LAYERS: Final = 1
_FEED_FORWARD: Final = 32

CHAT_TEMPLATE: Final = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)

Value = str | int | float | bool | list[str] | list[int] | list[float]


def write(
    path: Path,
    *,
    context_tokens: int = 2048,
    seed: int = 1,
    chat_template: str | None = CHAT_TEMPLATE,
    pooling: int | None = None,
    architecture: str = "llama",
    metadata: Mapping[str, Value] | None = None,
) -> Path:
    """Write a complete small model to `path`; `pooling` 1 (mean) makes it an embedding model."""
    tokens, kinds = vocabulary()
    fields: dict[str, Value] = {
        "general.architecture": architecture,
        "general.name": path.stem,
        "general.file_type": 0,
        f"{architecture}.context_length": context_tokens,
        f"{architecture}.embedding_length": _WIDTH,
        f"{architecture}.block_count": _LAYERS,
        f"{architecture}.feed_forward_length": _FEED_FORWARD,
        f"{architecture}.attention.head_count": 2,
        f"{architecture}.attention.head_count_kv": 2,
        f"{architecture}.attention.layer_norm_rms_epsilon": 1e-5,
        f"{architecture}.rope.dimension_count": _WIDTH // 2,
        f"{architecture}.vocab_size": len(tokens),
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": [0.0] * len(tokens),
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
    }
    if chat_template is not None:
        fields["tokenizer.chat_template"] = chat_template
    if pooling is not None:
        fields[f"{architecture}.pooling_type"] = pooling
    fields.update(metadata or {})
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode(fields, _tensors(tokens, random.Random(seed))))  # noqa: S311 - not for secrets
    return path


def encode(
    fields: Mapping[str, Value], tensors: Iterable[tuple[str, tuple[int, ...], array[float]]]
) -> bytes:
    """The bytes of a GGUF version 3 file with f32 tensors."""
    infos, data = bytearray(), bytearray()
    count = 0
    for name, shape, values in tensors:
        infos += text(name) + struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
        infos += struct.pack("<IQ", 0, len(data))
        data += values.tobytes()
        data += bytes(-len(data) % ALIGNMENT)
        count += 1
    head = bytearray(MAGIC + struct.pack("<IQQ", 3, count, len(fields)))
    for key, value in fields.items():
        head += text(key) + typed(key, value)
    head += infos
    head += bytes(-len(head) % ALIGNMENT)
    return bytes(head + data)


def vocabulary() -> tuple[list[str], list[int]]:
    """Specials, every byte, then printable characters; types 2, 3, 6 and 1 as SentencePiece has."""
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁"]
    kinds = [2, 3, 3, *(6 for _ in range(256)), 1]
    tokens += _CHARACTERS
    kinds += [1] * len(_CHARACTERS)
    return tokens, kinds


def _tensors(
    tokens: list[str], chance: random.Random
) -> Iterable[tuple[str, tuple[int, ...], array[float]]]:
    def noise(columns: int, rows: int) -> array[float]:
        return array("f", (chance.gauss(0, 0.6) for _ in range(columns * rows)))

    ones = array("f", [1.0] * _WIDTH)
    said = {"▁", *_LETTERS}
    output = array("f")
    for token in tokens:
        output.extend(noise(_WIDTH, 1) if token in said else array("f", bytes(4 * _WIDTH)))
    yield "token_embd.weight", (_WIDTH, len(tokens)), noise(_WIDTH, len(tokens))
    yield "output_norm.weight", (_WIDTH,), ones
    yield "output.weight", (_WIDTH, len(tokens)), output
    for layer in range(_LAYERS):
        block = f"blk.{layer}"
        yield f"{block}.attn_norm.weight", (_WIDTH,), ones
        for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
            yield f"{block}.{part}.weight", (_WIDTH, _WIDTH), noise(_WIDTH, _WIDTH)
        yield f"{block}.ffn_norm.weight", (_WIDTH,), ones
        yield f"{block}.ffn_gate.weight", (_WIDTH, _FEED_FORWARD), noise(_WIDTH, _FEED_FORWARD)
        yield f"{block}.ffn_up.weight", (_WIDTH, _FEED_FORWARD), noise(_WIDTH, _FEED_FORWARD)
        yield f"{block}.ffn_down.weight", (_FEED_FORWARD, _WIDTH), noise(_FEED_FORWARD, _WIDTH)


def text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw


def typed(key: str, value: Value) -> bytes:
    match value:
        case bool():
            return struct.pack("<I?", 7, value)
        case int():
            return struct.pack("<II", 4, value)
        case float():
            return struct.pack("<If", 6, value)
        case str():
            return struct.pack("<I", 8) + text(value)
        case list():
            return struct.pack("<I", 9) + _array(key, value)


def _array(key: str, values: list[str] | list[int] | list[float]) -> bytes:
    if values and isinstance(values[0], str):
        return struct.pack("<IQ", 8, len(values)) + b"".join(text(str(item)) for item in values)
    # Token types are signed 32-bit numbers in every file that llama.cpp reads.
    kind, form = (5, "i") if key.endswith("token_type") else (6, "f")
    return struct.pack("<IQ", kind, len(values)) + array(form, values).tobytes()
