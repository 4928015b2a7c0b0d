"""`POST /v1/messages`: Anthropic's Messages, served as chat completions."""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec

from helexa.cortex.gateway.about import About
from helexa.cortex.gateway.anthropic_envelope import ANTHROPIC
from helexa.cortex.gateway.endpoint import WorkEndpoint
from helexa.cortex.gateway.endpoints.chat_completions import endpoint as chat_completions
from helexa.cortex.gateway.ingress import Ingress
from helexa.cortex.gateway.seams import Visit
from helexa.cortex.gateway.translation.chat_to_messages import Asked
from helexa.cortex.gateway.translation.messages_speech import MessageSpeech, Names
from helexa.cortex.gateway.translation.messages_to_chat import chat
from helexa.protocol.anthropic.answers import Message
from helexa.protocol.anthropic.errors import Refused
from helexa.protocol.anthropic.reading import read
from helexa.protocol.anthropic.requests import MessageRequest
from helexa.protocol.openai.answers import TypedEvent

READ_INLINE_BYTES_MAX: Final = 256 * 1024
"""A larger body is translated by another thread, since all other requests wait meanwhile."""

_decoder: Final = msgspec.json.Decoder(MessageRequest)


class Messages:
    """A `Surface`."""

    async def open(self, body: bytes, visit: Visit, ingress: Ingress) -> MessageSpeech:  # noqa: ARG002
        """Raises BodyMalformed or RequestRejected."""
        if len(body) <= READ_INLINE_BYTES_MAX:
            return opened(body, ingress.request_id)
        return await asyncio.to_thread(opened, body, ingress.request_id)


def opened(body: bytes, request_id: str) -> MessageSpeech:
    """Raises BodyMalformed or RequestRejected."""
    request = read(_decoder, body)
    made = chat(request)
    wish = request.thinking
    asked = Asked(
        id=f"msg_{request_id.removeprefix('req_')}",
        model=request.model,
        stop_sequences=tuple(request.stop_sequences or ()),
        hides_thoughts=wish is not None and wish.display == "omitted",
    )
    names = Names(made.places, thinks=wish is None or wish.type != "disabled")
    return MessageSpeech(msgspec.json.encode(made.body), asked, names, ANTHROPIC.of(request_id))


endpoint = WorkEndpoint(
    path="/v1/messages",
    upstream_path=chat_completions.path,
    head=chat_completions.head,
    classify=chat_completions.classify,
    check=chat_completions.check,
    prompt=chat_completions.prompt,
    judge=chat_completions.judge,
    surface=Messages(),
    envelope=ANTHROPIC,
    for_peers=False,
)

about = (
    About(
        path=endpoint.path,
        does="Anthropic's Messages, whole or streamed.",
        asks=MessageRequest,
        also_takes={"messages": {"minItems": 1}, "max_tokens": {"minimum": 1}},
        answers=Message,
        events=TypedEvent,
        envelope=Refused,
    ),
)
