"""`x-helexa-policy`: a request's own wishes about where it goes, read and written.

    x-helexa-policy: only=ben,local; region=eu-*; max-price=400; order=cheapest

Strict: a wish that was misread would send a prompt where its owner forbade it.
"""

from __future__ import annotations

import re
from typing import Final

from helexa.cortex.orchestrator.federation.terms import ORDERS
from helexa.protocol.errors import RequestRejected
from helexa.protocol.ids import NodeId
from helexa.protocol.routing import Wish

HEADER: Final = "x-helexa-policy"
CHARS_MAX: Final = 2_048
NAMES_MAX: Final = 64
LOCAL: Final = "local"
_NAME: Final = re.compile(r"[A-Za-z0-9._:@+ -]{1,128}\Z")
_REGION: Final = re.compile(r"!?[A-Za-z0-9._:*?-]{1,64}\Z")
_PRICE: Final = re.compile(r"[0-9]{1,18}\Z")


def parse(text: bytes) -> Wish:
    """Raises RequestRejected naming the part that cannot be read."""
    if len(text) > CHARS_MAX or not text.isascii():
        raise _rejected(f"is at most {CHARS_MAX} ASCII characters")
    found: dict[str, object] = {}
    for part in text.decode("ascii").split(";"):
        name, equals, value = part.strip().partition("=")
        name, value = name.strip(), value.strip()
        field, read = _read(name, value if equals else None)
        if field in found:
            raise _rejected(f"has {name} twice")
        found[field] = read
    return Wish(**found)  # type: ignore[arg-type]


def onward(wish: Wish, own: NodeId) -> bytes:
    """What the next cortex has to know of it; empty when that is nothing.

    Prices and order are between this cortex and the next one, which is chosen already.
    `local` there would be somebody else, so this cortex is named by its id.
    """
    parts = []
    for name, words in (("only", wish.only), ("not", wish.without)):
        if words:
            named = ",".join(own if word == LOCAL else word for word in words)
            parts.append(f"{name}={named}")
    if wish.regions:
        parts.append(f"region={','.join(wish.regions)}")
    return "; ".join(parts).encode("ascii")


def _read(name: str, value: str | None) -> tuple[str, object]:
    match name:
        case "only":
            return "only", _words(name, value, _NAME)
        case "not":
            return "without", _words(name, value, _NAME)
        case "region":
            return "regions", _words(name, value, _REGION)
        case "max-price":
            if value is None or not _PRICE.match(value):
                raise _rejected("wants a whole number of nano-credits after max-price=")
            return "price_max", int(value)
        case "order":
            if value not in ORDERS:
                raise _rejected(f"wants one of {', '.join(ORDERS)} after order=")
            return "order", value
        case "no-federation":
            if value is not None:
                raise _rejected("takes no value with no-federation")
            return "federation", False
        case _:
            raise _rejected(
                f"has a part {name[:40]!r}; there are only, not, region, max-price, order "
                "and no-federation, parted by `;`"
            )


def _words(name: str, value: str | None, form: re.Pattern[str]) -> tuple[str, ...]:
    words = tuple(word.strip() for word in (value or "").split(","))
    if len(words) > NAMES_MAX:
        raise _rejected(f"has more than {NAMES_MAX} names after {name}=")
    for word in words:
        if not form.match(word):
            raise _rejected(f"cannot read {word[:40]!r} after {name}=")
    return words


def _rejected(what: str) -> RequestRejected:
    return RequestRejected(f"The header {HEADER} {what}.", HEADER)
