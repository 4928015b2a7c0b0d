"""A ticket: one word to copy and paste that says who a node is and where to dial it.

    helexa  a prefix that a person recognises
    base32  lower case, no padding, of
              1 byte   version
              n bytes  MessagePack map; a reader skips fields that it does not know
              4 bytes  SHA-256 of all of the above, first four

The checksum is against mistyping and half a copied line, not against an
attacker: whoever can alter a ticket can write one. What makes a link trusted is
the key behind `node`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Annotated, Final, TypeAlias

import msgspec
from msgspec import Meta

from helexa.protocol.ids import NodeId, is_node_id

PREFIX: Final = "helexa"
TICKET_CHARS_MAX: Final = 4_096
ADDRESSES_MAX: Final = 32
TRANSPORTS_MAX: Final = 8
_VERSION: Final = 1
_CHECKSUM_BYTES: Final = 4


class TicketMalformed(Exception):
    """Not a ticket that this build can use. Says what is wrong with it."""


Addresses: TypeAlias = Annotated[list[str], Meta(max_length=ADDRESSES_MAX)]


class _Body(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    n: bytes
    """Node id, raw: half the length of its digits."""
    a: Annotated[
        dict[str, Annotated[list[str], Meta(max_length=ADDRESSES_MAX)]], Meta(max_length=8)
    ]
    i: Annotated[bytes, Meta(max_length=1_024)] = b""
    """A sealed invite."""


class Ticket(msgspec.Struct, frozen=True, kw_only=True):
    """`addresses` by transport name, best first.

    With a sealed `invite` the ticket is a secret: whoever holds it is let in.
    """

    node: NodeId
    addresses: dict[str, tuple[str, ...]]
    invite: bytes = b""

    def __str__(self) -> str:
        body = _Body(
            n=bytes.fromhex(self.node),
            a={name: list(some[:ADDRESSES_MAX]) for name, some in self.addresses.items()},
            i=self.invite,
        )
        payload = bytes((_VERSION,)) + msgspec.msgpack.encode(body)
        return PREFIX + _spell(payload + _checksum(payload))

    @classmethod
    def parse(cls, text: str) -> Ticket:
        """Raises TicketMalformed. Space around the word and upper case are forgiven."""
        payload = _payload(text)
        # The version comes after the checksum: a mistyped letter must not be called "newer".
        if payload[0] != _VERSION:
            raise TicketMalformed(
                f"the ticket is of version {payload[0]}; this build reads version {_VERSION}: "
                "update helexa here"
            )
        try:
            body = msgspec.msgpack.decode(payload[1:], type=_Body)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            raise TicketMalformed(f"the ticket's content is not understood: {error}") from error
        node = body.n.hex()
        if not is_node_id(node):
            raise TicketMalformed(f"the ticket names a node by {len(body.n)} bytes instead of 32")
        return cls(
            node=NodeId(node),
            addresses={name: tuple(some) for name, some in body.a.items()},
            invite=body.i,
        )


def _payload(text: str) -> bytes:
    word = text.strip().lower()
    if len(word) > TICKET_CHARS_MAX:
        raise TicketMalformed(f"longer than the {TICKET_CHARS_MAX} characters of any ticket")
    if not word.startswith(PREFIX):
        raise TicketMalformed(f"a ticket begins with {PREFIX!r}; this begins with {word[:12]!r}")
    digits = word.removeprefix(PREFIX)
    try:
        data = base64.b32decode(digits.upper() + "=" * (-len(digits) % 8))
    except (binascii.Error, ValueError) as error:
        # Base32 has no 1, 3 or 6 characters in its last group: a cut shows here or below.
        strange = next((c for c in digits if c not in "abcdefghijklmnopqrstuvwxyz234567"), "")
        problem = f"holds {strange!r}, which no ticket does" if strange else "is cut short"
        raise TicketMalformed(f"the ticket {problem}; copy it again as one word") from error
    if len(data) < 1 + _CHECKSUM_BYTES:
        raise TicketMalformed("the ticket is cut short; copy it again as one word")
    payload, checksum = data[:-_CHECKSUM_BYTES], data[-_CHECKSUM_BYTES:]
    # Spelling it again catches a last letter that differs only in bits beyond the data.
    if _checksum(payload) != checksum or _spell(data) != digits:
        raise TicketMalformed(
            "the ticket's checksum does not match: it is cut short or mistyped; "
            "copy it again as one word"
        )
    return payload


def _spell(data: bytes) -> str:
    return base64.b32encode(data).decode("ascii").rstrip("=").lower()


def _checksum(payload: bytes) -> bytes:
    return hashlib.sha256(payload).digest()[:_CHECKSUM_BYTES]
