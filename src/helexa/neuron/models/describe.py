"""From a file's metadata to what a neuron announces and an adapter plans with.

Numbers in a file are claims. They are bounded here, so that no later sum or
message is astronomically large because somebody wrote it so.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from helexa.neuron.models.gguf import Metadata
from helexa.protocol.ids import ModelId
from helexa.runtime.contract import ModelFiles

_TEXT_CHARS_MAX: Final = 300
_TEMPLATE_CHARS_MAX: Final = 1 << 20
_CONTEXT_MAX: Final = 1 << 24
_KV_BYTES_PER_TOKEN_MAX: Final = 1 << 30

_POOLING: Final = {0: "", 1: "mean", 2: "cls", 3: "last", 4: "rank"}

# llama.cpp's file types; what is missing here is shown by its number.
_QUANTISATION: Final = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K",
    11: "Q3_K_S", 12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S",
    17: "Q5_K_M", 18: "Q6_K", 19: "IQ2_XXS", 20: "IQ2_XS", 21: "Q2_K_S", 22: "IQ3_XS",
    23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL", 26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S", 29: "IQ2_M",
    30: "IQ4_XS", 31: "IQ1_M", 32: "BF16", 36: "TQ1_0", 37: "TQ2_0", 38: "MXFP4", 39: "NVFP4",
    40: "Q1_0",
}  # fmt: skip


def described(
    model: ModelId,
    weights: Path,
    metadata: Metadata,
    *,
    weights_bytes: int,
    parameters: int,
    projector: Path | None = None,
    projector_bytes: int = 0,
) -> ModelFiles:
    architecture = metadata.text("general.architecture")[:64]
    file_type = metadata.number("general.file_type")
    embedding = _bounded(metadata.number(f"{architecture}.embedding_length"), 1 << 20)
    layers = _bounded(metadata.number(f"{architecture}.block_count"), 1 << 14)
    return ModelFiles(
        model=model,
        weights=weights,
        projector=projector,
        architecture=architecture,
        name=metadata.text("general.name")[:_TEXT_CHARS_MAX],
        description=metadata.text("general.description")[:_TEXT_CHARS_MAX],
        parameters=parameters,
        quantisation=_QUANTISATION.get(file_type, f"type {file_type}"),
        context_tokens_trained=_bounded(
            metadata.number(f"{architecture}.context_length"), _CONTEXT_MAX
        ),
        weights_bytes=weights_bytes,
        projector_bytes=projector_bytes,
        chat_template=metadata.text("tokenizer.chat_template")[:_TEMPLATE_CHARS_MAX],
        pooling=_POOLING.get(metadata.number(f"{architecture}.pooling_type"), ""),
        layers=layers,
        kv_bytes_per_token=_kv_bytes_per_token(metadata, architecture, layers, embedding),
        embedding_length=embedding,
    )


def _kv_bytes_per_token(metadata: Metadata, architecture: str, layers: int, embedding: int) -> int:
    """Keys and values of one token in all layers at f16."""
    attention = f"{architecture}.attention"
    heads = metadata.numbers(f"{attention}.head_count", layers)
    heads_kv = metadata.numbers(f"{attention}.head_count_kv", layers)
    most_heads = max(heads, default=0)
    usual = embedding // most_heads if most_heads > 0 else 0
    key = metadata.number(f"{attention}.key_length") or usual
    value = metadata.number(f"{attention}.value_length") or usual
    # Without a count of their own the keys have as many heads as the queries.
    total = sum(heads_kv) or sum(heads)
    return _bounded(total * (key + value) * 2, _KV_BYTES_PER_TOKEN_MAX)


def _bounded(claim: int, most: int) -> int:
    return max(0, min(claim, most))
