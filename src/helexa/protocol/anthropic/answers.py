"""What a client is answered: a message, whole or as events.

The events of a stream are put together from these pieces by bytes: they are sent for every
token.
"""

from __future__ import annotations

from typing import Final, Literal, Self, TypeAlias

import msgspec

UNSIGNED: Final = "unsigned"
"""The signature of all thoughts. Anthropic's proves that a thought is its model's own; nobody
here can, and some clients leave out thoughts that have none at all."""

PING: Final = b'event: ping\ndata: {"type":"ping"}\n\n'

StopReason: TypeAlias = Literal["end_turn", "max_tokens", "stop_sequence", "tool_use", "refusal"]


class TextBlock(msgspec.Struct, frozen=True, tag_field="type", tag="text"):
    text: str
    citations: None = None


class ThinkingBlock(msgspec.Struct, frozen=True, tag_field="type", tag="thinking"):
    thinking: str
    signature: str = UNSIGNED


class Caller(msgspec.Struct, frozen=True, tag_field="type", tag="direct"):
    """Whoever calls a tool: the model itself, always."""


class ToolUseBlock(msgspec.Struct, frozen=True, tag_field="type", tag="tool_use"):
    id: str
    name: str
    input: msgspec.Raw
    caller: Caller = Caller()


class ThinkingTokens(msgspec.Struct, frozen=True):
    thinking_tokens: int


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """Classes that do not overlap, but for thoughts, which are part of the output."""

    input_tokens: int = 0
    cache_creation_input_tokens: int = 0
    cache_read_input_tokens: int = 0
    output_tokens: int = 0
    output_tokens_details: ThinkingTokens | None = None
    server_tool_use: None = None


class Usage(Counts, frozen=True, kw_only=True):
    """With what strict clients look for, and helexa has not."""

    cache_creation: None = None
    inference_geo: None = None
    service_tier: Literal["standard"] = "standard"

    @classmethod
    def of(cls, counts: Counts) -> Self:
        return cls(**msgspec.structs.asdict(counts))


class Stopped(msgspec.Struct, frozen=True, kw_only=True):
    stop_reason: StopReason | None = None
    stop_sequence: str | None = None
    stop_details: None = None
    container: None = None


class Message(Stopped, frozen=True, kw_only=True, tag_field="type", tag="message"):
    id: str
    role: Literal["assistant"] = "assistant"
    model: str
    content: list[TextBlock | ThinkingBlock | ToolUseBlock] = []
    usage: Usage = Usage()


class TokenCount(msgspec.Struct, frozen=True):
    input_tokens: int


class MessageStart(msgspec.Struct, frozen=True, tag_field="type", tag="message_start"):
    message: Message


class MessageDelta(msgspec.Struct, frozen=True, tag_field="type", tag="message_delta"):
    delta: Stopped
    usage: Counts


_encode: Final = msgspec.json.Encoder().encode


def started(message: Message) -> bytes:
    return b"event: message_start\ndata: %s\n\n" % _encode(MessageStart(message))


def block_started(index: int, block: TextBlock | ThinkingBlock | ToolUseBlock) -> bytes:
    return (
        b"event: content_block_start\n"
        b'data: {"type":"content_block_start","index":%d,"content_block":%s}\n\n'
        % (index, _encode(block))
    )


def text(index: int, piece: str) -> bytes:
    return _delta(index, b"text_delta", b"text", piece)


def thinking(index: int, piece: str) -> bytes:
    return _delta(index, b"thinking_delta", b"thinking", piece)


def signature(index: int) -> bytes:
    return _delta(index, b"signature_delta", b"signature", UNSIGNED)


def tool_input(index: int, piece: str) -> bytes:
    return _delta(index, b"input_json_delta", b"partial_json", piece)


def block_stopped(index: int) -> bytes:
    return b'event: content_block_stop\ndata: {"type":"content_block_stop","index":%d}\n\n' % index


def stopped(how: Stopped, usage: Counts) -> bytes:
    """The two events that end a message."""
    return (
        b"event: message_delta\ndata: %s\n\n"
        b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
        % _encode(MessageDelta(how, usage))
    )


def _delta(index: int, kind: bytes, name: bytes, piece: str) -> bytes:
    return (
        b"event: content_block_delta\n"
        b'data: {"type":"content_block_delta","index":%d,"delta":{"type":"%s","%s":%s}}\n\n'
        % (index, kind, name, _encode(piece))
    )
