"""`POST /v1/completions`."""

from __future__ import annotations

from helexa.cortex.gateway.ingress import Ingress
from helexa.cortex.gateway.work import WorkEndpoint
from helexa.protocol.errors import BodyMalformed
from helexa.protocol.openai.requests import CompletionHead
from helexa.protocol.work import WorkloadClass


def _classify(_head: CompletionHead, _body: bytes, _ingress: Ingress) -> WorkloadClass:
    return WorkloadClass.COMPLETION


def _check(head: CompletionHead) -> None:
    if not head.prompt:
        raise BodyMalformed("`prompt` is a string, or a list of strings or tokens.", "prompt")


endpoint = WorkEndpoint(
    path="/v1/completions",
    head=CompletionHead,
    classify=_classify,
    check=_check,
    prompt="prompt",
)
