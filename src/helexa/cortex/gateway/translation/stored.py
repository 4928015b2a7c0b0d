"""What is kept of responses, as the items of a conversation. Pure.

An item is known by an id that tells the response which holds it, so that a reference to it needs
no index: those of the output count from 0, those of the input from `INPUT_FROM`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from helexa.cortex.gateway.translation.responses_asked import Asked
from helexa.cortex.store.kept import Kept
from helexa.protocol.errors import RequestRejected
from helexa.protocol.openai.responses import ID_START, Item, ItemList

INPUT_FROM: Final = 0x8000
PAGE_DEFAULT: Final = 20
PAGE_MAX: Final = 100
_ITEM_ID: Final = re.compile(r"[a-z]{2,4}_([0-9a-f]{32})[0-9a-f]{4,8}\Z")
_STARTS: Final = {"message": "msg", "reasoning": "rs", "function_call": "fc"}


class _Output(msgspec.Struct):
    output: list[msgspec.Raw] = []


_output: Final = msgspec.json.Decoder(_Output)
_raws: Final = msgspec.json.Decoder(list[msgspec.Raw])
_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_item: Final = msgspec.json.Decoder(Item)
_encode: Final = msgspec.json.Encoder().encode


def own_input(asked: Asked) -> bytes:
    """The items of the request itself: a text is a message of the user's."""
    given = asked.request.input
    if isinstance(given, str):
        part = {"type": "input_text", "text": given}
        return _encode([{"type": "message", "role": "user", "content": [part]}])
    if given is None:
        return b"[]"
    # With references only their items are of use to whoever reads it later.
    return _encode(given) if asked.is_resolved else bytes(asked.fields["input"])


def items_of(line: Sequence[Kept]) -> list[Item]:
    """What a conversation consists of, for its continuation."""
    found = []
    for kept in line:
        found += [_item.decode(raw) for raw in _raws.decode(kept.input)]
        found += [_item.decode(raw) for raw in _output.decode(kept.response).output]
    return found


def listed(line: Sequence[Kept]) -> Iterator[msgspec.Raw]:
    """All that the last response of `line` answers to, in order, each with its id."""
    for kept in line:
        start = kept.id.removeprefix(ID_START)
        for number, raw in enumerate(_raws.decode(kept.input)):
            yield _shown(raw, f"{start}{INPUT_FROM + number:04x}")
        if kept is not line[-1]:
            yield from _output.decode(kept.response).output


def page(items: Sequence[msgspec.Raw], *, is_rising: bool, after: str, limit: int) -> ItemList:
    """Some of `items`, which stand oldest first. Raises RequestRejected for an unknown `after`."""
    ordered = items if is_rising else items[::-1]
    ids = [_id_of(raw) for raw in ordered]
    start = 0
    if after:
        if after not in ids:
            raise RequestRejected(f"There is no item {after[:80]!r}.", "after")
        start = ids.index(after) + 1
    shown = ids[start : start + limit]
    return ItemList(
        data=list(ordered[start : start + limit]),
        first_id=shown[0] if shown else None,
        last_id=shown[-1] if shown else None,
        has_more=start + limit < len(ids),
    )


def holder_of(item_id: str) -> str | None:
    """The response that holds an item of this id."""
    match = _ITEM_ID.match(item_id)
    return None if match is None else ID_START + match[1]


def found_in(kept: Kept, item_id: str) -> Item | None:
    """One item, whether it was said or asked."""
    for raw in (*_output.decode(kept.response).output, *listed([kept])):
        if _id_of(raw) == item_id:
            return _item.decode(raw)
    return None


def _shown(raw: msgspec.Raw, number: str) -> msgspec.Raw:
    members: dict[str, Any] = dict(_members.decode(raw))
    item = _item.decode(raw)
    if item.id is None:
        members["id"] = f"{_STARTS.get(item.kind, 'item')}_{number}"
    members["type"] = item.kind
    members.setdefault("status", "completed")
    if isinstance(item.content, str):
        kind = "output_text" if item.role == "assistant" else "input_text"
        part: dict[str, Any] = {"type": kind, "text": item.content}
        if item.role == "assistant":
            part["annotations"] = []
        members["content"] = [part]
    return msgspec.Raw(_encode(members))


def _id_of(raw: msgspec.Raw) -> str:
    return _item.decode(raw).id or ""
