"""The heads of OpenAI requests: what decides where a request goes, and what engines disagree on.

Everything else in a body is between the client and the model, and passes as it
came. Prompts are looked at only to say that one is missing or is not a prompt.
Sampling fields are typed here although nothing reads them: one engine ignores a
wrong type, another crashes on it, and a client should be told the same by all.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import msgspec

Texts: TypeAlias = str | list[str | int | list[int]]
"""A text, texts, token ids, or lists of those."""


class StreamOptions(msgspec.Struct, frozen=True):
    include_usage: bool | None = None


class MessageHead(msgspec.Struct, frozen=True):
    role: str


_ABSENT: Final = msgspec.Raw()


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """What all requests for work have."""

    model: str = ""
    """Empty only beside `models`."""
    user: str | None = None
    prompt_cache_key: str | None = None
    models: msgspec.Raw = _ABSENT
    """This and the next four are about where a request goes. They are read where one has them,
    which few have."""
    provider: msgspec.Raw = _ABSENT
    route: msgspec.Raw = _ABSENT
    transforms: msgspec.Raw = _ABSENT
    helexa: msgspec.Raw = _ABSENT

    @property
    def asks_way(self) -> bool:
        """Whether it says anything about where it goes."""
        return bool(self.provider or self.models or self.helexa or self.route or self.transforms)


class Generation(Head, frozen=True, kw_only=True):
    """What all requests for text have."""

    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    n: int | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    service_tier: str | None = None

    @property
    def output_tokens_max(self) -> int | None:
        """Where the caller wants an answer to end at the latest."""
        return self.max_tokens

    @property
    def wants_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage is True


class ChatHead(Generation, frozen=True, kw_only=True):
    messages: list[MessageHead]
    max_completion_tokens: int | None = None
    tools: list[msgspec.Raw] | None = None
    tool_choice: str | dict[str, msgspec.Raw] | None = None
    response_format: dict[str, msgspec.Raw] | None = None

    @property
    def output_tokens_max(self) -> int | None:
        """The least of both names, by which neurons go."""
        one, other = self.max_tokens, self.max_completion_tokens
        if one is None or other is None:
            return other if one is None else one
        return min(one, other)


class CompletionHead(Generation, frozen=True, kw_only=True):
    prompt: Texts


class EmbeddingHead(Head, frozen=True, kw_only=True):
    input: Texts


class Document(msgspec.Struct, frozen=True):
    text: str


class RerankHead(Head, frozen=True, kw_only=True):
    query: str
    documents: list[str | Document]
    top_n: int | None = None
    return_documents: bool | None = None


class TokenizeHead(Head, frozen=True, kw_only=True):
    """vLLM's: one of the two."""

    prompt: str | None = None
    messages: list[MessageHead] | None = None


class DetokenizeHead(Head, frozen=True, kw_only=True):
    tokens: list[int]
