"""How vLLM is started for one replica: its words, and its environment.

What an operator wrote in `arguments` comes last, because the last of two equal words is
the one that holds: whoever needs another parser or Ray says so there.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from helexa.runtime import children
from helexa.runtime.contract import Grant, ReplicaSpec
from helexa.runtime.vllm import memory, templates, tuning

_CHILD: Final = Path(children.__file__).parent / "vllm.py"
_SHARE_ASKED: Final = "0.05"
_NOWHERE: Final = "nothing.invalid"
"""The one place that pictures may be fetched from: the neuron fetches them, not the engine."""


def argv(spec: ReplicaSpec, grant: Grant) -> list[str]:
    where = spec.installation
    # Of a program's environment nothing is known, so what starts it is this one's interpreter.
    python = sys.executable if where.python is None or where.program else str(where.python)
    return [
        *(python, "-I", str(_CHILD), str(where.program or ""), str(spec.files.weights)),
        *_served(spec, grant),
        *(_pooling(spec) if spec.files.pooling else _generating(spec)),
        *tuning.words(spec.arguments),
        *where.arguments,
    ]


def environment(spec: ReplicaSpec, grant: Grant) -> dict[str, str]:
    env = {
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_LOGGING_COLOR": "0",
    }
    if spec.arguments.get("enforce_eager"):
        # Some steps of sampling are compiled all the same, which takes a compiler and 20 s
        # of the first request that asks for probabilities.
        env["TORCHDYNAMO_DISABLE"] = "1"
    if spec.deterministic:
        env["VLLM_BATCH_INVARIANT"] = "1"
    if grant.cpus and not grant.devices:
        # By itself it binds each worker to whole nodes of memory.
        env["VLLM_CPU_OMP_THREADS_BIND"] = _divided(list(grant.cpus), spec)
    return {**env, **spec.installation.environment}


def _served(spec: ReplicaSpec, grant: Grant) -> Iterator[str]:
    yield from ("--uds", str(grant.socket))
    yield from ("--served-model-name", spec.files.model)
    yield from ("--max-model-len", str(spec.context_tokens))
    yield from ("--max-num-seqs", str(spec.slots))
    if "gpu_memory_utilization" in spec.arguments:
        # Of a device that others use, too, no more than was lent, whatever was written.
        share = min(float(spec.arguments["gpu_memory_utilization"]), *grant.device_shares, 1.0)
        yield from ("--gpu-memory-utilization", f"{share:g}")
    else:
        # Each worker takes as much; the keys and values of a token are divided among them.
        # Told no number, vLLM takes nine tenths of the device, also for a model that keeps none.
        each = -(-memory.kv_bytes(spec) // tuning.workers(spec.arguments))
        yield from ("--kv-cache-memory-bytes", str(each))
        # It asks for that share to be free all the same before it starts, so it is told little.
        yield from ("--gpu-memory-utilization", _SHARE_ASKED)
    yield "--disable-uvicorn-access-log"
    yield from ("--allowed-media-domains", _NOWHERE)


def _generating(spec: ReplicaSpec) -> Iterator[str]:
    template = spec.files.chat_template
    yield "--enable-prompt-tokens-details"
    # Without it a small model that may write a space writes spaces to the end of its context.
    whitespace = {"backend": "xgrammar", "disable_any_whitespace": True}
    yield from ("--structured-outputs-config", tuning.as_json(whitespace))
    if parser := templates.tool_parser(template):
        yield from ("--enable-auto-tool-choice", "--tool-call-parser", parser)
        # Without it a call's arguments are free unless the client says `strict` to each tool.
        yield from ("--tool-strict-level", "parameter")
    if parser := templates.reasoning_parser(template):
        yield from ("--reasoning-parser", parser)
    if spec.files.sees:
        most = {"image": tuning.images_max(spec.arguments), "video": 0, "audio": 0}
        yield from ("--limit-mm-per-prompt", tuning.as_json(most))


def _pooling(spec: ReplicaSpec) -> Iterator[str]:
    files = spec.files
    yield from ("--runner", "pooling")
    if files.pooling == "rank":
        return
    pooler = {"pooling_type": files.pooling.upper()}
    yield from ("--convert", "embed", "--pooler-config", tuning.as_json(pooler))
    if files.dimensions:
        known = {"is_matryoshka": True, "matryoshka_dimensions": list(files.dimensions)}
        yield from ("--hf-overrides", tuning.as_json(known))


def _divided(cpus: list[int], spec: ReplicaSpec) -> str:
    """`0,1|2,3`: for each worker its own."""
    workers = tuning.workers(spec.arguments)
    each = max(1, len(cpus) // workers)
    parts = [cpus[at * each : (at + 1) * each] or cpus[-1:] for at in range(workers)]
    return "|".join(",".join(map(str, part)) for part in parts)
