"""Bytes of memory that a model will need, from its metadata, before anything is loaded.

An estimate that errs upwards: a refusal with numbers is cheaper than a machine
that swaps. Weights are mapped from the file and counted in full, because a
decoder touches all of them for every token.
"""

from __future__ import annotations

from typing import Final

from helexa.runtime.contract import Footprint, ReplicaSpec

PROCESS_BYTES: Final = 48 * 1024 * 1024
"""Measured: an idle llama.cpp child with a model of one megabyte."""

PROMPT_CACHE_BYTES_MAX: Final = 1 << 30
_BATCH_TOKENS: Final = 512
_ACTIVATIONS_PER_TOKEN: Final = 24
"""Live f32 rows of the embedding's width during one batch, attention scores aside."""


def prompt_cache_bytes(spec: ReplicaSpec) -> int:
    """Room for prompts of idle slots: never more than the slots themselves can hold."""
    return min(PROMPT_CACHE_BYTES_MAX, _kv_bytes(spec))


def llama_cpp(spec: ReplicaSpec) -> Footprint:
    batch = spec.context_tokens if spec.files.pooling else min(_BATCH_TOKENS, spec.context_tokens)
    compute = batch * spec.files.embedding_length * 4 * _ACTIVATIONS_PER_TOKEN
    return Footprint(
        weights=spec.files.weights_bytes + spec.files.projector_bytes,
        kv_cache=_kv_bytes(spec),
        overhead=PROCESS_BYTES + compute + prompt_cache_bytes(spec),
    )


def _kv_bytes(spec: ReplicaSpec) -> int:
    return spec.files.kv_bytes_per_token * spec.context_tokens * spec.slots
