"""`POST /v1/responses`, served as chat completions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from secrets import token_hex
from typing import Final

import msgspec

from helexa.cortex.gateway.about import WORK, About
from helexa.cortex.gateway.answer import KEEPALIVE
from helexa.cortex.gateway.endpoints import chat_completions
from helexa.cortex.gateway.ingress import Ingress
from helexa.cortex.gateway.seams import Visit
from helexa.cortex.gateway.shelf import Shelf
from helexa.cortex.gateway.translation.chat_to_responses import Teller
from helexa.cortex.gateway.translation.items import refused
from helexa.cortex.gateway.translation.responses_asked import Asked, read
from helexa.cortex.gateway.translation.responses_names import renamed, said_of
from helexa.cortex.gateway.translation.responses_to_chat import Chat, answer_to, chat_of
from helexa.cortex.gateway.translation.stored import found_in, holder_of, items_of, own_input
from helexa.cortex.gateway.work import WorkEndpoint
from helexa.cortex.store.kept import Kept
from helexa.protocol.errors import HelexaError, PreviousResponseUnknown
from helexa.protocol.openai.answers import TypedEvent
from helexa.protocol.openai.requests import ChatHead
from helexa.protocol.openai.responses import ID_START, Item, Response, ResponsesRequest

KEY_ID_START: Final = "key_"
"""Nothing is kept for who has no key: others of the same network have the same account."""
READ_INLINE_BYTES_MAX: Final = 256 * 1024
"""A larger body is translated by another thread, since all other requests wait meanwhile."""
HOLDERS_MAX: Final = 256
"""Responses whose items one request may name."""

_encode: Final = msgspec.json.Encoder().encode


class ResponseSpeech:
    """One request; it is kept when its answer is complete, whoever heard it."""

    keepalive = KEEPALIVE

    def __init__(self, asked: Asked, chat: Chat, account: str, shelf: Shelf | None) -> None:
        self.body = chat.body
        self._asked = asked
        self._origins = chat.origins
        self._account = account
        wants_store = asked.request.store is not False
        self._shelf = shelf if wants_store else None
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
        response, shelf, asked = self._teller.response, self._shelf, self._asked
        data = _encode(response)
        if shelf is None:
            return data
        kept = Kept(
            id=response.id,
            account=self._account,
            created_at=response.created_at,
            previous=asked.request.previous_response_id or "",
            input=own_input(asked),
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
        is_large = len(body) > READ_INLINE_BYTES_MAX
        asked = await asyncio.to_thread(read, body) if is_large else read(body)
        account = visit.grant.account
        shelf = self._shelf if visit.grant.key_id.startswith(KEY_ID_START) else None
        earlier: Sequence[Item] = ()
        if (previous := asked.request.previous_response_id) is not None:
            line = await shelf.line(account, previous) if shelf is not None else ()
            if not line:
                raise PreviousResponseUnknown(previous)
            is_large |= sum(one.size_bytes for one in line) > READ_INLINE_BYTES_MAX
            earlier = await asyncio.to_thread(items_of, line) if is_large else items_of(line)
        await self._resolve(asked, account, shelf)
        chat = (
            await asyncio.to_thread(chat_of, asked, earlier)
            if is_large
            else chat_of(asked, earlier)
        )
        return ResponseSpeech(asked, chat, account, shelf)

    async def _resolve(self, asked: Asked, account: str, shelf: Shelf | None) -> None:
        """Put the items that are named where their names stand."""
        holders: dict[str, Kept | None] = {}
        items = asked.request.input
        for index, item_id in asked.refers:
            assert isinstance(items, list)
            holder = holder_of(item_id)
            if holder is not None and holder not in holders:
                if len(holders) >= HOLDERS_MAX:
                    raise refused("input", f"`input` refers to more than {HOLDERS_MAX} responses.")
                one = await shelf.one(account, holder) if shelf is not None else None
                holders[holder] = one
            kept = holders.get(holder or "")
            item = found_in(kept, item_id) if kept is not None else None
            if item is None:
                raise refused(f"input[{index}].id", f"There is no item {item_id[:80]!r}.")
            items[index] = item
            asked.is_resolved = True


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
