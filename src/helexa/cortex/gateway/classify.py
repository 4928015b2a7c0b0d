"""Which kind of work a request is. Pure: a function of the body and the caller's hint."""

from __future__ import annotations

from typing import Final

import msgspec

from helexa.protocol.pictures.parts import may_have_parts
from helexa.protocol.work import WorkloadClass

BULK_BODY_BYTES: Final = 256 * 1024
"""A prompt of this size that nobody watches being answered is batch work."""


class _Part(msgspec.Struct):
    type: str = ""


class _Message(msgspec.Struct):
    content: str | list[_Part] | None = None


class _Chat(msgspec.Struct):
    messages: list[_Message]


_chat: Final = msgspec.json.Decoder(_Chat)
_SENSES: Final = {"image_url": WorkloadClass.VISION, "input_audio": WorkloadClass.AUDIO}
_HINTS: Final = {one.value.encode(): one for one in WorkloadClass}
_CHAT: Final = frozenset((WorkloadClass.CHAT_INTERACTIVE, WorkloadClass.CHAT_BULK))


def _sense(body: bytes) -> WorkloadClass | None:
    """Of the first part, whoever's message it is in, that is not text."""
    try:
        messages = _chat.decode(body).messages
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        # The neuron says what is wrong with it.
        return None
    parts = (part for one in messages if isinstance(one.content, list) for part in one.content)
    return next((_SENSES[part.type] for part in parts if part.type in _SENSES), None)


def classify_chat(body: bytes, *, stream: bool, hint: bytes | None) -> WorkloadClass:
    """A picture or a sound decides, then the caller's hint, then whether somebody watches."""
    # Most chats have neither word; a tool may have one of them as the name of a parameter.
    if (
        may_have_parts(body)
        and (b'"image_url"' in body or b'"input_audio"' in body)
        and (sense := _sense(body))
    ):
        return sense
    hinted = _HINTS.get(hint) if hint else None
    if hinted is not None and hinted in _CHAT:
        return hinted
    if not stream and len(body) >= BULK_BODY_BYTES:
        return WorkloadClass.CHAT_BULK
    return WorkloadClass.CHAT_INTERACTIVE
