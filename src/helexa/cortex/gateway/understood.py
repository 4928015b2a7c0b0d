"""A request of the Responses API with the conversation that it continues, looked up and read."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from helexa.cortex.gateway.seams import Visit
from helexa.cortex.gateway.shelf import Shelf
from helexa.cortex.gateway.translation.items import refused
from helexa.cortex.gateway.translation.responses_asked import Asked, read
from helexa.cortex.gateway.translation.responses_to_chat import Chat, chat_of
from helexa.cortex.gateway.translation.stored import found_in, holder_of, items_of
from helexa.cortex.store.kept import Kept
from helexa.protocol.errors import PreviousResponseUnknown
from helexa.protocol.openai.responses import Item

KEY_ID_START: Final = "key_"
"""Nothing is kept for who has no key: others of the same network have the same account."""
READ_INLINE_BYTES_MAX: Final = 256 * 1024
"""A larger body is translated by another thread, since all other requests wait meanwhile."""
HOLDERS_MAX: Final = 256
"""Responses whose items one request may name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Understood:
    """A request with the conversation that it continues, as a chat completion."""

    asked: Asked
    chat: Chat
    account: str
    shelf: Shelf | None
    """None where nothing is kept for who asks."""


async def understood(body: bytes, visit: Visit, shelf: Shelf | None) -> Understood:
    """Raises HelexaError with the client's names."""
    is_large = len(body) > READ_INLINE_BYTES_MAX
    asked = await asyncio.to_thread(read, body) if is_large else read(body)
    account = visit.grant.account
    if not visit.grant.key_id.startswith(KEY_ID_START):
        shelf = None
    earlier: Sequence[Item] = ()
    if (previous := asked.request.previous_response_id) is not None:
        line = await shelf.line(account, previous) if shelf is not None else ()
        if not line:
            raise PreviousResponseUnknown(previous)
        is_large |= sum(one.size_bytes for one in line) > READ_INLINE_BYTES_MAX
        earlier = await asyncio.to_thread(items_of, line) if is_large else items_of(line)
    await _resolve(asked, account, shelf)
    beside = asyncio.to_thread(chat_of, asked, earlier) if is_large else None
    chat = await beside if beside is not None else chat_of(asked, earlier)
    return Understood(asked=asked, chat=chat, account=account, shelf=shelf)


async def _resolve(asked: Asked, account: str, shelf: Shelf | None) -> None:
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
