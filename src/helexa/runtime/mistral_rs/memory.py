"""Bytes that mistral.rs takes for a model on a processor, from the model's metadata.

Read off real children and held against them (docs/runtimes/mistral_rs.md). The file stays mapped
and counts; besides it every matrix is kept as the processor multiplies it, which takes several
times the file, and the embedding once more as f32. Keys and values are kept at f16 and grow
with the conversation; while a prompt is read they are there several times over, of one request
at a time.
"""

from __future__ import annotations

from typing import Final

from helexa.runtime.contract import Footprint, ReplicaSpec
from helexa.runtime.footprint import kv_bytes

PROCESS_BYTES: Final = 54 << 20
"""Python, the engine's code and its threads; how much of the code is resident differs."""
TOKEN_BYTES: Final = 1_350
"""Of a word in the tokenizer's tables."""
PREFIXES: Final = 4
"""Conversations whose keys and values are kept after their end, unless an operator says."""

_F32: Final = 4
_MULTIPLIED_SHARE: Final = {0: 1.35, 1: 2.7, 30: 2.7, 2: 3.0, 8: 3.0, 12: 4.2, 14: 3.8}
"""Of a matrix's bytes in the file, by ggml's number of its type: f32, f16, bf16, q4_0, .."""
_MULTIPLIED_SHARE_ELSE: Final = 4.0
_KV_SHARE: Final = 1.5
_KV_SHARE_READING: Final = 3.5


def footprint(spec: ReplicaSpec) -> Footprint:
    files = spec.files
    kv = kv_bytes(files, cells=spec.context_tokens, window_cells=spec.context_tokens, slots=1)
    keys_and_values = round(kv * (spec.slots * _KV_SHARE + _KV_SHARE_READING))
    kept = _kept_bytes(spec)
    return Footprint(
        weights=files.weights_bytes + kept,
        kv_cache=keys_and_values,
        overhead=PROCESS_BYTES + files.vocabulary * TOKEN_BYTES,
        reserve=kv * prefixes(spec),
        on_devices=files.weights_bytes + keys_and_values,
        cpu_only=kept,
    )


def prefixes(spec: ReplicaSpec) -> int:
    """None where an answer must not depend on what ran before."""
    return 0 if spec.deterministic else int(spec.arguments.get("prefixes", PREFIXES))


def _kept_bytes(spec: ReplicaSpec) -> int:
    files = spec.files
    if files.format != "gguf":
        # Everything is turned into f32, whatever it was.
        return files.parameters * _F32
    matrices = sum(
        size * _MULTIPLIED_SHARE.get(kind, _MULTIPLIED_SHARE_ELSE)
        for kind, size in files.multiplied
    )
    return round(matrices) + files.vocabulary * files.embedding_length * _F32
