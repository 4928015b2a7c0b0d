"""Reranking alike on every engine: documents as texts or as objects, results best first.

Engines differ in whether they sort, cut and repeat the documents. So each is asked for the
scores of all of them, and the rest is done here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from helexa.protocol.errors import BodyMalformed, RuntimeMalformed
from helexa.protocol.openai import body as bodies

DOCUMENTS_MAX: Final = 2048


class _Document(msgspec.Struct):
    text: str


class _Asked(msgspec.Struct):
    query: str
    documents: list[str | _Document]
    top_n: int | None = None
    return_documents: bool | None = None


class _Score(msgspec.Struct):
    index: int
    relevance_score: float


class _Answer(msgspec.Struct):
    results: list[_Score]


_asked: Final = msgspec.json.Decoder(_Asked)
_answer: Final = msgspec.json.Decoder(_Answer)
_encode: Final = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Ranking:
    """What one request wants. `top` is how many of the results."""

    documents: Sequence[str]
    top: int
    shows: bool
    """The documents beside their scores."""

    def settled(self, body: bytes) -> bytes:
        """The engine's whole answer as it was asked for. Raises RuntimeMalformed."""
        try:
            found = _answer.decode(body).results
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise RuntimeMalformed(
                reason="The runtime answered something that holds no scores."
            ) from error
        if sorted(one.index for one in found) != list(range(len(self.documents))):
            raise RuntimeMalformed(
                reason=f"The runtime answered {len(found)} scores for {len(self.documents)} "
                "documents."
            )
        if not all(math.isfinite(one.relevance_score) for one in found):
            raise RuntimeMalformed(reason="The runtime answered a score that is not a number.")
        found.sort(key=lambda one: (-one.relevance_score, one.index))
        fields: dict[str, Any] = dict(bodies.fields(body))
        fields["results"] = [self._result(one) for one in found[: self.top]]
        return _encode(fields)

    def _result(self, one: _Score) -> dict[str, Any]:
        result: dict[str, Any] = {"index": one.index, "relevance_score": one.relevance_score}
        if self.shows:
            result["document"] = {"text": self.documents[one.index]}
        return result


def is_query_longest(body: bytes) -> bool:
    """Of all its texts, so that what is too long is said of it. Raises BodyMalformed."""
    wanted = bodies.typed(_asked, body)
    return len(wanted.query) > max(map(len, _texts(wanted)), default=0)


def _texts(wanted: _Asked) -> list[str]:
    return [one if isinstance(one, str) else one.text for one in wanted.documents]


def asked(body: bytes) -> tuple[Ranking, bytes]:
    """And the body for the engine, without what is done here. Raises BodyMalformed."""
    wanted = bodies.typed(_asked, body)
    if not wanted.query:
        raise BodyMalformed(reason="`query` is empty.", field="query")
    if not wanted.documents:
        raise BodyMalformed(reason="`documents` is empty.", field="documents")
    if len(wanted.documents) > DOCUMENTS_MAX:
        raise BodyMalformed(
            reason=f"`documents` has {len(wanted.documents)} entries; at most {DOCUMENTS_MAX} are "
            "taken at once.",
            field="documents",
        )
    if wanted.top_n is not None and wanted.top_n < 1:
        raise BodyMalformed(reason="`top_n` is 1 or more.", field="top_n")
    texts = _texts(wanted)
    top = min(wanted.top_n or len(texts), len(texts))
    raw = bodies.fields(body)
    for name in ("top_n", "return_documents"):
        raw.pop(name, None)
    ranking = Ranking(texts, top, shows=bool(wanted.return_documents))
    return ranking, bodies.with_changes(raw, {"documents": texts})
