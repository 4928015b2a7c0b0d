"""What of llama.cpp an operator may set for a model; `children/llama_cpp.py` obeys it.

Short on purpose: what helexa decides itself (context, slots, sockets, caches) is
not here, and nothing that names a file or a program.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from helexa.runtime.contract import Argument
from helexa.runtime.llama_cpp.memory import KV_TYPES

ARGUMENTS: Final[Sequence[Argument]] = (
    Argument(
        name="n_batch", kind=int, least=32, most=16_384,
        help="tokens of prompts taken at once",
    ),
    Argument(
        name="n_ubatch", kind=int, least=16, most=8_192,
        help="tokens computed at once; more is faster for prompts and takes memory",
    ),
    Argument(
        name="flash_attn", kind=str, choices=("auto", "on", "off"),
        help="attention without its scores in memory",
    ),
    Argument(
        name="cache_type_k", kind=str, choices=KV_TYPES,
        help="how keys are kept; smaller takes less memory and loses precision",
    ),
    Argument(
        name="cache_type_v", kind=str, choices=KV_TYPES,
        help="how values are kept; smaller than f16 needs flash attention",
    ),
    Argument(
        name="use_mmap", kind=bool,
        help="map the weights; false reads them into memory of the runtime's own",
    ),
    Argument(name="use_mlock", kind=bool, help="keep the weights from being paged out"),
    Argument(
        name="n_gpu_layers", kind=int, least=0, most=10_000,
        help="layers on accelerators; without it all that are there are used",
    ),
    Argument(
        name="rope_freq_base", kind=float, least=1, most=1e9,
        help="stretches positions, for a context longer than the model was trained for",
    ),
    Argument(
        name="rope_freq_scale", kind=float, least=1e-3, most=1,
        help="shrinks positions, to the same end",
    ),
    Argument(name="threads", kind=int, least=1, most=1_024, help="threads that compute"),
)  # fmt: skip
