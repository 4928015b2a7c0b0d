"""`POST /helexa/v1/continue`: the rest of a stream that broke off at another cortex."""

from __future__ import annotations

from helexa.cortex.gateway.classify import classify_chat
from helexa.cortex.gateway.endpoint import WorkEndpoint
from helexa.cortex.gateway.ingress import Ingress
from helexa.cortex.gateway.job import HandedOver
from helexa.protocol.continuation import CONTINUE_PATH
from helexa.protocol.errors import BodyMalformed
from helexa.protocol.work import WorkloadClass

CHAT = "/v1/chat/completions"
COMPLETION = "/v1/completions"


def _classify(head: HandedOver, _body: bytes, ingress: Ingress) -> WorkloadClass:
    if head.path == COMPLETION:
        return WorkloadClass.COMPLETION
    return classify_chat(bytes(head.request), stream=True, hint=ingress.workload)


def _check(head: HandedOver) -> None:
    if head.path not in (CHAT, COMPLETION):
        raise BodyMalformed("Answers of this path are not continued.", "path")
    if not head.digest:
        raise BodyMalformed("Weights have to be named.", "digest")
    if bytes(memoryview(head.request)[:1]) != b"{":
        raise BodyMalformed("The request is no JSON object.", "request")


endpoint = WorkEndpoint(
    path=CONTINUE_PATH,
    head=HandedOver,
    classify=_classify,
    check=_check,
    for_clients=False,
)
