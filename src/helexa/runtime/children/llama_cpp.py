"""llama.cpp's own HTTP server, in a process of its own.

xllamacpp carries the server as a library and no executable, so this script is
the executable: it reads its parameters as one JSON argument, starts the server
on a Unix socket and waits for a signal. SIGTERM keeps its default action: the
library's orderly shutdown hung once in sixty times, and a process that owns
nothing but memory has nothing to tidy.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from typing import Any, Final

_POOLING: Final = {"none": 0, "mean": 1, "cls": 2, "last": 3, "rank": 4}
_LAST_WORDS_S: Final = 0.3
_SAME_NAME: Final = ("n_batch", "n_ubatch", "n_gpu_layers", "rope_freq_base", "rope_freq_scale")
_FLASH: Final = {"auto": "AUTO", "on": "ENABLED", "off": "DISABLED"}
_LOAD_MODES: Final = {
    (True, False): "MMAP",
    (True, True): "MMAP_MLOCK",
    (False, True): "MLOCK",
    (False, False): "NONE",
}
"""By whether weights are mapped and whether they are locked."""


def parameters(wanted: dict[str, Any]) -> Any:
    """CommonParams from what `adapters/llama_cpp.py` planned."""
    import xllamacpp  # heavy, and only this process needs it

    params = xllamacpp.CommonParams()
    params.model.path = wanted["weights"]
    params.model_alias = {wanted["model"]}
    params.hostnames = [wanted["socket"]]
    params.n_ctx = wanted["context_total"]
    params.n_parallel = wanted["slots"]
    params.cache_ram_mib = wanted["cache_mib"]
    params.n_ctx_checkpoints = wanted["checkpoints"]
    # Fitting means a smaller context or fewer layers than was planned and announced.
    params.fit_params = False
    # An empty run fills an accelerator's caches. A processor has none that the first request
    # does not fill as well, and on a busy one it took longer than all the rest of a load.
    processor = xllamacpp.ggml_backend_dev_type.GGML_BACKEND_DEVICE_TYPE_CPU
    params.warmup = any(one["type"] != processor for one in xllamacpp.get_device_info())
    params.ui = False
    params.endpoint_metrics = True
    # Its comments would look like a first byte, after which no other neuron may be tried.
    params.sse_ping_interval = -1
    if wanted["threads"]:
        params.cpuparams.n_threads = wanted["threads"]
        params.cpuparams_batch.n_threads = wanted["threads"]
    _tune(params, wanted["arguments"], xllamacpp)
    if wanted["projector"]:
        params.mmproj.path = wanted["projector"]
    if wanted["deterministic"]:
        params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    if wanted["pooling"]:
        params.embedding = True
        # Otherwise texts of unequal length in one batch are computed in pieces, and the mean of
        # one is that of its last piece.
        params.kv_unified = True
        params.pooling_type = xllamacpp.llama_pooling_type(_POOLING[wanted["pooling"]])
        # An input to embed must fit into one physical batch.
        params.n_batch = params.n_ubatch = wanted["context_total"] // wanted["slots"]
    return params


def _tune(params: Any, arguments: dict[str, Any], engine: Any) -> None:
    """What an operator set; `runtime/llama_cpp/tuning.py` has the list."""
    for name in _SAME_NAME:
        if name in arguments:
            setattr(params, name, arguments[name])
    for name in ("cache_type_k", "cache_type_v"):
        if name in arguments:
            setattr(params, name, engine.ggml_type[f"GGML_TYPE_{arguments[name].upper()}"])
    if "flash_attn" in arguments:
        word = f"LLAMA_FLASH_ATTN_TYPE_{_FLASH[arguments['flash_attn']]}"
        params.flash_attn_type = engine.llama_flash_attn_type[word]
    if "use_mmap" in arguments or "use_mlock" in arguments:
        mode = arguments.get("use_mmap", True), arguments.get("use_mlock", False)
        params.load_mode = engine.llama_load_mode[f"LLAMA_LOAD_MODE_{_LOAD_MODES[mode]}"]


def main() -> None:
    # Ctrl-C in the operator's terminal is the neuron's business.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    params = parameters(json.loads(sys.argv[1]))
    import xllamacpp  # heavy, and only this process needs it

    try:
        server = xllamacpp.Server(params)
    except RuntimeError as error:
        # The engine's last words are written by a thread of its own, and nothing waits for it.
        time.sleep(_LAST_WORDS_S)
        sys.exit(f"llama.cpp did not start: {error}")
    del params
    while server is not None:
        signal.pause()


if __name__ == "__main__":
    main()
