"""`POST /v1/chat/completions`."""

from __future__ import annotations

from helexa.cortex.gateway.about import About
from helexa.cortex.gateway.classify import classify_chat
from helexa.cortex.gateway.endpoint import Judge, WorkEndpoint
from helexa.cortex.gateway.ingress import Ingress
from helexa.protocol.errors import BodyMalformed
from helexa.protocol.openai.answers import ChatAnswer, ChatChunk
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

_ALSO = {
    "messages": {"minItems": 1},
    "max_completion_tokens": {"type": ["integer", "null"], "minimum": 1},
    "max_tokens": {"type": ["integer", "null"], "minimum": 1},
    "temperature": {"type": ["number", "null"], "minimum": 0, "maximum": 2},
    "top_p": {"type": ["number", "null"], "minimum": 0, "maximum": 1},
    "n": {"type": ["integer", "null"], "minimum": 1, "maximum": 128},
    "frequency_penalty": {"type": ["number", "null"], "minimum": -2, "maximum": 2},
    "presence_penalty": {"type": ["number", "null"], "minimum": -2, "maximum": 2},
    "logprobs": {"type": ["boolean", "null"]},
    "top_logprobs": {"type": ["integer", "null"], "minimum": 0, "maximum": 20},
}
about = (
    About(
        path=endpoint.path,
        does="A chat answer, whole or streamed.",
        asks=ChatHead,
        also_takes=_ALSO,
        answers=ChatAnswer,
        events=ChatChunk,
    ),
)
