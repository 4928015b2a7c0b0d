"""`POST /v1/chat/completions`."""

from __future__ import annotations

from helexa.cortex.gateway.classify import classify_chat
from helexa.cortex.gateway.ingress import Ingress
from helexa.cortex.gateway.work import Judge, WorkEndpoint
from helexa.protocol.errors import BodyMalformed
from helexa.protocol.openai.requests import ChatHead
from helexa.protocol.pictures.parts import check as check_parts
from helexa.protocol.pictures.parts import may_be_wrong
from helexa.protocol.work import WorkloadClass


def _classify(head: ChatHead, body: bytes, ingress: Ingress) -> WorkloadClass:
    return classify_chat(body, stream=bool(head.stream), hint=ingress.workload)


def _check(head: ChatHead) -> None:
    if not head.messages:
        raise BodyMalformed("There must be at least one message.", "messages")


endpoint = WorkEndpoint(
    path="/v1/chat/completions",
    head=ChatHead,
    classify=_classify,
    check=_check,
    prompt="messages",
    judge=Judge(may_be_wrong, check_parts),
)
