"""What a child of transformers takes: its libraries, the weights, and what it keeps of prompts.

Held against what processes took with models of 1 to 500 MB: within 15% once every slot had
worked. Keys and values are allocated token by token, so an idle child has none.
"""

from __future__ import annotations

from typing import Final

from helexa.runtime.contract import Footprint, ReplicaSpec
from helexa.runtime.footprint import PIL_BYTES, PIL_DECODING_BYTES, kv_bytes, pictures_bytes

PROCESS_BYTES: Final = 350 * 1024 * 1024
"""torch and transformers once a model is loaded, measured with the builds for processors."""
PASS_TOKENS: Final = 2048
"""Of texts that are embedded or scored together."""
_WIDTHS: Final = {"F32": 4, "F16": 2, "BF16": 2, "float32": 4, "float16": 2, "bfloat16": 2}
_F32: Final = 4
_ACTIVATION_ROWS: Final = 16
"""Of the widest layer, for each token that is read at once."""


def footprint(spec: ReplicaSpec) -> Footprint:
    files = spec.files
    stored = _WIDTHS.get(files.quantisation, 2)
    width = _WIDTHS.get(str(spec.arguments.get("dtype", "auto")), stored)
    weights = files.weights_bytes * width // stored
    scores = spec.slots * files.vocabulary * _F32
    later = _kept(spec, width / 2) + _reading(spec)
    return Footprint(
        weights=weights,
        kv_cache=0,
        overhead=PROCESS_BYTES + scores,
        reserve=later + _seeing(spec),
        on_devices=weights + scores + later,
    )


def _seeing(spec: ReplicaSpec) -> int:
    """In main memory, wherever the model computes."""
    if not spec.files.sees:
        return 0
    return pictures_bytes(spec, pixel_bytes=PIL_BYTES, decoding_bytes=PIL_DECODING_BYTES)


def _kept(spec: ReplicaSpec, share_of_f16: float) -> int:
    window = min(spec.context_tokens, spec.files.window_tokens or spec.context_tokens)
    return kv_bytes(
        spec.files,
        cells=spec.context_tokens,
        window_cells=window,
        slots=spec.slots,
        share_of_f16=share_of_f16,
    )


def _reading(spec: ReplicaSpec) -> int:
    """A prompt is read in one go, by one request at a time."""
    files = spec.files
    tokens = max(PASS_TOKENS, spec.context_tokens) if files.pooling else spec.context_tokens
    return tokens * max(files.embedding_length, files.feed_forward_length) * _F32 * _ACTIVATION_ROWS
