"""What cortexes publish of themselves: signed, checked whole, passed on as the bytes that came.

A record is refused for its form before its signature is paid for, and for its
times after it: a refusal that blames a node's clock has to be about that node.
Which of two records holds is `supersedes`; the holder asks it, after a `peek`,
before anything else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple, TypeVar

import msgspec

from helexa.mesh import identity
from helexa.mesh.operators.operator import (
    CLOCK_SLACK_S,
    CertificateRefused,
    Identity,
    day,
    identify,
    identities,
    read_certificate,
)
from helexa.mesh.operators.revocation import RevocationBook
from helexa.mesh.statements.record_form import NUMBER_MAX, Reason, RecordRejected, check_form
from helexa.mesh.statements.sealed import (
    SIGNATURE_BYTES,
    SealBroken,
    SealOversize,
    Sign,
    Verify,
    peel,
    prove,
    seal,
)
from helexa.protocol.ids import NodeId, OperatorId, is_node_id
from helexa.protocol.messages import Role
from helexa.protocol.records import OFFERS_PER_RECORD_MAX, RECORD_BYTES_MAX, Certificate, Record

__all__ = [
    "LIFETIME_MAX_S",
    "SEQUENCE_MAX",
    "Peek",
    "Reason",
    "RecordRejected",
    "SignedRecord",
    "check_times",
    "fitted",
    "open_record",
    "peek",
    "sign_record",
    "supersedes",
]

LIFETIME_MAX_S: Final = 86_400
"""How long a record may outlive its node. Whoever comes back later signs a new one anyway."""
SEQUENCE_MAX: Final = NUMBER_MAX
"""In milliseconds, which is where sequences begin, 285,000 years."""
_OFFERS_HEAD_BYTES: Final = 16
T = TypeVar("T", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedRecord:
    """A record that was proven, and who stands behind it."""

    record: Record
    blob: bytes
    """As it came and as it is passed on."""
    operator: OperatorId
    identities: tuple[OperatorId, ...]
    """`operator`, then the ids that it had before."""
    certificate: Certificate | None = None

    @property
    def node(self) -> NodeId:
        """Whose record it is."""
        return self.record.node

    @property
    def sequence(self) -> int:
        """Which of its node's records it is."""
        return self.record.sequence

    @property
    def region(self) -> str:
        """The operator's word where it gave one, else the node's own."""
        signed = self.certificate.region if self.certificate is not None else ""
        return signed or self.record.region


class Peek(NamedTuple):
    """What a record claims to be before anything is proven."""

    node: NodeId
    sequence: int


class _Head(msgspec.Struct, frozen=True, tag="record", tag_field="t"):
    node: NodeId
    sequence: int


def sign_record(sign: Sign, record: Record, *, verify: Verify = identity.verify) -> SignedRecord:
    """Seal `record` with the key behind its `node`.

    Raises RecordRejected for what every reader would refuse, its times aside.
    """
    check_form(record)
    blob = seal(sign, record)
    if len(blob) > RECORD_BYTES_MAX:
        raise RecordRejected(Reason.OVERSIZE, f"{len(blob)} bytes; at most {RECORD_BYTES_MAX}")
    if not record.certificate:
        return _signed(record, blob, identify(record.node, b"", now_s=record.issued_s))
    try:
        certificate = read_certificate(record.certificate, verify)
        known_as = identities(certificate, verify)
    except CertificateRefused as refused:
        raise RecordRejected(Reason.CERTIFICATE, refused.reason) from refused
    if certificate.node != record.node:
        raise RecordRejected(Reason.CERTIFICATE, "is for another node")
    return SignedRecord(
        record=record,
        blob=blob,
        operator=certificate.operator,
        identities=known_as,
        certificate=certificate,
    )


def peek(blob: bytes) -> Peek:
    """Whose record `blob` claims to be, and which. Proves nothing. Raises RecordRejected."""
    head = _peel(blob, _Head)
    if not is_node_id(head.node) or not 0 <= head.sequence <= SEQUENCE_MAX:
        raise RecordRejected(Reason.MALFORMED, "names no node or no sequence")
    return Peek(head.node, head.sequence)


def supersedes(sequence: int, blob: bytes, held: SignedRecord | None) -> bool:
    """Whether a record takes the place of the one `held`; where not, it is STALE.

    Of two records with one sequence (two machines with one key) every node
    keeps the same one, so that the mesh does not pass both around forever.
    """
    return held is None or (sequence, blob) > (held.sequence, held.blob)


def open_record(
    blob: bytes,
    *,
    now_s: float,
    book: RevocationBook,
    verify: Verify = identity.verify,
) -> SignedRecord:
    """The record in `blob`, proven and valid at `now_s` (unix seconds).

    The revocations that it carries go into `book`, which tells by its `on_change`
    that they may concern other members too. Raises RecordRejected.
    """
    record = _peel(blob, Record)
    check_form(record)
    try:
        prove(blob, record, record.node, verify)
    except SealBroken as broken:
        raise RecordRejected(Reason.SIGNATURE, broken.reason) from broken
    check_times(record, now_s)
    return _signed(record, blob, _identify(record, now_s, book, verify))


def check_times(record: Record, now_s: float) -> None:
    """Whether `record` holds at `now_s` (unix seconds).

    Raises RecordRejected with LIFETIME, FUTURE or EXPIRED.
    """
    lifetime_s = record.expires_s - record.issued_s
    if not 0 < lifetime_s <= LIFETIME_MAX_S:
        raise RecordRejected(
            Reason.LIFETIME, f"is valid for {lifetime_s} s; accepted are 1..{LIFETIME_MAX_S}"
        )
    ahead_s = record.issued_s - now_s
    if ahead_s > CLOCK_SLACK_S:
        raise RecordRejected(
            Reason.FUTURE, f"was issued {ahead_s:.0f} s from now", issued_ahead_s=ahead_s
        )
    if record.expires_s <= now_s:
        raise RecordRejected(
            Reason.EXPIRED, f"expired on {day(record.expires_s)}", issued_ahead_s=ahead_s
        )


def fitted(record: Record) -> Record:
    """`record` with as many of its offers, the first ones, as a sealed record has room for."""
    bare = msgspec.structs.replace(record, offers=())
    room = RECORD_BYTES_MAX - SIGNATURE_BYTES - _OFFERS_HEAD_BYTES - len(_encoded(bare))
    kept = 0
    for offer in record.offers[:OFFERS_PER_RECORD_MAX]:
        room -= len(_encoded(offer))
        if room < 0:
            break
        kept += 1
    if kept == len(record.offers):
        return record
    return msgspec.structs.replace(record, offers=record.offers[:kept])


def _identify(record: Record, now_s: float, book: RevocationBook, verify: Verify) -> Identity:
    try:
        known = identify(
            record.node, record.certificate, now_s=now_s, role=Role.CORTEX, verify=verify
        )
        if record.revocations:
            book.take(record.revocations, identities=known.identities)
        if known.certificate is not None and book.is_revoked(known.operator, record.node):
            raise RecordRejected(Reason.REVOKED, "was revoked by its operator")
    except CertificateRefused as refused:
        raise RecordRejected(Reason.CERTIFICATE, refused.reason) from refused
    except SealBroken as broken:
        raise RecordRejected(
            Reason.MALFORMED, f"carries broken revocations: {broken.reason}"
        ) from broken
    return known


def _signed(record: Record, blob: bytes, known: Identity) -> SignedRecord:
    return SignedRecord(
        record=record,
        blob=blob,
        operator=known.operator,
        identities=known.identities,
        certificate=known.certificate,
    )


def _peel(blob: bytes, kind: type[T]) -> T:
    try:
        return peel(blob, kind, bytes_max=RECORD_BYTES_MAX)
    except SealOversize as broken:
        raise RecordRejected(Reason.OVERSIZE, broken.reason) from broken
    except SealBroken as broken:
        raise RecordRejected(Reason.MALFORMED, broken.reason) from broken


def _encoded(part: msgspec.Struct) -> bytes:
    return msgspec.msgpack.encode(part)
