"""Bytes that llama.cpp's server takes for a model, from the model's metadata.

Read off its allocations and held against them for many shapes of models
(`benchmarks/footprints.py`). In a batch, numbers are counted in rows of f32 for
each token: the attention step and the feed-forward step use the same buffer one
after the other, so the larger of them counts. Memory of the context is touched
when it is allocated; the buffer of a batch only by the first long prompt.
"""

from __future__ import annotations

from typing import Final

from helexa.runtime.contract import Footprint, ReplicaSpec
from helexa.runtime.footprint import kv_bytes, pictures_bytes

PROCESS_BYTES: Final = 33 * 1024 * 1024
"""Of a child with a model of one megabyte: Python, the engine's code, its own tables."""
PROJECTOR_BYTES: Final = 7 * 1024 * 1024
"""What a projector takes besides its weights, however small it is."""
PIXEL_BYTES: Final = 3
"""Of a picture that waits, decoded, until all of its request are."""
DECODING_BYTES: Final = 13
"""Of each pixel besides, while it is decoded: measured with a png of four 16-bit channels, the
most that a picture takes; one of 8 bits takes 3.
"""
PROMPT_CACHE_BYTES_MAX: Final = 1 << 30
CHECKPOINTS_MAX: Final = 8
BATCH_TOKENS: Final = 512
CELLS_OF: Final = 256
"""A slot's context is rounded up to a multiple of it."""

_F32: Final = 4
_F16: Final = 2
_TYPE_F32: Final = 0
_TYPES_HALF: Final = frozenset({1, 30})
_TYPES_REPACKED: Final = frozenset({2, 12, 20, 39})
"""Q4_0, Q4_K, IQ4_NL, MXFP4: copied once more, in an order that the processor likes. What was
mapped stays mapped, and counts.
"""
_TOKEN_BYTES: Final = 170
"""Of a word in the vocabulary's tables."""
_CANDIDATE_BYTES: Final = 16
"""Of a word among the candidates of one slot."""
_QUANTISED_ROW: Final = 34 / 32
_KV_SHARE: Final = {
    "f32": 2.0, "f16": 1.0, "bf16": 1.0, "q8_0": 34 / 64, "q5_1": 24 / 64, "q5_0": 22 / 64,
    "q4_1": 20 / 64, "q4_0": 18 / 64, "iq4_nl": 18 / 64,
}  # fmt: skip
KV_TYPES: Final = tuple(_KV_SHARE)


def footprint(spec: ReplicaSpec) -> Footprint:
    files, repacked = spec.files, _repacked_bytes(spec)
    return Footprint(
        weights=files.weights_bytes + files.projector_bytes + repacked,
        kv_cache=_kv_bytes(spec),
        overhead=PROCESS_BYTES
        + files.vocabulary * (_TOKEN_BYTES + spec.slots * _CANDIDATE_BYTES)
        + _batch_bytes(spec)
        + (PROJECTOR_BYTES + files.projector_work_bytes if files.projector else 0),
        reserve=prompt_cache_bytes(spec)
        + spec.slots * checkpoints(spec) * _kept_bytes(spec)
        + (
            pictures_bytes(spec, pixel_bytes=PIXEL_BYTES, decoding_bytes=DECODING_BYTES)
            if files.projector
            else 0
        ),
        on_devices=_on_devices(spec),
        cpu_only=repacked,
    )


def offloaded(spec: ReplicaSpec) -> float:
    """The share of its layers that devices get, where there are any."""
    asked = spec.arguments.get("n_gpu_layers")
    if asked is None or not spec.files.layers:
        return 0.0 if asked == 0 else 1.0
    # The words that come out are computed by one layer more than metadata counts.
    return min(1.0, int(asked) / (spec.files.layers + 1))


def prompt_cache_bytes(spec: ReplicaSpec) -> int:
    """Room for prompts of idle slots: never more than the slots themselves can hold."""
    return min(PROMPT_CACHE_BYTES_MAX, _kv_bytes(spec))


def checkpoints(spec: ReplicaSpec) -> int:
    """Copies that a slot may keep of what it would else have to compute again.

    Only of layers that forget: a prompt that goes on elsewhere than at its end needs one.
    """
    each = spec.slots * _kept_bytes(spec)
    return min(CHECKPOINTS_MAX, PROMPT_CACHE_BYTES_MAX // each) if each else CHECKPOINTS_MAX


def batch_tokens(spec: ReplicaSpec) -> int:
    """An input to embed must fit into one physical batch."""
    if spec.files.pooling:
        return spec.context_tokens
    asked = spec.arguments.get("n_ubatch")
    most = int(asked) if asked is not None else BATCH_TOKENS
    return min(most, spec.context_tokens * spec.slots)


def is_flash(spec: ReplicaSpec) -> bool:
    """Whether attention is computed without its scores in memory."""
    return not spec.deterministic and spec.arguments.get("flash_attn") != "off"


def _batch_bytes(spec: ReplicaSpec) -> int:
    files, batch = spec.files, batch_tokens(spec)
    width, hidden = files.embedding_length, files.feed_forward_length
    seen = _cells(spec) if files.kv_bytes_per_token else batch
    if is_flash(spec):
        mask, scores = seen // 2, 0
    else:
        mask, scores = seen, files.heads * seen
    words = _words_computed(spec)
    rows = mask + max(scores + 8 * width, 3 * hidden + 5 * width, words + 5 * width)
    converted = max(_converted_bytes(spec) * max(width, hidden), _F16 * scores)
    return round(batch * (_F32 * (rows + words) + converted))


def _words_computed(spec: ReplicaSpec) -> int:
    """For each token of a batch, kept until its end: an embedding of a model that could also go on
    writing is computed with every word that could come next.
    """
    files = spec.files
    return files.vocabulary if files.pooling and files.kv_bytes_per_token else 0


def _converted_bytes(spec: ReplicaSpec) -> float:
    """Of one number of a batch, as it is turned into what the weights are multiplied with."""
    most = max(spec.files.multiplied, key=lambda each: each[1], default=(_TYPE_F32, 0))[0]
    if most == _TYPE_F32:
        return 0.0
    return _F16 if most in _TYPES_HALF else _QUANTISED_ROW


def _repacked_bytes(spec: ReplicaSpec) -> int:
    if spec.arguments.get("use_mmap") is False:
        return 0  # They are read into that order at once.
    return sum(size for kind, size in spec.files.multiplied if kind in _TYPES_REPACKED)


def _cells(spec: ReplicaSpec) -> int:
    return -(-spec.context_tokens // CELLS_OF) * CELLS_OF


def _window_cells(spec: ReplicaSpec) -> int:
    window = spec.files.window_tokens + batch_tokens(spec)
    return min(_cells(spec), -(-window // CELLS_OF) * CELLS_OF)


def _kv_bytes(spec: ReplicaSpec) -> int:
    keys = _KV_SHARE[str(spec.arguments.get("cache_type_k", "f16"))]
    values = _KV_SHARE[str(spec.arguments.get("cache_type_v", "f16"))]
    return kv_bytes(
        spec.files,
        cells=_cells(spec),
        window_cells=_window_cells(spec),
        slots=spec.slots,
        share_of_f16=(keys + values) / 2,
    )


def _on_devices(spec: ReplicaSpec) -> int:
    files, share = spec.files, offloaded(spec)
    if not share:
        return 0
    layers = round((files.weights_bytes + _kv_bytes(spec)) * share)
    return layers + files.projector_bytes + files.projector_work_bytes + _batch_bytes(spec)


def _kept_bytes(spec: ReplicaSpec) -> int:
    """One checkpoint of one slot."""
    window = min(spec.files.window_tokens, spec.context_tokens)
    return spec.files.window_kv_bytes_per_token * window + spec.files.state_bytes
