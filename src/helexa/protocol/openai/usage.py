"""Token counts as OpenAI writes them, read into classes that never overlap."""

from __future__ import annotations

from typing import Final

import msgspec

from helexa.protocol.work import Usage


class _PromptDetails(msgspec.Struct):
    cached_tokens: int | None = None


class _CompletionDetails(msgspec.Struct):
    reasoning_tokens: int | None = None


class _Counts(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None
    resumed_tokens: int | None = None


class _Body(msgspec.Struct):
    usage: _Counts | None = None


_body: Final = msgspec.json.Decoder(_Body)


def read(event: bytes) -> Usage | None:
    """The counts in an SSE payload or a whole answer; None when it has none that make sense."""
    # A whole answer has it at its end.
    if event.rfind(b'"usage"') < 0:
        return None
    try:
        counts = _body.decode(event).usage
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    if counts is None or counts.prompt_tokens < 0 or counts.completion_tokens < 0:
        return None
    prompt, completion = counts.prompt_tokens_details, counts.completion_tokens_details
    if prompt is None and completion is None:
        return Usage(prompt_uncached=counts.prompt_tokens, completion=counts.completion_tokens)
    # OpenAI counts cached tokens inside the prompt and reasoning inside the completion.
    cached = _within((prompt and prompt.cached_tokens) or 0, counts.prompt_tokens)
    reasoning = _within((completion and completion.reasoning_tokens) or 0, counts.completion_tokens)
    return Usage(
        prompt_uncached=counts.prompt_tokens - cached,
        prompt_cached=cached,
        completion=counts.completion_tokens - reasoning,
        reasoning=reasoning,
    )


def resumed(event: bytes) -> int | None:
    """How many of a continuation's tokens were delivered before it; None where it has no counts."""
    if b'"usage"' not in event:
        return None
    try:
        counts = _body.decode(event).usage
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return None if counts is None else max(counts.resumed_tokens or 0, 0)


def _within(part: int, whole: int) -> int:
    return max(0, min(part, whole))
