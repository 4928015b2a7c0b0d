"""`x-helexa-policy`: a request's own wishes about where it goes, read and written.

    x-helexa-policy: only=ben,local; region=eu-*; max-price=400; order=cheapest

Strict: a wish that was misread would send a prompt where its owner forbade it. The body's forms
(`wish_bodies`) are read into the same wishes, by the same forms of words.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final

import msgspec

from helexa.cortex.orchestrator.federation.terms import ORDERS
from helexa.protocol import quantisation
from helexa.protocol.errors import RequestRejected
from helexa.protocol.ids import NodeId, is_model_id
from helexa.protocol.routing import Wish

HEADER: Final = "x-helexa-policy"
CHARS_MAX: Final = 2_048
NAMES_MAX: Final = 64
MODELS_MAX: Final = 16
LOCAL: Final = "local"
WISH_ORDERS: Final = (*ORDERS, "quickest")
NUMBER_MAX: Final = 999_999
_NAME: Final = re.compile(r"[A-Za-z0-9._:@+ -]{1,128}\Z")
_REGION: Final = re.compile(r"!?[A-Za-z0-9._:*?-]{1,64}\Z")
_PRICE: Final = re.compile(r"[0-9]{1,18}\Z")
_NUMBER: Final = re.compile(r"[0-9]{1,6}(\.[0-9]{1,6})?\Z")


class Unreadable(Exception):
    """Says what a value should have been, to go on from the name of its place."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the header: how its value is read, and written in the canonical form."""

    name: str
    field: str
    read: Callable[[str], object]
    """Raises Unreadable. The texts of lists are read whole, parted by commas."""
    write: Callable[[Any], str]
    is_flag: bool = False
    """Its name alone says that the field is False."""


def parse(text: bytes) -> Wish:
    """Raises RequestRejected naming the part that cannot be read."""
    if len(text) > CHARS_MAX or not text.isascii():
        raise _rejected(f"is at most {CHARS_MAX} ASCII characters")
    found: dict[str, object] = {}
    for piece in text.decode("ascii").split(";"):
        name, equals, value = piece.strip().partition("=")
        name, value = name.strip(), value.strip()
        part = PARTS.get(name)
        if part is None:
            names = ", ".join(PARTS)
            raise _rejected(f"has a part {name[:40]!r}; there are {names}, parted by `;`")
        if part.field in found:
            raise _rejected(f"has {name} twice")
        found[part.field] = _value(part, value, given=bool(equals))
    return Wish(**found)  # type: ignore[arg-type]


def canonical(wish: Wish) -> str:
    """The one form of all wishes that mean the same: `parse` reads it back."""
    said = []
    for part in PARTS.values():
        value = getattr(wish, part.field)
        if value != getattr(_ANY, part.field):
            said.append(part.name if part.is_flag else f"{part.name}={part.write(value)}")
    return "; ".join(said)


def policy_id(wish: Wish | None, terms: str) -> str:
    """A short mark of what a request asked of its way, under the operator's rules `terms`."""
    said = canonical(wish) if wish is not None else ""
    return "pol_" + blake2b(f"{terms}\n{said}".encode(), digest_size=8).hexdigest()


def both(first: Wish, second: Wish, names_of: Mapping[str, str]) -> Wish:
    """What two sources asked, as if it were one. Raises RequestRejected for what both say apart.

    `names_of` the fields are the second source's, for the refusal.
    """
    changes: dict[str, Any] = {}
    for part in PARTS.values():
        value, nothing = getattr(second, part.field), getattr(_ANY, part.field)
        if value == nothing:
            continue
        if getattr(first, part.field) not in (nothing, value):
            where = names_of[part.field]
            raise RequestRejected(
                f"`{where}` says otherwise than another part of the request: {HEADER} and the "
                "body hold both.",
                where,
            )
        changes[part.field] = value
    return msgspec.structs.replace(first, **changes)


def onward(wish: Wish, own: NodeId) -> bytes:
    """What the next cortex has to know of it; empty when that is nothing.

    Prices, order and models are between this cortex and the next one, which is chosen already.
    `local` there would be somebody else, so this cortex is named by its id.
    """
    changes: dict[str, Any] = {
        name: tuple(own if word == LOCAL else word for word in words)
        for name in ("only", "without", "prefer")
        if (words := getattr(wish, name))
    }
    if wish.fallbacks:
        changes["prefer"] = ()
    travels = msgspec.structs.replace(
        wish,
        **changes,
        federation=True,
        models=(),
        price_max=None,
        prompt_price_max=None,
        completion_price_max=None,
        order="",
    )
    return canonical(travels).encode("ascii")


def names(text: str) -> tuple[str, ...]:
    return _each(text.split(","), NAMES_MAX, lambda word: bool(_NAME.match(word)))


def regions(text: str) -> tuple[str, ...]:
    return _each(text.split(","), NAMES_MAX, lambda word: bool(_REGION.match(word)))


def models(text: str) -> tuple[str, ...]:
    return _each(text.split(","), MODELS_MAX, is_model_id)


def quantisations(text: str) -> tuple[str, ...]:
    return _each(text.split(","), NAMES_MAX, _is_quantisation)


def quantisation_min(text: str) -> str:
    if not quantisation.is_known(text):
        raise Unreadable("wants a quantisation whose fineness is known, such as Q4_K_M or fp8,")
    return text


def nano(text: str) -> int:
    if not _PRICE.match(text):
        raise Unreadable("wants a whole number of nano-credits")
    return int(text)


def number(text: str) -> float:
    if not _NUMBER.match(text) or float(text) == 0:
        raise Unreadable(f"wants a number above 0 and below {NUMBER_MAX + 1}, of six decimals,")
    return float(text)


def order(text: str) -> str:
    if text not in WISH_ORDERS:
        raise Unreadable(f"wants one of {', '.join(WISH_ORDERS)}")
    return text


def _is_quantisation(word: str) -> bool:
    return quantisation.is_known(word) or word.lower() in quantisation.KINDS


def _each(words: Sequence[str], most: int, fits: Callable[[str], bool]) -> tuple[str, ...]:
    stripped = tuple(word.strip() for word in words)
    if len(stripped) > most:
        raise Unreadable(f"has more than {most} names")
    for word in stripped:
        if not fits(word):
            raise Unreadable(f"cannot read {word[:40]!r}")
    return stripped


def _value(part: Part, value: str, *, given: bool) -> object:
    if part.is_flag:
        if given:
            raise _rejected(f"takes no value with {part.name}")
        return False
    try:
        return part.read(value if given else "")
    except Unreadable as error:
        raise _rejected(f"{error} after {part.name}=") from None


def _listed(words: Sequence[str]) -> str:
    return ",".join(words)


def _any_order(words: Sequence[str]) -> str:
    return ",".join(sorted(set(words)))


def _decimal(value: float) -> str:
    return f"{value:.6f}".rstrip("0").rstrip(".")


def _flag(_text: str) -> bool:
    return False


_ANY: Final = Wish()
PARTS: Final[Mapping[str, Part]] = {
    part.name: part
    for part in (
        Part("only", "only", names, _any_order),
        Part("not", "without", names, _any_order),
        Part("prefer", "prefer", names, _listed),
        Part("no-fallbacks", "fallbacks", _flag, str, is_flag=True),
        Part("region", "regions", regions, _any_order),
        Part("no-federation", "federation", _flag, str, is_flag=True),
        Part("models", "models", models, _listed),
        Part("quantisation", "quantisations", quantisations, _any_order),
        Part("min-quantisation", "quantisation_min", quantisation_min, str),
        Part("max-price", "price_max", nano, str),
        Part("max-prompt-price", "prompt_price_max", nano, str),
        Part("max-completion-price", "completion_price_max", nano, str),
        Part("max-first-token", "first_token_max_s", number, _decimal),
        Part("min-speed", "speed_min", number, _decimal),
        Part("prefer-first-token", "first_token_wanted_s", number, _decimal),
        Part("prefer-speed", "speed_wanted", number, _decimal),
        Part("order", "order", order, str),
        Part("no-resume", "resume", _flag, str, is_flag=True),
    )
}


def _rejected(what: str) -> RequestRejected:
    return RequestRejected(f"The header {HEADER} {what}.", HEADER)
