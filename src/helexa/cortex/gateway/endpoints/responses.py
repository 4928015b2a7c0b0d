"""`POST /v1/responses`, served as chat completions."""

from __future__ import annotations

import time
from dataclasses import replace
from secrets import token_hex
from typing import Final

import msgspec

from helexa.cortex.gateway.about import WORK, About
from helexa.cortex.gateway.answer import KEEPALIVE
from helexa.cortex.gateway.endpoint import WorkEndpoint
from helexa.cortex.gateway.endpoints import chat_completions
from helexa.cortex.gateway.ingress import Ingress
from helexa.cortex.gateway.seams import Visit
from helexa.cortex.gateway.shelf import Shelf
from helexa.cortex.gateway.translation.chat_to_responses import Teller
from helexa.cortex.gateway.translation.responses_names import renamed, said_of
from helexa.cortex.gateway.translation.responses_to_chat import answer_to
from helexa.cortex.gateway.translation.stored import own_input
from helexa.cortex.gateway.understood import Understood, understood
from helexa.cortex.store.kept import Kept
from helexa.protocol.errors import HelexaError, PreviousResponseUnknown
from helexa.protocol.openai.answers import TypedEvent
from helexa.protocol.openai.requests import ChatHead
from helexa.protocol.openai.responses import ID_START, Response, ResponsesRequest

_encode: Final = msgspec.json.Encoder().encode


class ResponseSpeech:
    """One request; it is kept when its answer is complete, whoever heard it."""

    keepalive = KEEPALIVE

    def __init__(self, understood: Understood) -> None:
        asked = understood.asked
        self.body = understood.chat.body
        self._origins = understood.chat.origins
        self._account = understood.account
        wants_store = asked.request.store is not False
        self._shelf = understood.shelf if wants_store else None
        # Not the request: its items as objects are several times as large.
        self._input = own_input(asked) if self._shelf is not None else b""
        response = answer_to(
            asked,
            id=ID_START + token_hex(16),
            created_at=int(time.time()),
            store=self._shelf is not None,
        )
        self._teller = Teller(response, summarises=asked.summarises)

    def events(self, data: bytes) -> bytes:
        return self._teller.feed(data)

    def end(self) -> bytes:
        teller = self._teller
        if teller.is_failed:
            return b""
        said = teller.finish(int(time.time()))
        self._keep()
        return said + teller.last()

    def whole(self, body: bytes) -> bytes:
        self._teller.take(body, int(time.time()))
        return self._keep()

    def named(self, error: HelexaError) -> HelexaError:
        return renamed(error, self._origins)

    def failed(self, error: HelexaError) -> bytes:
        return self._teller.fail(said_of(self.named(error)))

    def closed(self, *, complete: bool) -> None:
        """What was complete is kept already."""

    def _keep(self) -> bytes:
        """The response as it is, which says whether it is kept."""
        response, shelf = self._teller.response, self._shelf
        data = _encode(response)
        if shelf is None:
            return data
        kept = Kept(
            id=response.id,
            account=self._account,
            created_at=response.created_at,
            previous=response.previous_response_id or "",
            input=self._input,
            response=data,
        )
        if not shelf.offer(kept):
            response.store = False
            data = _encode(response)
        return data


class Responses:
    """The surface; without a shelf nothing is kept, and clients are told."""

    def __init__(self, shelf: Shelf | None = None) -> None:
        self._shelf = shelf

    async def open(self, body: bytes, visit: Visit, ingress: Ingress) -> ResponseSpeech:  # noqa: ARG002
        return ResponseSpeech(await understood(body, visit, self._shelf))


endpoint = replace(
    chat_completions.endpoint,
    path="/v1/responses",
    head=ChatHead,
    surface=Responses(),
    for_peers=False,
    upstream_path=chat_completions.endpoint.path,
)


def served(shelf: Shelf) -> WorkEndpoint[ChatHead]:
    """The endpoint of a gateway that keeps responses."""
    return replace(endpoint, surface=Responses(shelf))


about = (
    About(
        path=endpoint.path,
        does="OpenAI's Responses, whole or streamed.",
        asks=ResponsesRequest,
        answers=Response,
        events=TypedEvent,
        refuses=(*WORK, PreviousResponseUnknown),
    ),
)
