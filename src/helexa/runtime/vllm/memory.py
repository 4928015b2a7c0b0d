"""Bytes that vLLM takes for a model, from the model's metadata.

It runs as three processes and more: the server, the engine's core, and a worker for
each part of a divided model, every one with Python and torch of its own. The room for
keys and values is what it is told to take, all of it when it starts.
"""

from __future__ import annotations

from typing import Final

from helexa.runtime import footprint as shared
from helexa.runtime.contract import Footprint, ReplicaSpec
from helexa.runtime.vllm import tuning

_MIB: Final = 1024 * 1024
SERVER_BYTES: Final = 900 * _MIB
"""Of the server and the engine's core."""
WORKER_BYTES: Final = 550 * _MIB
"""Of each worker, before it has weights."""
DEVICE_BYTES: Final = 1_500 * _MIB
"""Of each GPU: its context, the code for it, and steps recorded for batches of each size."""
BLOCK_TOKENS: Final = 128
"""On a processor; smaller on a GPU, where this much more room is taken than is needed."""
_SPARE_BLOCKS: Final = 2
"""One is kept empty by the engine, one is for what is being finished."""
_LEAST_BYTES: Final = 8 * _MIB
_KV_SHARE: Final = {"fp8": 0.5, "fp8_e4m3": 0.5, "fp8_e5m2": 0.5}


def footprint(spec: ReplicaSpec) -> Footprint:
    estimated = shared.safetensors(spec, process_bytes=0)
    workers = tuning.workers(spec.arguments)
    kept, work = kv_bytes(spec), workers * estimated.overhead
    return Footprint(
        weights=estimated.weights,
        kv_cache=kept,
        overhead=SERVER_BYTES + workers * WORKER_BYTES + work,
        reserve=shared.pictures_bytes(
            spec, pixel_bytes=shared.PIL_BYTES, decoding_bytes=shared.PIL_DECODING_BYTES
        )
        if spec.files.sees
        else 0,
        on_devices=estimated.weights + kept + work,
    )


def kv_bytes(spec: ReplicaSpec) -> int:
    """Of all workers: every slot's whole context at once."""
    files = spec.files
    cells = -(-spec.context_tokens // BLOCK_TOKENS) * BLOCK_TOKENS
    each = files.kv_bytes_per_token + files.window_kv_bytes_per_token
    # Layers that look back over a window only get as much room as the others: whether this
    # vLLM gives them less depends on the model and on how it is divided.
    room = each * (cells * spec.slots + _SPARE_BLOCKS * BLOCK_TOKENS)
    return max(round(room * _kv_share(spec)), _LEAST_BYTES)


def _kv_share(spec: ReplicaSpec) -> float:
    kept = str(spec.arguments.get("kv_cache_dtype", "auto"))
    if kept == "auto" and spec.arguments.get("dtype") == "float32":
        return 2.0
    return _KV_SHARE.get(kept, 1.0)
