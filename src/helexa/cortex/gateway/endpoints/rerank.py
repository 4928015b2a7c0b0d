"""`POST /v1/rerank`: documents by how well they answer a query, as Jina and Cohere have it."""

from __future__ import annotations

from helexa.cortex.gateway.about import About
from helexa.cortex.gateway.endpoint import WorkEndpoint
from helexa.cortex.gateway.ingress import Ingress
from helexa.protocol.errors import BodyMalformed
from helexa.protocol.openai.answers import Ranking
from helexa.protocol.openai.requests import RerankHead
from helexa.protocol.work import WorkloadClass


def _classify(_head: RerankHead, _body: bytes, _ingress: Ingress) -> WorkloadClass:
    return WorkloadClass.RERANK


def _check(head: RerankHead) -> None:
    if not head.query:
        raise BodyMalformed("`query` is empty.", "query")
    if not head.documents:
        raise BodyMalformed("`documents` is empty.", "documents")
    if head.top_n is not None and head.top_n < 1:
        raise BodyMalformed("`top_n` is 1 or more.", "top_n")


endpoint = WorkEndpoint(path="/v1/rerank", head=RerankHead, classify=_classify, check=_check)

about = (
    About(
        path=endpoint.path,
        does="Documents by how well they answer a query.",
        asks=RerankHead,
        also_takes={
            "query": {"minLength": 1},
            "documents": {"minItems": 1},
            "top_n": {"type": ["integer", "null"], "minimum": 1},
        },
        answers=Ranking,
    ),
)
