"""What an engine is, to the server that our children share.

An engine is a file beside this folder that exports `engine(wanted)`; `wanted` is
the JSON that its adapter planned. The server does the rest: HTTP, what a body
may say, stop strings, streams and whole answers, usage, the queue, clients that
leave. So an engine file holds what is particular to that engine and no more.

    load      once, before anybody can connect; what it raises ends the process
    generate  in a thread of its own for each request, at most `slots` at a time
    embed     the same
    rerank    the same
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

CHAT = "chat"
COMPLETIONS = "completions"
EMBEDDINGS = "embeddings"
RERANK = "rerank"


class Refused(Exception):
    """The caller's mistake, or something that this engine does not do. A 400 unless said.

    Raised by `generate` before its first piece, by `embed` and by `rerank`.
    """

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str = "bad_request",
        status: int = 400,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code
        self.status = status


class TooLong(Refused):
    """The prompt does not fit into the context of one slot."""

    def __init__(self, tokens: int, tokens_max: int) -> None:
        said = f"The prompt is {tokens} tokens; this model reads {tokens_max}."
        super().__init__(said, code="context_length_exceeded")
        self.tokens = tokens
        self.tokens_max = tokens_max


class Unloadable(Exception):
    """Said by `load` in one line for the operator; anything else that it raises is a surprise."""


@dataclass(frozen=True)
class Counts:
    """Tokens of one request, all choices together. `cached` is part of `prompt`."""

    prompt: int
    completion: int
    cached: int | None = None
    """None where the engine does not say."""
    reasoning: int = 0
    """Part of `completion`."""


@dataclass(frozen=True)
class Piece:
    """What came of one step of one choice; every part may be empty."""

    text: str | bytes = ""
    """Bytes where the engine's tokens end inside characters: the server puts them together."""
    choice: int = 0
    thought: str = ""
    """Of reasoning, apart from the text."""
    calls: Sequence[Mapping[str, Any]] = ()
    """OpenAI's `delta.tool_calls`: with `index`, and `id` and the name in the first of each."""
    logprobs: Sequence[Mapping[str, Any]] = ()
    """OpenAI's entries of `logprobs.content`, for the tokens of this piece."""
    finish: str = ""
    """`stop`, `length` or `tool_calls`: the last of its choice."""
    counts: Counts | None = None
    """As far as known by now; the last that was said holds. An engine that says it with every
    piece is closed at a stop string; one that says it at the end is heard until there, and has
    to look at `stop` itself.
    """


@dataclass(frozen=True)
class Generation:
    """A request for text. `fields` holds the checked members that the engine honours.

    What a client left out, or gave as null, is not in `fields`.
    """

    id: str
    messages: Sequence[Mapping[str, Any]] = ()
    """Of a chat; empty otherwise."""
    prompt: str | Sequence[int] = ""
    """Of a completion: text, or tokens where `prompt_ids` is honoured."""
    max_tokens: int | None = None
    """None is as much as the context holds. Never more than that, whatever it says."""
    stop: tuple[str, ...] = ()
    """The server ends the answer there, whatever the engine does about it."""
    n: int = 1
    fields: Mapping[str, Any] = field(default_factory=dict)
    cancelled: threading.Event = field(default_factory=threading.Event)
    """Set once nobody wants the answer. Looked at between pieces by the server; an engine whose
    steps are long looks, too.
    """

    @property
    def is_chat(self) -> bool:
        return bool(self.messages)


@dataclass(frozen=True)
class Embedding:
    inputs: Sequence[str | Sequence[int]]
    """Tokens only where `input_ids` is honoured."""
    dimensions: int | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Vectors:
    vectors: Sequence[Sequence[float]]
    """One for each input, in their order."""
    tokens: int


@dataclass(frozen=True)
class Reranking:
    query: str
    documents: Sequence[str]
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Scores:
    scores: Sequence[float]
    """One for each document, in their order; the server sorts."""
    tokens: int


class Engine(Protocol):
    """And `Generates`, `Embeds` or `Reranks` for what `honours` names."""

    honours: Mapping[str, Collection[str]]
    """By kind of work, the fields that it acts upon besides those that the server does itself.

    The names are those of `fields.OPTIONAL`. A kind that is not named is not served; a field that
    is not named is refused unless its value asks for nothing. Read after `load`.
    """

    def load(self) -> None:
        """In the main thread. Raises Unloadable with a line for the operator."""
        ...


@runtime_checkable
class Generates(Protocol):
    def generate(self, request: Generation) -> Iterator[Piece]:
        """Pieces as they come. It is closed early (GeneratorExit) when nobody wants the rest.

        A piece may be empty, and should be where nothing came for a while: that is when the
        server looks whether the client is still there. Raises Refused, before the first piece.
        """
        ...


@runtime_checkable
class Embeds(Protocol):
    def embed(self, request: Embedding) -> Vectors: ...


@runtime_checkable
class Reranks(Protocol):
    def rerank(self, request: Reranking) -> Scores: ...


@dataclass(frozen=True)
class Tokens:
    """How a model reads something."""

    count: int
    ids: Sequence[int] = ()
    """As many, or none where some are not known."""
    pieces: Sequence[bytes] = ()
    """The text of each, or none where that is not known."""


@runtime_checkable
class Tokenizes(Protocol):
    """An optional ability: it says how its model reads texts. Asked beside what it computes."""

    def tokens_of_text(self, text: str, *, special: bool) -> Tokens:
        """`special` is with what the model expects around a text. Raises Refused."""
        ...

    def tokens_of_chat(self, request: Generation) -> Tokens:
        """Of the prompt that `generate` would read. Raises Refused."""
        ...

    def text_of(self, ids: Sequence[int]) -> str:
        """Raises Refused."""
        ...


@runtime_checkable
class SaysRoom(Protocol):
    """An optional ability: it knows how full its room for keys and values is."""

    def kv_share(self) -> float | None:
        """0..1. Asked from the server's own thread: it must not wait for anything."""
        ...
