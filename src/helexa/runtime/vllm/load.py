"""What vLLM says of itself at `/metrics`, of which four numbers are wanted."""

from __future__ import annotations

import re
from typing import Final

from helexa.runtime.contract import EngineLoad

_LINE: Final = re.compile(rb"^vllm:(\w+)(?:\{[^}\n]*\})? ([0-9.eE+-]+)$", re.MULTILINE)
_NAMES: Final = frozenset({
    b"num_requests_running", b"num_requests_waiting", b"kv_cache_usage_perc",
    b"gpu_cache_usage_perc", b"prefix_cache_hits_total",
})  # fmt: skip


def read(body: bytes) -> EngineLoad:
    """Never raises. Engines beside one another, which divide the requests, are added up."""
    found: dict[bytes, list[float]] = {}
    for name, text in _LINE.findall(body):
        if name in _NAMES:
            try:
                number = float(text)
            except ValueError:
                continue
            found.setdefault(name, []).append(number)
    return EngineLoad(
        running=_sum(found.get(b"num_requests_running")),
        waiting=_sum(found.get(b"num_requests_waiting")),
        kv_share=_mean(found.get(b"kv_cache_usage_perc") or found.get(b"gpu_cache_usage_perc")),
        cached_tokens=_sum(found.get(b"prefix_cache_hits_total")),
    )


def _sum(values: list[float] | None) -> int | None:
    return None if values is None else max(0, int(sum(values)))


def _mean(values: list[float] | None) -> float | None:
    return None if values is None else min(1.0, max(0.0, sum(values) / len(values)))
