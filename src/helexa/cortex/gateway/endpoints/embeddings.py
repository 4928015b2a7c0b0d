"""`POST /v1/embeddings`."""

from __future__ import annotations

from helexa.cortex.gateway.about import About
from helexa.cortex.gateway.endpoint import WorkEndpoint
from helexa.cortex.gateway.ingress import Ingress
from helexa.protocol.errors import BodyMalformed
from helexa.protocol.openai.answers import VectorList
from helexa.protocol.openai.requests import EmbeddingHead
from helexa.protocol.work import WorkloadClass


def _classify(_head: EmbeddingHead, _body: bytes, _ingress: Ingress) -> WorkloadClass:
    return WorkloadClass.EMBEDDING


def _check(head: EmbeddingHead) -> None:
    if not head.input:
        raise BodyMalformed("`input` is a string, or a list of strings or tokens.", "input")


endpoint = WorkEndpoint(path="/v1/embeddings", head=EmbeddingHead, classify=_classify, check=_check)

about = (
    About(
        path=endpoint.path,
        does="Texts as vectors.",
        asks=EmbeddingHead,
        also_takes={
            "input": {"minLength": 1, "minItems": 1},
            "encoding_format": {"enum": ["float", "base64", None]},
        },
        answers=VectorList,
    ),
)
