"""The frames of a `tls` link: eight bytes of header, then the body.

One connection carries all streams of a link, so each frame names its stream.
The bytes of a stream are handed on as they arrive, never gathered; everything
else is small, has a fixed or bounded size, and is handed on whole. What does
not fit is a WireViolation: bytes from a peer that this node will not act on.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Final, Protocol

CHUNK_BYTES_MAX: Final = 1 << 16
"""Of one stream in one frame: other streams get their turn in between."""
DATAGRAM_BYTES_MAX: Final = 1_200
"""As much as UDP would carry anywhere, so that nobody grows to rely on more."""
REASON_BYTES_MAX: Final = 512
NONCE_BYTES: Final = 32

DATA: Final = 1
FIN: Final = 2
"""No more bytes of this stream come from the sender; what was sent is whole."""
RESET: Final = 3
"""No more bytes come, and what was sent is not to be relied on."""
STOP: Final = 4
"""The sender reads no more of this stream; the other side answers RESET unless it said FIN."""
CREDIT: Final = 5
"""So many more bytes of this stream may be sent."""
DATAGRAM: Final = 6
PING: Final = 7
PONG: Final = 8
CLOSE: Final = 9
CHALLENGE: Final = 10
PROOF: Final = 11
WELCOME: Final = 12

_HEADER: Final = struct.Struct(">II")
_CLOSE_CODE: Final = struct.Struct(">Q")
_CODE_MAX: Final = (1 << 62) - 1
_PROOF_BYTES: Final = 32 + 64

_BODY_BYTES: Final[Mapping[int, tuple[int, int]]] = {
    FIN: (0, 0),
    RESET: (0, 0),
    STOP: (0, 0),
    CREDIT: (4, 4),
    DATAGRAM: (0, DATAGRAM_BYTES_MAX),
    PING: (8, 8),
    PONG: (8, 8),
    CLOSE: (_CLOSE_CODE.size, _CLOSE_CODE.size + REASON_BYTES_MAX),
    CHALLENGE: (NONCE_BYTES, NONCE_BYTES),
    PROOF: (_PROOF_BYTES, _PROOF_BYTES),
    WELCOME: (0, 0),
}


class WireViolation(Exception):
    """What the peer sent breaks the rules of this file or of the link. Says how."""


class Sink(Protocol):
    """Who acts on the frames of a connection. Both may raise WireViolation."""

    def on_data(self, stream: int, piece: bytes) -> None: ...

    def on_frame(self, kind: int, stream: int, body: bytes) -> None: ...


class Decoder:
    """Bytes in, calls out. Holds at most one small frame that is not complete yet."""

    def __init__(self) -> None:
        self._held = b""
        self._stream = 0
        self._left = 0

    def feed(self, view: memoryview, sink: Sink) -> None:
        """Raises WireViolation, after which the connection is good for nothing."""
        if self._held:
            view = memoryview(self._held + view)
            self._held = b""
        at, end = 0, len(view)
        while at < end:
            if self._left:
                piece = bytes(view[at : at + self._left])
                at += len(piece)
                self._left -= len(piece)
                sink.on_data(self._stream, piece)
                continue
            if end - at < _HEADER.size:
                break
            word, stream = _HEADER.unpack_from(view, at)
            kind, size = word >> 24, word & 0xFFFFFF
            if kind == DATA:
                if not 0 < size <= CHUNK_BYTES_MAX:
                    raise WireViolation(f"a chunk of {size} bytes")
                at += _HEADER.size
                if size <= end - at:
                    # Whole, as small chunks are: the way that every token takes.
                    sink.on_data(stream, bytes(view[at : at + size]))
                    at += size
                else:
                    self._stream, self._left = stream, size
                continue
            least, most = _BODY_BYTES.get(kind, (0, -1))
            if not least <= size <= most:
                raise WireViolation(f"a frame of kind {kind} with {size} bytes")
            begin = at + _HEADER.size
            if end - begin < size:
                break
            at = begin + size
            sink.on_frame(kind, stream, bytes(view[begin:at]))
        if at < end:
            self._held = bytes(view[at:])


def frame(kind: int, stream: int = 0, body: bytes | memoryview = b"") -> bytes:
    return b"".join((_HEADER.pack(kind << 24 | len(body), stream), body))


def close_body(code: int, reason: str) -> bytes:
    """The code is clamped to what QUIC could carry, the reason cut to REASON_BYTES_MAX."""
    kept = min(max(code, 0), _CODE_MAX)
    return _CLOSE_CODE.pack(kept) + reason.encode("utf-8", "replace")[:REASON_BYTES_MAX]


def read_close(body: bytes) -> tuple[int, str]:
    (code,) = _CLOSE_CODE.unpack_from(body)
    # The cut may have split the last character.
    return code, body[_CLOSE_CODE.size :].decode("utf-8", "ignore")
