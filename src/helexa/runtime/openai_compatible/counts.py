"""Token counts in the shapes that servers write them, besides OpenAI's own.

Some say `input_tokens` and `output_tokens`; some put the cached or the reasoning tokens
beside the others instead of into details; rerankers often say a total alone.
"""

from __future__ import annotations

from typing import Final

import msgspec

from helexa.protocol.openai import usage
from helexa.protocol.work import Usage


class _Counts(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None
    prompt_cache_hit_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None


class _Body(msgspec.Struct):
    usage: _Counts | None = None


_body: Final = msgspec.json.Decoder(_Body)


def read(event: bytes) -> Usage | None:
    """The counts in an SSE payload or a whole answer; None when it has none that make sense."""
    if b'"usage"' not in event:
        return None
    try:
        said = _body.decode(event).usage
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    if said is None:
        return None
    prompt = said.input_tokens if said.prompt_tokens is None else said.prompt_tokens
    completion = said.output_tokens if said.completion_tokens is None else said.completion_tokens
    if prompt is None and completion is None:
        prompt = said.total_tokens
    if prompt is None and completion is None:
        return None
    if (prompt or 0) < 0 or (completion or 0) < 0:
        return None
    inside = usage.read(event) or Usage()
    cached = inside.prompt_cached or said.prompt_cache_hit_tokens or said.cached_tokens or 0
    reasoning = inside.reasoning or said.reasoning_tokens or 0
    return _disjoint(prompt or 0, completion or 0, cached, reasoning)


def _disjoint(prompt: int, completion: int, cached: int, reasoning: int) -> Usage:
    cached = max(0, min(cached, prompt))
    reasoning = max(0, min(reasoning, completion))
    return Usage(
        prompt_uncached=prompt - cached,
        prompt_cached=cached,
        completion=completion - reasoning,
        reasoning=reasoning,
    )
