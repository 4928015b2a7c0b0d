"""Refusals among what an assistant said before, as the text that they are.

The engine knows no part of that type, and a client may send back what it was answered.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from helexa.protocol.openai import body as bodies

_NAMED: Final = b'"refusal"'
_messages: Final = msgspec.json.Decoder(list[msgspec.Raw])
_message: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_parts: Final = msgspec.json.Decoder(list[msgspec.Raw])
_part: Final = msgspec.json.Decoder(dict[str, Any])


def changes(raw: bodies.Fields) -> dict[str, Any]:
    """`messages`, where one of them has such a part; all else stays the client's own bytes."""
    if _NAMED not in bytes(raw.get("messages", b"")):
        return {}
    try:
        return {"messages": [_told(one) for one in _messages.decode(raw["messages"])]}
    except msgspec.MsgspecError:
        # The engine says what is wrong with it.
        return {}


def _told(message: msgspec.Raw) -> msgspec.Raw | dict[str, Any]:
    if _NAMED not in bytes(message):
        return message
    fields = _message.decode(message)
    content = bytes(fields.get("content", b"")).lstrip()
    if bytes(fields.get("role", b"")) != b'"assistant"' or not content.startswith(b"["):
        return message
    return {**fields, "content": [_said(one) for one in _parts.decode(content)]}


def _said(raw: msgspec.Raw) -> msgspec.Raw | dict[str, Any]:
    part = _part.decode(raw)
    if part.get("type") == "refusal" and isinstance(part.get("refusal"), str):
        return {"type": "text", "text": part["refusal"]}
    return raw
