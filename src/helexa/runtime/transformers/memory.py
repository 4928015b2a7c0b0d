"""What a child of transformers takes: its libraries, the weights, and what it keeps of prompts."""

from __future__ import annotations

from typing import Final

from helexa.runtime.contract import Footprint, ReplicaSpec
from helexa.runtime.footprint import kv_bytes

PROCESS_BYTES: Final = 420 * 1024 * 1024
"""torch and transformers once a model is loaded, measured with the builds for processors."""
_WIDTHS: Final = {"F32": 4, "F16": 2, "BF16": 2, "float32": 4, "float16": 2, "bfloat16": 2}
_F32: Final = 4
_ACTIVATION_ROWS: Final = 12


def footprint(spec: ReplicaSpec) -> Footprint:
    files = spec.files
    stored = _WIDTHS.get(files.quantisation, 2)
    width = _WIDTHS.get(str(spec.arguments.get("dtype", "auto")), stored)
    window = min(spec.context_tokens, files.window_tokens or spec.context_tokens)
    row = max(files.embedding_length, files.feed_forward_length)
    # A prompt is read in one go, by one request at a time.
    reading = spec.context_tokens * row * _F32 * _ACTIVATION_ROWS
    scores = spec.slots * files.vocabulary * _F32
    weights = files.weights_bytes * width // stored
    kept = kv_bytes(
        files,
        cells=spec.context_tokens,
        window_cells=window,
        slots=spec.slots,
        share_of_f16=width / 2,
    )
    return Footprint(
        weights=weights,
        kv_cache=kept,
        overhead=PROCESS_BYTES + scores,
        reserve=reading,
        on_devices=weights + kept + scores + reading,
    )
