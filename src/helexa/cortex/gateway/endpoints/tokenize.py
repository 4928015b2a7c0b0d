"""`POST /v1/tokenize`: how a model reads a text or a chat, as vLLM has it."""

from __future__ import annotations

from helexa.cortex.gateway.about import About
from helexa.cortex.gateway.endpoint import WorkEndpoint
from helexa.cortex.gateway.ingress import Ingress
from helexa.protocol.errors import BodyMalformed
from helexa.protocol.openai.answers import Tokens
from helexa.protocol.openai.requests import TokenizeHead
from helexa.protocol.work import WorkloadClass


def _classify(_head: TokenizeHead, _body: bytes, _ingress: Ingress) -> WorkloadClass:
    return WorkloadClass.OTHER


def _check(head: TokenizeHead) -> None:
    if (head.prompt is None) is (head.messages is None):
        raise BodyMalformed(
            "Send either `prompt` or `messages`.", "prompt" if head.messages is None else "messages"
        )


endpoint = WorkEndpoint(path="/v1/tokenize", head=TokenizeHead, classify=_classify, check=_check)

about = (
    About(
        path=endpoint.path,
        does="How a model reads a text or a chat.",
        asks=TokenizeHead,
        answers=Tokens,
    ),
)
