"""Which kind of work a request is. Pure: a function of the body and the caller's hint."""

from __future__ import annotations

from typing import Final

from helexa.protocol.work import WorkloadClass

BULK_BODY_BYTES: Final = 256 * 1024
"""A prompt of this size that nobody watches being answered is batch work."""

_HINTS: Final = {one.value.encode(): one for one in WorkloadClass}
_CHAT: Final = frozenset((WorkloadClass.CHAT_INTERACTIVE, WorkloadClass.CHAT_BULK))


def classify_chat(body: bytes, *, stream: bool, hint: bytes | None) -> WorkloadClass:
    """A picture or a sound decides, then the caller's hint, then whether somebody watches.

    The quotes make the search exact: inside a JSON string they would be escaped.
    """
    if b'"type"' in body:  # Parts and tools have one; most chats have neither.
        if b'"image_url"' in body:
            return WorkloadClass.VISION
        if b'"input_audio"' in body:
            return WorkloadClass.AUDIO
    hinted = _HINTS.get(hint) if hint else None
    if hinted is not None and hinted in _CHAT:
        return hinted
    if not stream and len(body) >= BULK_BODY_BYTES:
        return WorkloadClass.CHAT_BULK
    return WorkloadClass.CHAT_INTERACTIVE
