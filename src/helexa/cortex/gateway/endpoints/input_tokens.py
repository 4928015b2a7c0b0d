"""`POST /v1/responses/input_tokens`: how many tokens a response would answer to."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import msgspec

from helexa.cortex.gateway.about import WORK, About
from helexa.cortex.gateway.answer import KEEPALIVE
from helexa.cortex.gateway.endpoint import WorkEndpoint
from helexa.cortex.gateway.endpoints import tokenize
from helexa.cortex.gateway.envelope import event_of
from helexa.cortex.gateway.ingress import Ingress
from helexa.cortex.gateway.seams import Visit
from helexa.cortex.gateway.shelf import Shelf
from helexa.cortex.gateway.translation.responses_names import renamed
from helexa.cortex.gateway.translation.responses_to_chat import Chat
from helexa.cortex.gateway.understood import understood
from helexa.protocol.errors import HelexaError, PreviousResponseUnknown, RuntimeMalformed
from helexa.protocol.openai.requests import TokenizeHead
from helexa.protocol.openai.responses import InputTokens, ResponsesRequest


class _Count(msgspec.Struct):
    count: int


_count: Final = msgspec.json.Decoder(_Count)


class InputTokensSpeech:
    """One request for a number; nothing of it is kept."""

    keepalive = KEEPALIVE

    def __init__(self, chat: Chat) -> None:
        self.body = chat.body
        self._origins = chat.origins

    def events(self, data: bytes) -> bytes:  # noqa: ARG002
        """Nobody asks for a stream of one number."""
        return b""

    def end(self) -> bytes:
        return b""

    def whole(self, body: bytes) -> bytes:
        try:
            count = _count.decode(body).count
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise RuntimeMalformed("The node sent something that is no count of tokens.") from error
        return msgspec.json.encode(InputTokens(input_tokens=count))

    def named(self, error: HelexaError) -> HelexaError:
        return renamed(error, self._origins)

    def failed(self, error: HelexaError) -> bytes:
        return event_of(error)

    def closed(self, *, complete: bool) -> None:
        """Nothing is kept."""


class Counting:
    """The surface."""

    def __init__(self, shelf: Shelf | None = None) -> None:
        self._shelf = shelf

    async def open(self, body: bytes, visit: Visit, ingress: Ingress) -> InputTokensSpeech:  # noqa: ARG002
        return InputTokensSpeech((await understood(body, visit, self._shelf)).chat)


endpoint = replace(
    tokenize.endpoint,
    path="/v1/responses/input_tokens",
    surface=Counting(),
    for_peers=False,
    upstream_path=tokenize.endpoint.path,
)


def served(shelf: Shelf) -> WorkEndpoint[TokenizeHead]:
    """The endpoint of a gateway that keeps responses."""
    return replace(endpoint, surface=Counting(shelf))


about = (
    About(
        path=endpoint.path,
        does="How many tokens a response would answer to.",
        asks=ResponsesRequest,
        answers=InputTokens,
        refuses=(*WORK, PreviousResponseUnknown),
    ),
)
