"""Which member of a request an engine's refusal is about; engines do not say."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from helexa.neuron.serving import ranking
from helexa.protocol.errors import BodyMalformed, HelexaError, PictureRefused, PromptTooLong
from helexa.protocol.pictures.places import places
from helexa.runtime.contract import Endpoint

_TEXTS: Final = {
    Endpoint.CHAT: "messages",
    Endpoint.COMPLETIONS: "prompt",
    Endpoint.EMBEDDINGS: "input",
    Endpoint.RERANK: "documents",
}


def name_field(refusal: HelexaError, endpoint: Endpoint, body: bytes) -> None:
    """`body` is the client's own."""
    # It was read before it was sent; a refusal is no place to fail at it.
    with suppress(BodyMalformed):
        if isinstance(refusal, PromptTooLong):
            refusal.field = _TEXTS[endpoint]
            if endpoint is Endpoint.RERANK and ranking.is_query_longest(body):
                refusal.field = "query"
        elif isinstance(refusal, PictureRefused) and refusal.field is None:
            refusal.field = "messages"
            found = places(body)
            if len(found) == 1:
                refusal.field = found[0].field
