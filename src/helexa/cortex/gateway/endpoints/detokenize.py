"""`POST /v1/detokenize`: the text that tokens of a model stand for, as vLLM has it."""

from __future__ import annotations

from helexa.cortex.gateway.about import About
from helexa.cortex.gateway.endpoint import WorkEndpoint
from helexa.cortex.gateway.ingress import Ingress
from helexa.protocol.errors import BodyMalformed
from helexa.protocol.openai.answers import Detokenized
from helexa.protocol.openai.requests import DetokenizeHead
from helexa.protocol.work import WorkloadClass


def _classify(_head: DetokenizeHead, _body: bytes, _ingress: Ingress) -> WorkloadClass:
    return WorkloadClass.OTHER


def _check(head: DetokenizeHead) -> None:
    if any(one < 0 for one in head.tokens):
        raise BodyMalformed("`tokens` are numbers of 0 or more.", "tokens")


endpoint = WorkEndpoint(
    path="/v1/detokenize", head=DetokenizeHead, classify=_classify, check=_check
)

about = (
    About(
        path=endpoint.path,
        does="The text of tokens.",
        asks=DetokenizeHead,
        answers=Detokenized,
    ),
)
