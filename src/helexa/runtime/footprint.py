"""Bytes of memory that a model will need, from numbers about it, before anything is loaded.

What every engine keeps is here: weights, and keys and values of the tokens that
it has read. What one engine needs besides lies with its adapter.
"""

from __future__ import annotations

from typing import Final

from helexa.runtime.contract import Footprint, ModelFiles, ReplicaSpec

PIL_BYTES: Final = 4
"""Of a pixel as Pillow keeps it, whatever the picture had."""
PIL_DECODING_BYTES: Final = 12
"""Beside that: the picture before it was made RGB, and as numbers before it is made smaller."""
_ACTIVATION_TOKENS: Final = 512
_ACTIVATION_ROWS: Final = 12
_F32: Final = 4


def kv_bytes(
    files: ModelFiles, *, cells: int, window_cells: int, slots: int, share_of_f16: float = 1.0
) -> int:
    """Of all slots; `cells` are tokens that one slot can hold, `window_cells` those of layers that
    look back over a window only.
    """
    far = files.kv_bytes_per_token * cells
    near = files.window_kv_bytes_per_token * window_cells
    return slots * (round((far + near) * share_of_f16) + files.state_bytes)


def pictures_bytes(spec: ReplicaSpec, *, pixel_bytes: int, decoding_bytes: int) -> int:
    """Of the pictures of all slots at once: those of a request are held decoded together, and one
    of them at a time is being decoded, which takes `decoding_bytes` a pixel besides.
    """
    kept = spec.request_pixels_max * pixel_bytes
    return spec.slots * (kept + spec.picture_pixels_max * decoding_bytes)


def safetensors(spec: ReplicaSpec, *, process_bytes: int) -> Footprint:
    """For engines that load safetensors as they are: sizes of the files, numbers of config.json."""
    files = spec.files
    window = min(spec.context_tokens, files.window_tokens or spec.context_tokens)
    batch = min(_ACTIVATION_TOKENS, spec.context_tokens)
    row = max(files.embedding_length, files.feed_forward_length)
    return Footprint(
        weights=files.weights_bytes + files.projector_bytes,
        kv_cache=kv_bytes(files, cells=spec.context_tokens, window_cells=window, slots=spec.slots),
        overhead=process_bytes
        + batch * row * _F32 * _ACTIVATION_ROWS
        + spec.slots * files.vocabulary * _F32,
    )
