"""The kinds of values a setting can have: how each is read, described and written.

A kind reads the text of a flag or variable and the value of a TOML file into the same
type, and says in words what it accepts; refusals, `--help`, the example file and the
reference all use those words. Readers raise ValueError and never repair.
"""

# ruff: noqa: ARG002 - one signature for all kinds; only folders need `base`.

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from helexa.protocol.ids import is_model_id
from helexa.util.sockets import Address
from helexa.util.units import format_bytes, parse_bytes


class Kind(Protocol):
    @property
    def words(self) -> str:
        """What is accepted, to follow "accepted: "."""
        ...

    def from_text(self, text: str, base: Path) -> Any:
        """The value of a flag or variable. Relative paths start at `base`."""
        ...

    def from_toml(self, value: object, base: Path) -> Any:
        """A value as `tomllib` gives it."""
        ...

    def to_toml(self, value: Any) -> str: ...


@dataclass(frozen=True, slots=True)
class Text:
    words: str = "a text"

    def from_text(self, text: str, base: Path) -> str:
        return text

    def from_toml(self, value: object, base: Path) -> str:
        return self.from_text(_string(value), base)

    def to_toml(self, value: str) -> str:
        return json.dumps(value, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Choice:
    options: Sequence[str]

    @property
    def words(self) -> str:
        return "one of " + ", ".join(self.options)

    def from_text(self, text: str, base: Path) -> str:
        if text not in self.options:
            raise ValueError(f"{text!r} is not a choice")
        return text

    def from_toml(self, value: object, base: Path) -> str:
        return self.from_text(_string(value), base)

    def to_toml(self, value: str) -> str:
        return json.dumps(value)


@dataclass(frozen=True, slots=True)
class Switch:
    words: str = "true or false"

    def from_text(self, text: str, base: Path) -> bool:
        match text.lower():
            case "true" | "yes" | "on" | "1":
                return True
            case "false" | "no" | "off" | "0":
                return False
            case _:
                raise ValueError(f"{text!r} is neither true nor false")

    def from_toml(self, value: object, base: Path) -> bool:
        if not isinstance(value, bool):
            raise _refused(value, "neither true nor false")
        return value

    def to_toml(self, value: bool) -> str:
        return "true" if value else "false"


@dataclass(frozen=True, slots=True)
class Number:
    """Integers or decimals within bounds; `above` is an exclusive lower bound."""

    whole: bool
    least: float | None = None
    above: float | None = None
    most: float | None = None
    unit: str = ""

    @property
    def words(self) -> str:
        noun = "a whole number" if self.whole else "a number"
        if self.unit:
            noun += f" of {self.unit}"
        low = f" from {_digits(self.least)}" if self.least is not None else ""
        if self.above is not None:
            low = f" above {_digits(self.above)}"
        elif low and self.most is None:
            return f"{noun}, {_digits(self.least)} or more"
        high = f" to {_digits(self.most)}" if self.most is not None else ""
        if high and not self.least and self.above is not None:
            high = f" up to {_digits(self.most)}"
        return noun + low + high

    def from_text(self, text: str, base: Path) -> float:
        try:
            value = int(text) if self.whole else float(text)
        except ValueError:
            noun = "a whole number" if self.whole else "a number"
            raise ValueError(f"{text!r} is not {noun}") from None
        return self._bounded(value)

    def from_toml(self, value: object, base: Path) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _refused(value, "not a number")
        if self.whole and not isinstance(value, int):
            raise _refused(value, "not a whole number")
        return self._bounded(value if self.whole else float(value))

    def to_toml(self, value: float) -> str:
        return str(value)

    def _bounded(self, value: float) -> float:
        low = self.least is None or value >= self.least
        low = low and (self.above is None or value > self.above)
        # Written this way round, not-a-number is outside every range.
        if not (low and (self.most is None or value <= self.most)) or value in (_INF, -_INF):
            raise ValueError(f"{_digits(value)} is out of range")
        return value


@dataclass(frozen=True, slots=True)
class Size:
    """Bytes, written as `512MiB` or as a number."""

    least: int = 0
    most: int | None = None

    @property
    def words(self) -> str:
        low = f" from {format_bytes(self.least)}" if self.least else ""
        high = f" to {format_bytes(self.most)}" if self.most is not None else ""
        return f"a size such as 512MiB or 2GB{low}{high}"

    def from_text(self, text: str, base: Path) -> int:
        count = parse_bytes(text)
        if count < self.least or (self.most is not None and count > self.most):
            raise ValueError(f"{text} is out of range")
        return count

    def from_toml(self, value: object, base: Path) -> int:
        if isinstance(value, int) and not isinstance(value, bool):
            return self.from_text(str(value), base)
        if isinstance(value, str):
            return self.from_text(value, base)
        raise _refused(value, "not a size")

    def to_toml(self, value: int) -> str:
        for power, unit in ((4, "TiB"), (3, "GiB"), (2, "MiB"), (1, "KiB")):
            if value and value % 1024**power == 0:
                return f'"{value // 1024**power}{unit}"'
        return str(value)


@dataclass(frozen=True, slots=True)
class ModelName:
    words: str = "a model's name, such as helexa-demo or team/model-7b"

    def from_text(self, text: str, base: Path) -> str:
        if not is_model_id(text):
            raise ValueError(f"{text[:80]!r} cannot name a model")
        return text

    def from_toml(self, value: object, base: Path) -> str:
        return self.from_text(_string(value), base)

    def to_toml(self, value: str) -> str:
        return json.dumps(value)


@dataclass(frozen=True, slots=True)
class Url:
    words: str = "a URL that starts with https:// or http://"

    def from_text(self, text: str, base: Path) -> str:
        scheme, _, rest = text.partition("://")
        if scheme not in ("http", "https") or not rest or not text.isprintable() or " " in text:
            raise ValueError(f"{text[:80]!r} is not a URL")
        return text

    def from_toml(self, value: object, base: Path) -> str:
        return self.from_text(_string(value), base)

    def to_toml(self, value: str) -> str:
        return json.dumps(value)


@dataclass(frozen=True, slots=True)
class Socket:
    words: str = "HOST:PORT or [IPV6]:PORT; port 0 takes a free one"

    def from_text(self, text: str, base: Path) -> Address:
        address = Address.parse(text)
        if address.path:
            raise ValueError(f"{text!r} is a file; this socket is reached by host and port")
        return address

    def from_toml(self, value: object, base: Path) -> Address:
        return self.from_text(_string(value), base)

    def to_toml(self, value: Address) -> str:
        return json.dumps(str(value))


@dataclass(frozen=True, slots=True)
class Folder:
    words: str = "a folder; a relative one starts at the file that names it"

    def from_text(self, text: str, base: Path) -> Path:
        if not text or "\0" in text:
            raise ValueError(f"{text!r} names no folder")
        try:
            path = Path(text).expanduser()
        except RuntimeError as error:
            raise ValueError(f"{text!r} names no folder: {error}") from None
        return base / path

    def from_toml(self, value: object, base: Path) -> Path:
        return self.from_text(_string(value), base)

    def to_toml(self, value: Path) -> str:
        return json.dumps(str(value), ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Ticket:
    """One word that names a node's key and addresses; kept as text, checked here."""

    words: str = "a ticket, the word that a cortex prints when it is ready"

    def from_text(self, text: str, base: Path) -> str:
        from helexa.mesh import ticket  # Brings keys; most commands read no ticket.

        try:
            ticket.Ticket.parse(text)
        except ticket.TicketMalformed as error:
            raise ValueError(f"not a ticket: {error}") from None
        return text

    def from_toml(self, value: object, base: Path) -> str:
        return self.from_text(_string(value), base)

    def to_toml(self, value: str) -> str:
        return json.dumps(value)


@dataclass(frozen=True, slots=True)
class ListOf:
    """Several values: a TOML array, a repeated flag, or a variable with commas."""

    item: Kind

    @property
    def words(self) -> str:
        return f"a list, each {self.item.words}"

    def from_text(self, text: str, base: Path) -> tuple[Any, ...]:
        parts = (part.strip() for part in text.split(","))
        return tuple(self.item.from_text(part, base) for part in parts if part)

    def from_toml(self, value: object, base: Path) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise _refused(value, "not a list")
        return tuple(self.item.from_toml(part, base) for part in value)

    def to_toml(self, value: Sequence[Any]) -> str:
        return "[" + ", ".join(self.item.to_toml(part) for part in value) + "]"


@dataclass(frozen=True, slots=True)
class Labels:
    words: str = "a table of texts; as text KEY=VALUE, separated by commas"

    def from_text(self, text: str, base: Path) -> dict[str, str]:
        labels = {}
        for part in filter(None, (part.strip() for part in text.split(","))):
            key, separator, value = part.partition("=")
            if not separator or not key:
                raise ValueError(f"{part!r} is not KEY=VALUE")
            labels[key] = value
        return labels

    def from_toml(self, value: object, base: Path) -> dict[str, str]:
        if not isinstance(value, Mapping):
            raise _refused(value, "not a table")
        return {key: _string(one) for key, one in value.items()}

    def to_toml(self, value: Mapping[str, str]) -> str:
        # TOML has no surrogate pairs, which is how ASCII would write what is beyond 16 bits.
        pairs = (
            " = ".join(json.dumps(one, ensure_ascii=False) for one in pair)
            for pair in value.items()
        )
        return "{ " + ", ".join(pairs) + " }" if value else "{}"


_INF = float("inf")


def _refused(value: object, claim: str) -> ValueError:
    return ValueError(f"{_shown(value)} is {claim}")


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise _refused(value, "not a text in quotes")
    return value


def _shown(value: object) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _digits(value: float | None) -> str:
    return "" if value is None else f"{value:.16g}"
