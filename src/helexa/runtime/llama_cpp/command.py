"""The command line of a `llama-server` that the operator has, in place of our child script.

It says the same as `children/llama_cpp.py` does by parameters. Written against the flags of
llama.cpp of October 2026.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

_SAME: Final = {
    "n_batch": "--batch-size",
    "n_ubatch": "--ubatch-size",
    "n_gpu_layers": "--n-gpu-layers",
    "rope_freq_base": "--rope-freq-base",
    "rope_freq_scale": "--rope-freq-scale",
    "cache_type_k": "--cache-type-k",
    "cache_type_v": "--cache-type-v",
}
_LOAD_MODES: Final = {
    (True, False): "mmap",
    (True, True): "mmap+mlock",
    (False, True): "mlock",
    (False, False): "none",
}
"""By whether weights are mapped and whether they are locked."""


def line(program: str, wanted: Mapping[str, Any], further: Sequence[str] = ()) -> Sequence[str]:
    """`wanted` is what the child script would be told; `further` are the operator's own words."""
    words = [
        program,
        *("--model", wanted["weights"]),
        *("--alias", wanted["model"]),
        *("--host", wanted["socket"]),
        *("--ctx-size", wanted["context_total"]),
        *("--parallel", wanted["slots"]),
        *("--cache-ram", wanted["cache_mib"]),
        *("--ctx-checkpoints", wanted["checkpoints"]),
        # Fitting means a smaller context or fewer layers than was planned and announced.
        *("--fit", "off"),
        # Its comments would look like a first byte, after which no other neuron may be tried.
        *("--sse-ping-interval", -1),
        *("--jinja", "--metrics", "--slots", "--no-ui", "--offline"),
    ]
    if wanted["threads"]:
        words += ["--threads", wanted["threads"], "--threads-batch", wanted["threads"]]
    if wanted["projector"]:
        words += ["--mmproj", wanted["projector"]]
    words += _tuned(wanted)
    if wanted["pooling"]:
        words += _pooled(wanted)
    return [str(word) for word in (*words, *further)]


def _tuned(wanted: Mapping[str, Any]) -> list[Any]:
    arguments = wanted["arguments"]
    words: list[Any] = []
    for name, flag in _SAME.items():
        if name in arguments:
            words += [flag, arguments[name]]
    flash = "off" if wanted["deterministic"] else arguments.get("flash_attn")
    if flash is not None:
        words += ["--flash-attn", flash]
    if "use_mmap" in arguments or "use_mlock" in arguments:
        mode = arguments.get("use_mmap", True), arguments.get("use_mlock", False)
        words += ["--load-mode", _LOAD_MODES[mode]]
    return words


def _pooled(wanted: Mapping[str, Any]) -> list[Any]:
    # An input to embed must fit into one physical batch, and texts of unequal length into one.
    batch = wanted["context_total"] // wanted["slots"]
    kind = ["--reranking"] if wanted["pooling"] == "rank" else ["--embeddings"]
    return [
        *kind,
        *("--pooling", wanted["pooling"]),
        *("--batch-size", batch, "--ubatch-size", batch, "--kv-unified"),
    ]
