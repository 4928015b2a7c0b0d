"""Documents in the order in which they answer a query."""

from __future__ import annotations

from typing import Any

from helexa.runtime.contract import Endpoint
from helexa.testing.conformance import rows
from helexa.testing.conformance.case import case
from helexa.testing.conformance.subject import Subject

_BODY = {
    "query": "the neuron answers",
    "documents": ["a cortex asks", "the neuron answers", "nothing at all"],
}


@case(rows.RERANK)
async def every_document_has_its_score_the_best_first(subject: Subject) -> None:
    """Named by its place in what was sent, each once."""
    results = await _ranked(subject)
    assert sorted(each["index"] for each in results) == [0, 1, 2]
    scores = [each["relevance_score"] for each in results]
    assert scores == sorted(scores, reverse=True), scores
    assert len(set(scores)) > 1, "all documents are alike to it"


@case(rows.RERANK)
async def no_more_come_than_were_wanted(subject: Subject) -> None:
    """`top_n`, and they are the best."""
    best = await _ranked(subject, top_n=1)
    assert [each["index"] for each in best] == [(await _ranked(subject))[0]["index"]]


@case(rows.RERANK)
async def what_was_read_is_counted(subject: Subject) -> None:
    """Every document, and the query."""
    reply = await subject.answer(dict(_BODY), Endpoint.RERANK)
    less = await subject.answer({**_BODY, "documents": _BODY["documents"][:1]}, Endpoint.RERANK)
    assert 0 < less.json["usage"]["total_tokens"] < reply.json["usage"]["total_tokens"]


async def _ranked(subject: Subject, **more: Any) -> list[dict[str, Any]]:
    reply = await subject.answer({**_BODY, **more}, Endpoint.RERANK)
    results: list[dict[str, Any]] = reply.json["results"]
    return results
