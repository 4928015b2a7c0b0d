"""What a model keeps of the tokens it has read, by its metadata: the size of its memory.

Most models keep keys and values of every token in every layer. Some look back
over a window only in most layers, some keep a state of one size instead, some
keep nothing because they read a text once. Numbers in a file are claims, so
every sum is bounded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from helexa.neuron.models.gguf import Metadata

_BYTES_PER_TOKEN_MAX: Final = 1 << 30
_STATE_BYTES_MAX: Final = 1 << 36
_WINDOW_MAX: Final = 1 << 24
_HEADS_MAX: Final = 1 << 16
_F16: Final = 2
_F32: Final = 4

_FULL_EVERY: Final = {
    "gemma2": 2, "gemma3": 6, "gemma3n": 5, "cohere2": 4, "gpt-oss": 2, "exaone4": 4, "llama4": 4,
    "olmo2": 4, "smallthinker": 4,
}  # fmt: skip
"""Every so many layers one sees all, the others a window. Others that name a window ignore it."""
_READ_ONCE: Final = frozenset(
    {"bert", "modern-bert", "nomic-bert", "nomic-bert-moe", "neo-bert", "jina-bert-v2",
     "jina-bert-v3", "t5encoder", "gemma-embedding", "eurobert", "llama-embed"}
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Bytes at f16 of one token in all layers that see everything, and in those with a window."""

    bytes_per_token: int
    window_tokens: int = 0
    window_bytes_per_token: int = 0
    state_bytes: int = 0
    """Of one conversation, however long: recurrent layers."""
    heads: int = 0
    """Of queries, in the layer that has most."""


def kept(metadata: Metadata, architecture: str, layers: int) -> Kept:
    attention = f"{architecture}.attention"
    heads = metadata.numbers(f"{attention}.head_count", layers)
    # Without a count of their own the keys have as many heads as the queries.
    heads_kv = metadata.numbers(f"{attention}.head_count_kv", layers)
    heads_kv = heads_kv if any(heads_kv) else heads
    most = max(heads, default=0)
    state = 0 if architecture in _READ_ONCE else _state_bytes(metadata, architecture, heads_kv)
    if architecture in _READ_ONCE:
        heads_kv = []
    usual = metadata.number(f"{architecture}.embedding_length") // most if most > 0 else 0
    key = metadata.number(f"{attention}.key_length") or usual
    value = metadata.number(f"{attention}.value_length") or usual
    window = metadata.number(f"{attention}.sliding_window")
    far = near = 0
    for layer, count in enumerate(heads_kv):
        size = count * (key + value) * _F16
        if window > 0 and _is_windowed(metadata, architecture, layer):
            near += size
        else:
            far += size
    return Kept(
        bytes_per_token=_bounded(far, _BYTES_PER_TOKEN_MAX),
        window_tokens=_bounded(window, _WINDOW_MAX) if near else 0,
        window_bytes_per_token=_bounded(near, _BYTES_PER_TOKEN_MAX),
        state_bytes=_bounded(state, _STATE_BYTES_MAX),
        heads=_bounded(most, _HEADS_MAX),
    )


def _is_windowed(metadata: Metadata, architecture: str, layer: int) -> bool:
    pattern = metadata.fields.get(f"{architecture}.attention.sliding_window_pattern")
    if isinstance(pattern, list):
        return layer < len(pattern) and bool(pattern[layer])
    every = pattern if isinstance(pattern, int) and pattern > 0 else _FULL_EVERY.get(architecture)
    return every is not None and layer % every != every - 1


def _state_bytes(metadata: Metadata, architecture: str, heads_kv: list[int]) -> int:
    """Of the layers without keys, at f32: what a convolution still needs and the state itself."""
    ssm = f"{architecture}.ssm"
    inner, state = metadata.number(f"{ssm}.inner_size"), metadata.number(f"{ssm}.state_size")
    if inner <= 0:
        return 0
    groups = metadata.number(f"{ssm}.group_count")
    convolved = max(0, metadata.number(f"{ssm}.conv_kernel") - 1) * (inner + 2 * groups * state)
    recurrent = sum(1 for count in heads_kv if count == 0) or len(heads_kv)
    return recurrent * (convolved + inner * state) * _F32


def _bounded(claim: int, most: int) -> int:
    return max(0, min(claim, most))
