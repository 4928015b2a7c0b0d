"""`POST /v1/messages/count_tokens`: by the model's own template and tokenizer."""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec

from helexa.cortex.gateway.about import About
from helexa.cortex.gateway.anthropic_envelope import ANTHROPIC
from helexa.cortex.gateway.endpoint import WorkEndpoint
from helexa.cortex.gateway.endpoints.messages import READ_INLINE_BYTES_MAX
from helexa.cortex.gateway.endpoints.tokenize import endpoint as tokenize
from helexa.cortex.gateway.ingress import Ingress
from helexa.cortex.gateway.seams import Visit
from helexa.cortex.gateway.translation.messages_speech import CountSpeech, Names
from helexa.cortex.gateway.translation.messages_to_chat import prompt
from helexa.protocol.anthropic.answers import TokenCount
from helexa.protocol.anthropic.errors import Refused
from helexa.protocol.anthropic.reading import read
from helexa.protocol.anthropic.requests import PromptRequest

_decoder: Final = msgspec.json.Decoder(PromptRequest)


class Counting:
    """A `Surface`."""

    async def open(self, body: bytes, visit: Visit, ingress: Ingress) -> CountSpeech:  # noqa: ARG002
        """Raises BodyMalformed or RequestRejected."""
        if len(body) <= READ_INLINE_BYTES_MAX:
            return opened(body, ingress.request_id)
        return await asyncio.to_thread(opened, body, ingress.request_id)


def opened(body: bytes, request_id: str) -> CountSpeech:
    """Raises BodyMalformed or RequestRejected."""
    request = read(_decoder, body)
    made = prompt(request)
    names = Names(
        made.places, thinks=request.thinking is None or request.thinking.type != "disabled"
    )
    return CountSpeech(msgspec.json.encode(made.body), names, ANTHROPIC.of(request_id))


endpoint = WorkEndpoint(
    path="/v1/messages/count_tokens",
    upstream_path=tokenize.path,
    head=tokenize.head,
    classify=tokenize.classify,
    check=tokenize.check,
    surface=Counting(),
    envelope=ANTHROPIC,
    for_peers=False,
)

about = (
    About(
        path=endpoint.path,
        does="How many tokens a message's prompt has.",
        asks=PromptRequest,
        also_takes={"messages": {"minItems": 1}},
        answers=TokenCount,
        envelope=Refused,
    ),
)
