"""The blocks that a client's messages are made of.

Unknown members are refused, as Anthropic refuses them: what is not read cannot be honoured.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec


class Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Refuses members that it does not name."""


class CacheControl(Strict, frozen=True, kw_only=True):
    """A hint that changes nothing: engines find by themselves what they cached."""

    type: Literal["ephemeral"]
    ttl: Literal["5m", "1h"] = "5m"


class Block(Strict, frozen=True, kw_only=True, tag_field="type"):
    """What all blocks have."""

    cache_control: CacheControl | None = None


class Text(Block, frozen=True, kw_only=True, tag="text"):
    text: str
    citations: list[msgspec.Raw] | None = None
    """Nothing is cited here: only none of them can be honoured."""


class Base64Source(Strict, frozen=True, kw_only=True, tag_field="type", tag="base64"):
    media_type: Literal["image/jpeg", "image/png", "image/gif", "image/webp"]
    data: str


class UrlSource(Strict, frozen=True, kw_only=True, tag_field="type", tag="url"):
    url: str


class Image(Block, frozen=True, kw_only=True, tag="image"):
    source: Base64Source | UrlSource


class Caller(Strict, frozen=True, kw_only=True):
    type: Literal["direct"]


class ToolUse(Block, frozen=True, kw_only=True, tag="tool_use"):
    id: str
    name: str
    input: msgspec.Raw
    """An object, as the client wrote it."""
    caller: Caller | None = None


class ToolResult(Block, frozen=True, kw_only=True, tag="tool_result"):
    tool_use_id: str
    content: str | list[Text | Image] | None = None
    is_error: bool | None = None
    """A chat completion has no place for it: the content says what went wrong."""


class Thinking(Block, frozen=True, kw_only=True, tag="thinking"):
    thinking: str
    signature: str = ""
    """Nobody here signs thoughts, so nothing is checked."""


AnyBlock: TypeAlias = Text | Image | ToolUse | ToolResult | Thinking
