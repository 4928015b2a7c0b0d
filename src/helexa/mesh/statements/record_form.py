"""What a record may look like, whoever signed it: the bound of each field and its reason.

A record goes to every cortex of a mesh and from there into directories, tables
and dials. These bounds are what keeps one node's record from costing the others
more than a record.
"""

from __future__ import annotations

import enum
import ipaddress
import math
import re
from typing import Final
from urllib.parse import urlsplit

from helexa.mesh.statements.plain_text import NAME_CHARS_MAX, REGION_CHARS_MAX, is_plain
from helexa.mesh.ticket import TRANSPORTS_MAX
from helexa.protocol.ids import is_model_id, is_node_id
from helexa.protocol.records import OFFERS_PER_RECORD_MAX, Offer, Record
from helexa.util.sockets import Address

ADDRESSES_MAX: Final = 16
"""Of one transport. A dialler tries each, so a record of thousands would make a whole mesh knock
at doors that are not its node's."""
ADDRESS_CHARS_MAX: Final = 255
"""A relay's URL; an IPv6 address with its port takes 47."""
AGENT_CHARS_MAX: Final = 64
INSTANCE_CHARS_MAX: Final = 64
ROLES_MAX: Final = 8
ROLE_CHARS_MAX: Final = 32
NUMBER_MAX: Final = 1 << 53
"""Beyond it a number is not exact in JSON, where every count of a record ends up."""
CLASSES_MAX: Final = 16
"""Of one offer; nine exist."""

_TRANSPORT: Final = re.compile(r"[a-z][a-z0-9_]{0,15}\Z")
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}\Z")


class Reason(enum.Enum):
    """Why a record was not taken, as a label for counters."""

    MALFORMED = "malformed"
    OVERSIZE = "oversize"
    SIGNATURE = "signature"
    FUTURE = "future"
    EXPIRED = "expired"
    LIFETIME = "lifetime"
    CERTIFICATE = "certificate"
    REVOKED = "revoked"
    BAD_ADDRESS = "bad_address"
    BAD_TEXT = "bad_text"
    TOO_MANY_OFFERS = "too_many_offers"
    STALE = "stale"
    """Judged by the holder: a replay, or a rollback to an earlier sequence."""
    DENIED = "denied"
    """Judged by the holder: whoever it is about is not let in here."""


class RecordRejected(Exception):
    """A record that is not taken and not passed on."""

    def __init__(self, reason: Reason, detail: str = "", *, issued_ahead_s: float = 0.0) -> None:
        super().__init__(f"{reason.value}: {detail}" if detail else reason.value)
        self.reason = reason
        self.detail = detail
        self.issued_ahead_s = issued_ahead_s
        """For FUTURE and EXPIRED: when it was issued by its signer's clock, seen from now.
        The signature held, so it is that signer's clock."""


def check_form(record: Record) -> None:
    """Whether any reader may take `record`, its signature and times aside.

    Raises RecordRejected with MALFORMED, BAD_TEXT, BAD_ADDRESS or TOO_MANY_OFFERS.
    """
    if not is_node_id(record.node):
        raise RecordRejected(Reason.MALFORMED, "names no node")
    _check_numbers(record)
    _check_texts(record)
    _check_addresses(record)
    if len(record.offers) > OFFERS_PER_RECORD_MAX:
        raise RecordRejected(
            Reason.TOO_MANY_OFFERS, f"{len(record.offers)}; at most {OFFERS_PER_RECORD_MAX}"
        )
    for offer in record.offers:
        _check_offer(offer)
    if len({offer.model for offer in record.offers}) != len(record.offers):
        raise RecordRejected(Reason.MALFORMED, "offers one model twice")


def _check_numbers(record: Record) -> None:
    counts = (record.sequence, record.issued_s, record.expires_s, record.lowest, record.highest)
    if not all(0 <= count <= NUMBER_MAX for count in counts):
        raise RecordRejected(Reason.MALFORMED, "has a number out of range")
    if record.lowest > record.highest:
        raise RecordRejected(Reason.MALFORMED, "speaks no protocol version")
    # Written so that NaN, which compares with nothing, fails.
    if not 0 <= record.load <= 1:
        raise RecordRejected(Reason.MALFORMED, "has a load outside of 0..1")


def _check_texts(record: Record) -> None:
    texts = (
        (record.name, NAME_CHARS_MAX),
        (record.region, REGION_CHARS_MAX),
        (record.agent, AGENT_CHARS_MAX),
        (record.instance, INSTANCE_CHARS_MAX),
        *((role, ROLE_CHARS_MAX) for role in record.roles[:ROLES_MAX]),
    )
    if len(record.roles) > ROLES_MAX or not all(is_plain(*text) for text in texts):
        raise RecordRejected(Reason.BAD_TEXT, "has a text that is too long or not plain")


def _check_addresses(record: Record) -> None:
    if len(record.addresses) > TRANSPORTS_MAX:
        raise RecordRejected(Reason.BAD_ADDRESS, f"names more than {TRANSPORTS_MAX} transports")
    for transport, addresses in record.addresses.items():
        if not _TRANSPORT.match(transport):
            raise RecordRejected(Reason.BAD_ADDRESS, "names a transport that is none")
        if len(addresses) > ADDRESSES_MAX:
            raise RecordRejected(
                Reason.BAD_ADDRESS, f"has more than {ADDRESSES_MAX} addresses of one transport"
            )
        if not all(map(is_dialable, addresses)):
            raise RecordRejected(Reason.BAD_ADDRESS, "has an address that nobody can dial")


def is_dialable(text: str) -> bool:
    """Whether `text` is `IP:PORT` of one machine, or a relay's `http(s)://` URL.

    Never a name: whoever dialled it would ask its resolver for what a stranger wrote.
    """
    if len(text) > ADDRESS_CHARS_MAX or not text.isascii() or not text.isprintable():
        return False
    if text.startswith(("https://", "http://")):
        return _is_relay(text)
    try:
        address = Address.parse(text)
        host = ipaddress.ip_address(address.host)
    except ValueError:
        return False
    broadcast = host.version == 4 and int(host) == (1 << 32) - 1
    return address.port > 0 and not (host.is_unspecified or host.is_multicast or broadcast)


def _is_relay(text: str) -> bool:
    # Only iroh dials these, and only where the operator turned relays on.
    try:
        parts = urlsplit(text)
        return bool(parts.hostname) and parts.port != 0 and " " not in text
    except ValueError:
        return False


def _check_offer(offer: Offer) -> None:
    if not is_model_id(offer.model):
        raise RecordRejected(Reason.BAD_TEXT, "offers a model whose name is none")
    if offer.digest and not _DIGEST.match(offer.digest):
        raise RecordRejected(Reason.BAD_TEXT, "has a digest that is none")
    price = offer.price
    counts = (
        *(offer.context_tokens, offer.slots, offer.free),
        *(price.prompt_uncached, price.prompt_cached, price.completion, price.reasoning),
    )
    if not all(0 <= count <= NUMBER_MAX for count in counts):
        raise RecordRejected(Reason.MALFORMED, "offers a number out of range")
    if not (offer.tokens_per_s >= 0 and math.isfinite(offer.tokens_per_s)):
        raise RecordRejected(Reason.MALFORMED, "offers a speed that is none")
    if max(len(offer.classes), len(offer.modalities)) > CLASSES_MAX:
        raise RecordRejected(Reason.MALFORMED, "offers one model for too many classes")
