"""Frames: how a message crosses a stream.

    4 bytes   length of what follows, big endian, 2..FRAME_BYTES_MAX
    1 byte    version
    the rest  MessagePack array [id, re, body]

`id` is the sender's number for this frame, from 1; `re` is the id of the frame
that it answers, or 0. Version 0 is the handshake's and never changes.
"""

from __future__ import annotations

from typing import Final

import msgspec

from helexa.protocol.messages import Wire
from helexa.protocol.version import VERSION, VERSION_MIN

FRAME_BYTES_MAX: Final = 1 << 20
HANDSHAKE_VERSION: Final = 0
LENGTH_BYTES: Final = 4


class Frame(msgspec.Struct, frozen=True, array_like=True):
    id: int
    re: int
    body: Wire


class _Outer(msgspec.Struct, frozen=True, array_like=True):
    id: int
    re: int
    body: msgspec.Raw


class _Tag(msgspec.Struct, frozen=True):
    t: str


class FrameRejected(Exception):
    """Bytes from a peer that this node will not act on."""


class TagUnknown(Exception):
    """A well-formed frame with a message that this build does not know.

    `re` is the id of our own frame that it answers, or 0.
    """

    def __init__(self, frame_id: int, tag: str, re: int = 0) -> None:
        super().__init__(f"message {tag!r} is not known here")
        self.frame_id = frame_id
        self.tag = tag
        self.re = re


_encoder: Final = msgspec.msgpack.Encoder()
_outer: Final = msgspec.msgpack.Decoder(_Outer)
_tag: Final = msgspec.msgpack.Decoder(_Tag)
_body: Final[msgspec.msgpack.Decoder[Wire]] = msgspec.msgpack.Decoder(Wire)
_KNOWN_TAGS: Final = frozenset(str(member.__struct_config__.tag) for member in Wire.__args__)


def encode(frame: Frame, *, version: int = VERSION) -> bytes:
    """The whole frame with its length, ready to write.

    Raises ValueError when it is over FRAME_BYTES_MAX: the sender's own mistake,
    found before the peer has to refuse it.
    """
    payload = _encoder.encode(frame)
    length = len(payload) + 1
    if length > FRAME_BYTES_MAX:
        raise ValueError(f"frame of {length} bytes; at most {FRAME_BYTES_MAX}")
    return length.to_bytes(LENGTH_BYTES, "big") + bytes((version,)) + payload


def length_of(prefix: bytes) -> int:
    """The length that a 4-byte prefix announces, or FrameRejected when no frame is that long."""
    length = int.from_bytes(prefix, "big")
    if not 2 <= length <= FRAME_BYTES_MAX:
        raise FrameRejected(f"frame of {length} bytes; accepted are 2..{FRAME_BYTES_MAX}")
    return length


def decode(payload: bytes | memoryview, *, version: int = VERSION) -> Frame:
    """Read what follows the length prefix. `version` is what this link agreed on.

    Raises FrameRejected for bytes that are no frame, TagUnknown for a message
    that a newer build invented.
    """
    if len(payload) < 2:
        raise FrameRejected(f"frame of {len(payload)} bytes")
    found = payload[0]
    if found != version:
        raise FrameRejected(
            f"frame of version {found} on a link of version {version}; "
            f"this node speaks {VERSION_MIN}..{VERSION}"
        )
    try:
        outer = _outer.decode(payload[1:])
        tag = _tag.decode(outer.body).t
        if tag not in _KNOWN_TAGS:
            raise TagUnknown(outer.id, tag[:64], outer.re)
        return Frame(outer.id, outer.re, _body.decode(outer.body))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise FrameRejected(str(error)) from error
