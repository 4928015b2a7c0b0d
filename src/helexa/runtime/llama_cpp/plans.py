"""How llama.cpp's server is started: in our child script, or as the operator's `llama-server`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from helexa.runtime import children
from helexa.runtime.contract import Grant, LaunchPlan, ReplicaSpec
from helexa.runtime.llama_cpp import command, memory

_CHILD: Final = "helexa.runtime.children.llama_cpp"
_SCRIPT: Final = str(Path(children.__path__[0]) / "llama_cpp.py")
_READY_WITHIN_S: Final = 120.0
_LIVE_WITHIN_S: Final = 120.0
"""Builds before the autumn of 2025 answer how busy they are between two batches only."""
_DISK_BYTES_PER_S: Final = 20e6
"""Of the slowest disk that weights are worth loading from."""
_WEIGHTS_BYTES_PER_THREAD: Final = 16 * 1024 * 1024
_SPINS: Final = "2000"
"""Turns that a thread waits for the others before it sleeps, about a tenth of a millisecond.

On idle cores they come sooner than that. On busy ones the usual 300,000 keep the very core
that the other thread waits for: answers took three times as long, loads five times.
"""


def plan(spec: ReplicaSpec, grant: Grant) -> LaunchPlan:
    return LaunchPlan(
        argv=_argv(spec, grant),
        env={"GOMP_SPINCOUNT": _SPINS, **spec.installation.environment},
        ready_within_s=_READY_WITHIN_S + spec.files.weights_bytes / _DISK_BYTES_PER_S,
        live_within_s=_LIVE_WITHIN_S,
    )


def _argv(spec: ReplicaSpec, grant: Grant) -> Sequence[str]:
    wanted, where = _wanted(spec, grant), spec.installation
    if where.program is not None:
        return command.line(str(where.program), wanted, where.arguments)
    if where.python is not None:
        # That environment has the engine, and need not have helexa.
        return (str(where.python), "-I", _SCRIPT, json.dumps(wanted))
    return (sys.executable, "-I", "-m", _CHILD, json.dumps(wanted))


def _wanted(spec: ReplicaSpec, grant: Grant) -> dict[str, Any]:
    return {
        "model": spec.files.model,
        "weights": str(spec.files.weights),
        "projector": str(spec.files.projector or ""),
        "socket": str(grant.socket),
        # The spec counts tokens per request, so the multiplication belongs here.
        "context_total": spec.context_tokens * spec.slots,
        "slots": spec.slots,
        "threads": _threads(spec),
        "deterministic": spec.deterministic,
        "pooling": spec.files.pooling,
        "arguments": dict(spec.arguments),
        "cache_mib": -(-memory.prompt_cache_bytes(spec) >> 20),
        "checkpoints": memory.checkpoints(spec),
    }


def _threads(spec: ReplicaSpec) -> int:
    """Threads that meet after every layer of a small model wait more than they compute.

    On two cores a model of 1 MB ran six times as fast with one thread as with two, and on
    a busy machine ten times and more.
    """
    if asked := spec.arguments.get("threads"):
        return int(asked)
    useful = 1 + spec.files.weights_bytes // _WEIGHTS_BYTES_PER_THREAD
    return min(spec.threads, useful) if spec.threads else 0
