"""OpenAI's answers, as the documents of our sockets describe them.

Engines make them and helexa passes them on, so a type here is what all engines agree on: further
members are their own.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec

FinishReason: TypeAlias = Literal["stop", "length", "tool_calls", "content_filter"]


class PromptDetails(msgspec.Struct, frozen=True, kw_only=True):
    cached_tokens: int | None = None


class CompletionDetails(msgspec.Struct, frozen=True, kw_only=True):
    reasoning_tokens: int | None = None


class TokenUsage(msgspec.Struct, frozen=True, kw_only=True):
    prompt_tokens: int
    total_tokens: int
    completion_tokens: int | None = None
    prompt_tokens_details: PromptDetails | None = None
    completion_tokens_details: CompletionDetails | None = None
    fault: str | None = None
    """`usage_wrong` where the engine counted more than can be."""


class CalledFunction(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    arguments: str
    """JSON, as the model wrote it."""


class ToolCall(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    function: CalledFunction
    type: Literal["function"] = "function"


class AnswerMessage(msgspec.Struct, frozen=True, kw_only=True):
    role: Literal["assistant"]
    content: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[ToolCall] | None = None


class ChatChoice(msgspec.Struct, frozen=True, kw_only=True):
    index: int
    message: AnswerMessage
    finish_reason: FinishReason | None
    logprobs: dict[str, Any] | None = None


class ChatAnswer(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: TokenUsage | None = None
    system_fingerprint: str | None = None


class FunctionDelta(msgspec.Struct, frozen=True, kw_only=True):
    name: str | None = None
    arguments: str | None = None


class ToolCallDelta(msgspec.Struct, frozen=True, kw_only=True):
    index: int
    id: str | None = None
    type: Literal["function"] | None = None
    function: FunctionDelta | None = None


class Delta(msgspec.Struct, frozen=True, kw_only=True):
    role: Literal["assistant"] | None = None
    content: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[ToolCallDelta] | None = None


class ChunkChoice(msgspec.Struct, frozen=True, kw_only=True):
    index: int
    delta: Delta
    finish_reason: FinishReason | None = None
    logprobs: dict[str, Any] | None = None


class ChatChunk(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: list[ChunkChoice]
    """Empty in the one that has usage."""
    usage: TokenUsage | None = None
    system_fingerprint: str | None = None


class TextChoice(msgspec.Struct, frozen=True, kw_only=True):
    index: int
    text: str
    finish_reason: FinishReason | None = None
    logprobs: dict[str, Any] | None = None


class TextAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Whole, and each event of a stream."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[TextChoice]
    usage: TokenUsage | None = None
    system_fingerprint: str | None = None


class Vector(msgspec.Struct, frozen=True, kw_only=True):
    object: Literal["embedding"]
    index: int
    embedding: list[float] | str
    """A text where `encoding_format` is `base64`: little-endian floats of 32 bits."""


class VectorList(msgspec.Struct, frozen=True, kw_only=True):
    object: Literal["list"]
    model: str
    data: list[Vector]
    usage: TokenUsage | None = None


class RankedDocument(msgspec.Struct, frozen=True, kw_only=True):
    text: str


class Ranked(msgspec.Struct, frozen=True, kw_only=True):
    index: int
    """Of the document in the request."""
    relevance_score: float
    document: RankedDocument | None = None


class Ranking(msgspec.Struct, frozen=True, kw_only=True):
    """The best document first."""

    model: str
    results: list[Ranked]
    id: str | None = None
    usage: TokenUsage | None = None


class TypedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """Of a Responses or Messages stream: its `type` says what else it has."""

    type: str


class Tokens(msgspec.Struct, frozen=True, kw_only=True):
    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None = None


class Detokenized(msgspec.Struct, frozen=True, kw_only=True):
    prompt: str
