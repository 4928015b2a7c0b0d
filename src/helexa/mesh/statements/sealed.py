"""Statements that carry their proof: a signature, then the MessagePack that it covers.

    64 bytes  Ed25519 signature over `helexa <tag> 1`, a zero byte, and the rest
    n bytes   MessagePack map of one type of `protocol/records.py`

The tag goes into what is signed, so a statement of one kind can never be shown
as another kind. What was signed is kept and passed on as the bytes that came: a
reader that skips a newer build's fields could not write them again.
"""

from __future__ import annotations

import functools
import hashlib
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final, TypeAlias, TypeVar, cast

import msgspec

from helexa.mesh import identity
from helexa.protocol.ids import NodeId
from helexa.protocol.records import RECORD_BYTES_MAX

SIGNATURE_BYTES: Final = 64
SEALED_BYTES_MAX: Final = RECORD_BYTES_MAX
"""A record is the longest of them."""
REMEMBERED_MAX: Final = 8_192
"""Proofs of 32 bytes each; with what Python adds, under 2 MB."""

Sign: TypeAlias = Callable[[bytes], bytes]
Verify: TypeAlias = Callable[[NodeId, bytes, bytes], bool]
"""As `identity.verify`: key, message, signature."""
T = TypeVar("T", bound=msgspec.Struct)

_encoder: Final = msgspec.msgpack.Encoder()


class SealBroken(Exception):
    """Bytes that nobody is held to: no such statement, or not signed by the one it names."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class SealOversize(SealBroken):
    """More bytes than any statement of the kind has; nothing of it was read."""


class SealForged(SealBroken):
    """Well-formed, and not signed by the one it names."""


def seal(sign: Sign, body: msgspec.Struct) -> bytes:
    """Sign a statement. `sign` is of the key that the body names as its signer."""
    payload = _encoder.encode(body)
    return sign(_domain(type(body)) + payload) + payload


def unseal(
    blob: bytes,
    kind: type[T],
    signer_of: Callable[[T], str],
    verify: Verify = identity.verify,
    *,
    bytes_max: int = SEALED_BYTES_MAX,
) -> T:
    """The statement in `blob`, signed by whom `signer_of` finds named in it.

    Raises SealBroken, and nothing else whatever the bytes are.
    """
    statement = peel(blob, kind, bytes_max=bytes_max)
    prove(blob, statement, signer_of(statement), verify)
    return statement


def peel(blob: bytes, kind: type[T], *, bytes_max: int = SEALED_BYTES_MAX) -> T:
    """What `blob` says, by nobody's word yet: `prove` before acting on it. Raises SealBroken.

    `kind` may name a part of a statement's fields, to read just those.
    """
    if len(blob) > bytes_max:
        raise SealOversize(f"{len(blob)} bytes; at most {bytes_max}")
    try:
        return cast(T, _decoder(kind).decode(memoryview(blob)[SIGNATURE_BYTES:]))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise SealBroken(f"not understood: {error}") from error


def prove(
    blob: bytes, statement: msgspec.Struct, signer: str, verify: Verify = identity.verify
) -> None:
    """Check that `signer` signed `blob`, of which `statement` was read. Raises SealBroken."""
    message = _domain(type(statement)) + blob[SIGNATURE_BYTES:]
    if not verify(NodeId(signer), message, blob[:SIGNATURE_BYTES]):
        raise SealForged(f"not signed by {signer[:10]!r}, whom it names")


class Remembered:
    """A `Verify` that pays once for a proof that comes again and again.

    A node's certificate is inside every record that it publishes and its
    operator's revocations inside those of all its nodes. Only what held is
    kept, least recently used first out, so forgeries push nothing aside.
    """

    def __init__(
        self, verify: Verify = identity.verify, *, entries_max: int = REMEMBERED_MAX
    ) -> None:
        self._verify = verify
        self._entries_max = entries_max
        self._proven: OrderedDict[bytes, None] = OrderedDict()

    def __call__(self, signer: NodeId, message: bytes, signature: bytes) -> bool:
        # Signer and signature have a fixed length where they hold, so the parts cannot be
        # shifted against each other.
        if len(signer) != 64 or len(signature) != SIGNATURE_BYTES or not signer.isascii():
            return False
        mark = hashlib.sha256(signer.encode() + signature + message).digest()
        if mark in self._proven:
            self._proven.move_to_end(mark)
            return True
        if not self._verify(signer, message, signature):
            return False
        self._proven[mark] = None
        if len(self._proven) > self._entries_max:
            self._proven.popitem(last=False)
        return True


@functools.cache
def _decoder(kind: type[msgspec.Struct]) -> msgspec.msgpack.Decoder[Any]:
    return msgspec.msgpack.Decoder(kind)


@functools.cache
def _domain(kind: type[msgspec.Struct]) -> bytes:
    return b"helexa %s 1\0" % str(kind.__struct_config__.tag).encode()
