"""What neurons say to one another about the pieces of a file, over HTTP in streams of their link.

    GET  /pieces/v1/KEY/map?epoch=E&since=V&wait=S   what is here: `PieceMap` in MessagePack
    GET  /pieces/v1/KEY/INDEX                        one piece; its SHA-256 in a header
    POST /pieces/v1/KEY/claim?wanted=N               pieces to take from the origin: `Handed`

A map is asked for again and again: it is answered when it is another one than the asker has,
and after `wait` seconds in any case. An unknown field is skipped; a new one has a default.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from helexa.neuron.models.supply.piece import FILE_BYTES_MAX, PIECES_MAX
from helexa.protocol.ids import NodeId

ROOT: Final = "/pieces/v1/"
MAP: Final = "map"
CLAIM: Final = "claim"
DIGEST_HEADER: Final = b"x-helexa-sha256"
MAP_TYPE: Final = b"application/msgpack"

EXCHANGED_BYTES_MAX: Final = 64 << 20
"""Of one piece; larger ones belong to files of terabytes, and each would be held in memory."""
MAP_BYTES_MAX: Final = 4 << 20
"""The digests of 32,768 pieces are half of it."""
MAP_WAIT_MAX_S: Final = 20.0
CLAIM_MAX: Final = 8
MEMBERS_MAX: Final = 64
_BITMAP_BYTES_MAX: Final = PIECES_MAX // 8
_MARK_CHARS: Final = 16

Bitmap = Annotated[bytes, Meta(max_length=_BITMAP_BYTES_MAX)]
Digest = Annotated[bytes, Meta(min_length=32, max_length=32)]


class PieceMap(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a neuron has of one file, and what it is about to get."""

    epoch: int
    """Another one where versions began anew, and then `digests` are complete."""
    version: int
    size: Annotated[int, Meta(ge=0, le=FILE_BYTES_MAX)]
    have: Bitmap
    fetching: Bitmap = b""
    """On their way from the origin."""
    first_hand: Bitmap = b""
    """Of those it has: taken from the origin by itself, or part of a whole that it verified."""
    digests: Annotated[dict[int, Digest], Meta(max_length=PIECES_MAX)] = {}
    """Of pieces that came since the version that was asked with."""
    fetches: bool = False
    """It takes pieces from the origin, now."""
    in_order: bool = False
    """The origin gives well only from the first piece upwards."""
    origin_bytes: int = 0
    """That came from the origin since it began; a sign of life inside a piece."""
    members: Annotated[frozenset[str], Meta(max_length=MEMBERS_MAX + 1)] = frozenset()
    """Whom it reckons with as owners, by `mark_of` their ids."""
    verified: bool = False
    """It has the whole, and that had the declared SHA-256."""
    tree: bytes = b""
    """Of the whole, where it is verified: see `tree.py`."""


class Handed(msgspec.Struct, frozen=True, kw_only=True):
    """Pieces that the asker takes from the origin now, and the answerer does not."""

    pieces: Annotated[tuple[int, ...], Meta(max_length=CLAIM_MAX)] = ()


def mark_of(node: NodeId) -> str:
    return node[:_MARK_CHARS]
