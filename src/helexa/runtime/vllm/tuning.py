"""What of vLLM an operator may set for a model, and the words that say it to the engine.

Short on purpose: what helexa decides itself (context, slots, the socket) is not here, nor
anything that names a file, a program or another machine. Those go into `arguments` of
`[neuron.runtimes.vllm]`, which only the operator writes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from helexa.runtime.contract import Argument, ArgumentValue

ARGUMENTS: Final[Sequence[Argument]] = (
    Argument(
        name="tensor_parallel_size", kind=int, least=1, most=1_024,
        help="GPUs (on a processor: worker processes) among which each layer is divided",
    ),
    Argument(
        name="pipeline_parallel_size", kind=int, least=1, most=1_024,
        help="groups of those among which the layers are divided",
    ),
    Argument(
        name="distributed_executor_backend", kind=str, choices=("mp", "ray"),
        help="mp on one machine; ray also on several, by a Ray cluster that is there",
    ),
    Argument(name="enable_expert_parallel", kind=bool, help="whole experts are divided"),
    Argument(
        name="dtype", kind=str, choices=("auto", "float16", "bfloat16", "float32"),
        help="of weights and activations; auto computes f32 weights in 16 bits",
    ),
    Argument(
        name="quantization", kind=str,
        choices=(
            "awq", "awq_marlin", "bitsandbytes", "compressed-tensors", "fbgemm_fp8", "fp8",
            "gptq", "gptq_marlin", "modelopt", "mxfp4", "torchao",
        ),
        help="how weights are packed, where config.json does not say",
    ),
    Argument(
        name="kv_cache_dtype", kind=str,
        choices=("auto", "bfloat16", "float16", "fp8", "fp8_e4m3", "fp8_e5m2"),
        help="how keys and values are kept; fp8 takes half the memory",
    ),
    Argument(
        name="gpu_memory_utilization", kind=float, least=0.01, most=1,
        help="share of each GPU to take for everything, in place of room for what the slots need",
    ),
    Argument(
        name="max_num_batched_tokens", kind=int, least=16, most=1 << 20,
        help="tokens computed in one step; more is faster for prompts and takes memory",
    ),
    Argument(
        name="enable_prefix_caching", kind=bool,
        help="keep what prompts have in common; on unless it is turned off",
    ),
    Argument(name="enable_chunked_prefill", kind=bool, help="long prompts a part at a time"),
    Argument(
        name="enforce_eager", kind=bool,
        help="compile nothing: ready in a third of the time, slower afterwards",
    ),
    Argument(
        name="block_size", kind=int, least=1, most=1_024,
        help="tokens of the pieces in which the cache is given out",
    ),
    Argument(
        name="cpu_offload_gb", kind=float, least=0, most=4_096,
        help="GiB of weights that stay in the machine's memory, for each GPU",
    ),
    Argument(
        name="limit_images", kind=int, least=0, most=64,
        help="pictures in one request, of a model that sees; 8 where it is not set",
    ),
    Argument(
        name="safetensors_load_strategy", kind=str, choices=("lazy", "eager", "prefetch"),
        help="eager or prefetch where weights lie on a network file system",
    ),
)  # fmt: skip

IMAGES_MAX: Final = 8
_OURS: Final = frozenset({"limit_images", "gpu_memory_utilization"})
"""Said elsewhere, or only sometimes."""


def words(arguments: Mapping[str, ArgumentValue]) -> Iterator[str]:
    """Of a command line: `--enforce-eager`, `--no-enable-prefix-caching`, `--dtype float16`."""
    for name, value in arguments.items():
        if name in _OURS:
            continue
        flag = name.replace("_", "-")
        if value is True:
            yield f"--{flag}"
        elif value is False:
            yield f"--no-{flag}"
        else:
            yield from (f"--{flag}", str(value))


def workers(arguments: Mapping[str, ArgumentValue]) -> int:
    """Processes that compute, each with a part of the weights."""
    across = int(arguments.get("tensor_parallel_size", 1))
    return across * int(arguments.get("pipeline_parallel_size", 1))


def images_max(arguments: Mapping[str, ArgumentValue]) -> int:
    return int(arguments.get("limit_images", IMAGES_MAX))


def as_json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
