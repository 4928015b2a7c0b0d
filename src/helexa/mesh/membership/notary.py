"""Signing and checking, behind one small seam.

The core knows no keys. A simulation puts another notary here, because a
thousand nodes in one process need not check the same signature a thousand times.
"""

from __future__ import annotations

from typing import Final, Protocol

import msgspec

from helexa.mesh import identity
from helexa.mesh.membership.heads import Short, pack, short_of
from helexa.mesh.operators.revocation import RevocationBook
from helexa.mesh.statements.records import (
    RecordRejected,
    SignedRecord,
    open_record,
    peek,
    sign_record,
)
from helexa.mesh.statements.sealed import SealBroken, Sign, Verify, prove, seal, unseal
from helexa.protocol.gossip import Answer, Statement, Suspicion
from helexa.protocol.ids import NodeId
from helexa.protocol.records import Record

__all__ = ["Entry", "KeyNotary", "Notary", "RecordRejected", "SealBroken"]

STATEMENT_BYTES_MAX: Final = 256
"""The longest of them is 165."""


class Entry:
    """A proven record with what is asked of it thousands of times. Never changes."""

    __slots__ = ("head", "node", "sequence", "short", "signed")

    def __init__(self, signed: SignedRecord) -> None:
        self.signed = signed
        self.node: NodeId = signed.record.node
        self.sequence = signed.record.sequence
        self.short: Short = short_of(self.node)
        self.head = pack(self.short, (self.sequence, 0))


class Notary(Protocol):
    """Signs in one node's name and checks what others signed."""

    def seal(self, statement: Statement | Answer) -> bytes:
        """Sign in this node's name."""
        ...

    def prove(self, blob: bytes, statement: Statement) -> None:
        """Check the signature of what was read from `blob`. Raises SealBroken."""
        ...

    def unseal_answer(self, blob: bytes) -> Answer:
        """Raises SealBroken."""
        ...

    def sign(self, record: Record) -> Entry:
        """Raises RecordRejected for what nobody would accept."""
        ...

    def peek(self, blob: bytes) -> tuple[NodeId, int]:
        """Whose record it claims to be, and its sequence, unproven. Raises RecordRejected."""
        ...

    def open(self, blob: bytes, unix_s: float) -> Entry:
        """Prove a record. Raises RecordRejected."""
        ...


class KeyNotary:
    """The real one: a node's `sign`, and what is known of revocations."""

    def __init__(self, sign: Sign, book: RevocationBook, verify: Verify = identity.verify) -> None:
        self._sign = sign
        self._book = book
        self._verify = verify

    def seal(self, statement: Statement | Answer) -> bytes:
        return seal(self._sign, statement)

    def prove(self, blob: bytes, statement: Statement) -> None:
        prove(blob, statement, signer_of(statement), self._verify)

    def unseal_answer(self, blob: bytes) -> Answer:
        return unseal(blob, Answer, signer_of, self._verify, bytes_max=STATEMENT_BYTES_MAX)

    def sign(self, record: Record) -> Entry:
        return Entry(sign_record(self._sign, record, verify=self._verify))

    def peek(self, blob: bytes) -> tuple[NodeId, int]:
        return peek(blob)

    def open(self, blob: bytes, unix_s: float) -> Entry:
        return Entry(open_record(blob, now_s=unix_s, book=self._book, verify=self._verify))


def signer_of(statement: Statement | Answer) -> str:
    """The node id by which a statement has to be signed."""
    signer = statement.accuser if isinstance(statement, Suspicion) else statement.node
    return signer.hex()


_decoder: Final[msgspec.msgpack.Decoder[Statement]] = msgspec.msgpack.Decoder(Statement)
_SIGNATURE_BYTES: Final = 64


def read(blob: bytes) -> Statement:
    """What a statement says, by nobody's word yet. Raises SealBroken."""
    if len(blob) > STATEMENT_BYTES_MAX:
        raise SealBroken(f"{len(blob)} bytes; at most {STATEMENT_BYTES_MAX}")
    try:
        return _decoder.decode(memoryview(blob)[_SIGNATURE_BYTES:])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise SealBroken(f"not understood: {error}") from error
