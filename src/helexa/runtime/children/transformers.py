"""Models of Hugging Face's transformers, as an engine of our children's server.

The library's own server leaves out pictures, tools and limits without a word. This does
what it honours and refuses the rest: everything that is not in `honours` below.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .server import engine as seam
from .server.engine import CHAT, COMPLETIONS, EMBEDDINGS, RERANK

if TYPE_CHECKING:
    from .hugging.generating import Generating
    from .hugging.vectors import Vectors

_SAMPLING = (
    "temperature", "top_p", "top_k", "min_p", "seed", "n", "frequency_penalty",
    "presence_penalty", "repetition_penalty", "repeat_penalty", "logit_bias", "ignore_eos",
    "logprobs", "response_format", "grammar",
)  # fmt: skip
_CHAT = (
    *_SAMPLING, "top_logprobs", "tools", "tool_choice", "parallel_tool_calls", "reasoning_effort",
    "chat_template_kwargs", "add_generation_prompt", "continue_final_message",
)  # fmt: skip
HONOURED: Mapping[str, Mapping[str, Collection[str]]] = {
    "text": {CHAT: _CHAT, COMPLETIONS: (*_SAMPLING, "prompt_ids")},
    "vision": {CHAT: _CHAT, COMPLETIONS: (*_SAMPLING, "prompt_ids")},
    "embedding": {EMBEDDINGS: ("dimensions", "input_ids")},
    "rerank": {RERANK: ()},
}


class Transformers:
    """`wanted` is what `adapters/transformers.py` planned."""

    def __init__(self, wanted: Mapping[str, Any]) -> None:
        self.honours = HONOURED[wanted["kind"]]
        self._wanted = wanted
        self._generating: Generating | None = None
        self._vectors: Vectors | None = None

    def load(self) -> None:
        # Heavy, and only to be tried once somebody wants to be told what is missing.
        from .hugging import loading

        loaded = loading.loaded(self._wanted)
        from .hugging.generating import Generating
        from .hugging.turns import Turns
        from .hugging.vectors import Vectors

        if self._wanted["kind"] in ("text", "vision"):
            self._generating = Generating(loaded, Turns(), self._wanted)
        else:
            self._vectors = Vectors(loaded, Turns(), self._wanted["context"])

    def generate(self, request: seam.Generation) -> Iterator[seam.Piece]:
        assert self._generating is not None
        return self._generating.pieces(request)

    def tokens_of_text(self, text: str, *, special: bool) -> seam.Tokens:
        return self._reads().tokens_of_text(text, special=special)

    def tokens_of_chat(self, request: seam.Generation) -> seam.Tokens:
        return self._reads().tokens_of_chat(request)

    def text_of(self, ids: Sequence[int]) -> str:
        return self._reads().text_of(ids)

    def _reads(self) -> Generating:
        if self._generating is None:
            raise seam.Refused(
                "Tokens are told of models that generate.",
                param="model",
                code="unsupported_capability",
            )
        return self._generating

    def embed(self, request: seam.Embedding) -> seam.Vectors:
        assert self._vectors is not None
        rows = self._vectors.read(request.inputs)
        dimensions = request.dimensions
        if dimensions is not None and dimensions not in self._wanted["dimensions"]:
            lengths = ", ".join(map(str, self._wanted["dimensions"]))
            raise seam.Refused(f"`dimensions` is one of {lengths}.", param="dimensions")
        vectors = self._vectors.embedded(rows, self._wanted["pooling"], dimensions)
        return seam.Vectors(vectors, sum(len(row["input_ids"]) for row in rows))

    def rerank(self, request: seam.Reranking) -> seam.Scores:
        assert self._vectors is not None
        rows = self._vectors.read([(request.query, document) for document in request.documents])
        return seam.Scores(self._vectors.scored(rows), sum(len(row["input_ids"]) for row in rows))


def engine(wanted: Mapping[str, Any]) -> Transformers:
    return Transformers(wanted)
