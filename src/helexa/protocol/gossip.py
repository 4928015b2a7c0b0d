"""What cortexes tell one another about who is alive. All of it is told; nothing is asked.

News travels in two forms. A *head* says that a record exists, in 18 bytes: who
(the first 8 bytes of the node id), its sequence (8 bytes) and its pulse (2
bytes), big endian. Whoever lacks it wants the record. A *statement* is short
and urgent and travels whole: sealed (`mesh/statements/sealed.py`) by the node that says it.

Nothing here claims anything about another node without that node's signature
or the accuser's own. When each message is sent stands in `mesh/membership`.
"""

from __future__ import annotations

from typing import Annotated, Final, TypeAlias

import msgspec
from msgspec import Meta

from helexa.protocol.base import Message
from helexa.protocol.ids import NodeId

SHORT_BYTES: Final = 8
HEAD_BYTES: Final = 18
HEADS_MAX: Final = 1_024
"""In one message: 18 KiB."""
STATEMENTS_MAX: Final = 64
"""In one message: about 10 KiB."""
RECORDS_MAX: Final = 512
"""In one message; its bytes are bounded by the frame."""
BUCKETS: Final = 256
BUCKET_BYTES: Final = 4
WANTED_MAX: Final = 1_024

Sealed: TypeAlias = bytes
Heads: TypeAlias = Annotated[bytes, Meta(max_length=HEADS_MAX * HEAD_BYTES)]
Statements: TypeAlias = Annotated[tuple[Sealed, ...], Meta(max_length=STATEMENTS_MAX)]


# --- statements: positional, because hundreds of nodes pass each of them on


class Suspicion(msgspec.Struct, frozen=True, array_like=True, tag="mesh.suspicion"):
    """`accuser` could not reach `target`, of which it knew this sequence and pulse."""

    accuser: bytes
    """A node id's 32 bytes, as `target`."""
    target: bytes
    sequence: int
    pulse: int


class Alive(msgspec.Struct, frozen=True, array_like=True, tag="mesh.alive"):
    """`node` says that it lives. A higher pulse of the same record answers every suspicion
    of a lower one; a new record begins at pulse 0.
    """

    node: bytes
    sequence: int
    pulse: int


class Leaving(msgspec.Struct, frozen=True, array_like=True, tag="mesh.leaving"):
    """`node` goes, on purpose. Only a record with a higher sequence brings it back."""

    node: bytes
    sequence: int


class Answer(msgspec.Struct, frozen=True, array_like=True, tag="mesh.answer"):
    """`node` heard a probe that a helper made for somebody who chose `nonce`."""

    node: bytes
    nonce: int


Statement: TypeAlias = Suspicion | Alive | Leaving


# --- messages


class Probe(Message, frozen=True, kw_only=True, omit_defaults=True, tag="mesh.probe"):
    """Are you there? Answered at once by `Ack` with the same nonce."""

    nonce: int
    chosen: bool = False
    """The sender chose the receiver as a neighbour and wants its news."""
    prove: int = 0
    """Not 0: the ack has to carry a sealed `Answer` with this nonce, to be shown to another."""
    heads: Heads = b""
    statements: Statements = ()


class Ack(Message, frozen=True, kw_only=True, omit_defaults=True, tag="mesh.ack"):
    """Answers `Probe`, and `Relay` where a helper is done."""

    nonce: int
    clock_s: int = 0
    """The sender's clock, unix seconds, so that a node can notice that its own is wrong."""
    reached: bool = True
    """False: a helper got no answer either."""
    proof: Annotated[bytes, Meta(max_length=512)] = b""
    heads: Heads = b""
    statements: Statements = ()


class Relay(Message, frozen=True, kw_only=True, tag="mesh.relay"):
    """Probe `target` for me; answered by `Ack`, with the target's own proof or `reached` false."""

    nonce: int
    target: NodeId


class News(Message, frozen=True, kw_only=True, omit_defaults=True, tag="mesh.news"):
    heads: Heads = b""
    statements: Statements = ()


class Digest(Message, frozen=True, kw_only=True, omit_defaults=True, tag="mesh.digest"):
    """What the sender knows, as 256 sums of 4 bytes. Answered by `Bucket` where they differ."""

    sums: Annotated[bytes, Meta(max_length=BUCKETS * BUCKET_BYTES)]


class Bucket(Message, frozen=True, kw_only=True, omit_defaults=True, tag="mesh.bucket"):
    """All that the sender knows in `numbers`, some of the buckets that differ."""

    numbers: Annotated[bytes, Meta(max_length=BUCKETS)]
    heads: Heads = b""


class Want(Message, frozen=True, kw_only=True, tag="mesh.want"):
    """The records of these members, each named by the first 8 bytes of its id."""

    shorts: Annotated[bytes, Meta(max_length=WANTED_MAX * SHORT_BYTES)]


class Records(Message, frozen=True, kw_only=True, omit_defaults=True, tag="mesh.records"):
    """Answers `Want`, in as many messages as it takes; and a node's own, unasked."""

    records: Annotated[tuple[Sealed, ...], Meta(max_length=RECORDS_MAX)] = ()
    statements: Statements = ()


Gossip: TypeAlias = Probe | Ack | Relay | News | Digest | Bucket | Want | Records
