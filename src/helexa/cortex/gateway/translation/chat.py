"""A chat completion as it comes from a neuron: what surfaces need of it to say it otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from helexa.protocol import sse
from helexa.protocol.errors import ErrorBody, RuntimeMalformed


class Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class Call(msgspec.Struct):
    """Of a message, or a piece of one in a delta: `index` tells the pieces of two apart."""

    index: int | None = None
    id: str | None = None
    function: Function | None = None


class TopLogprob(msgspec.Struct):
    token: str = ""
    logprob: float = 0.0
    bytes: list[int] | None = None


class Logprob(TopLogprob):
    top_logprobs: list[TopLogprob] = []


class Logprobs(msgspec.Struct):
    content: list[Logprob] | None = None


class Said(msgspec.Struct):
    """A whole message, or what a delta adds to one."""

    content: str | None = None
    reasoning_content: str | None = None
    refusal: str | None = None
    tool_calls: list[Call] | None = None


class Choice(msgspec.Struct):
    index: int = 0
    delta: Said | None = None
    message: Said | None = None
    finish_reason: str | None = None
    logprobs: Logprobs | None = None


class PromptDetails(msgspec.Struct):
    cached_tokens: int | None = None


class CompletionDetails(msgspec.Struct):
    reasoning_tokens: int | None = None


class Counts(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: PromptDetails | None = None
    completion_tokens_details: CompletionDetails | None = None

    @property
    def cached(self) -> int:
        """Those of the prompt that were in a cache."""
        return (self.prompt_tokens_details and self.prompt_tokens_details.cached_tokens) or 0

    @property
    def reasoning(self) -> int:
        """Those of the completion that were thoughts."""
        details = self.completion_tokens_details
        return (details and details.reasoning_tokens) or 0


class Completion(msgspec.Struct):
    """A whole answer, or one event of a streamed one."""

    id: str = ""
    model: str = ""
    choices: list[Choice] = []
    usage: Counts | None = None
    error: ErrorBody | None = None
    """The last word of a stream that cannot go on."""


_completion: Final = msgspec.json.Decoder(Completion)


def completion(data: bytes) -> Completion:
    """Raises RuntimeMalformed."""
    try:
        return _completion.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RuntimeMalformed("The node answered something that is no chat completion.") from error


def payloads(data: bytes) -> Iterator[bytes]:
    """What the events in `data` carry: comments, and the `[DONE]` of the end, are left out."""
    if b"\r" in data:
        # A line break of JSON can only be layout.
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    for event in data.split(b"\n\n"):
        # Nearly all events are this one line.
        if event.startswith(b"data: ") and b"\n" not in event:
            payload = event[6:]
        else:
            payload = sse.payload(event)
        if payload and payload != sse.DONE:
            yield payload
