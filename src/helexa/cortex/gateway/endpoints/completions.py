"""`POST /v1/completions`."""

from __future__ import annotations

from helexa.cortex.gateway.about import About
from helexa.cortex.gateway.endpoint import WorkEndpoint
from helexa.cortex.gateway.ingress import Ingress
from helexa.protocol.errors import BodyMalformed
from helexa.protocol.openai.answers import TextAnswer
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

_ALSO = {
    "prompt": {"minLength": 1, "minItems": 1},
    "max_tokens": {"type": ["integer", "null"], "minimum": 1},
    "temperature": {"type": ["number", "null"], "minimum": 0, "maximum": 2},
    "top_p": {"type": ["number", "null"], "minimum": 0, "maximum": 1},
    "n": {"type": ["integer", "null"], "minimum": 1, "maximum": 128},
    "frequency_penalty": {"type": ["number", "null"], "minimum": -2, "maximum": 2},
    "presence_penalty": {"type": ["number", "null"], "minimum": -2, "maximum": 2},
}
about = (
    About(
        path=endpoint.path,
        does="A text that is gone on with, whole or streamed.",
        asks=CompletionHead,
        also_takes=_ALSO,
        answers=TextAnswer,
        events=TextAnswer,
    ),
)
