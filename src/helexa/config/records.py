"""Kinds of values that are tables with settings of their own, and that a short text may stand for.

A record only describes: the walk that reads one (`entries`) gives each part its own line.
"""

# ruff: noqa: ARG002 - the signature of every kind; only folders need `base`.

from __future__ import annotations

import enum
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

import msgspec

from helexa.config.kinds import Kind

E = TypeVar("E", bound=enum.Enum)

_WEIGHED: Final = re.compile(r"(.+):(\d{1,12}(?:\.\d{1,12})?)\Z", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Member(Generic[E]):
    """One of an enumeration's words."""

    of: type[E]

    @property
    def words(self) -> str:
        return "one of " + ", ".join(str(one.value) for one in self.of)

    def from_text(self, text: str, base: Path) -> E:
        try:
            return self.of(text)
        except ValueError:
            raise ValueError(f"{text[:80]!r} is not a choice") from None

    def from_toml(self, value: object, base: Path) -> E:
        if not isinstance(value, str):
            raise ValueError(f"{json.dumps(value, default=str)[:60]} is not a text in quotes")  # noqa: TRY004 - kinds raise ValueError
        return self.from_text(value, base)

    def to_toml(self, value: E) -> str:
        return json.dumps(value.value)


@dataclass(frozen=True, slots=True)
class Record:
    """`short` turns a text that stands for a table into that table; it raises ValueError."""

    make: type[msgspec.Struct]
    parts: Mapping[str, Kind]
    words: str
    short: Callable[[str], Mapping[str, object]] | None = None

    @property
    def required(self) -> frozenset[str]:
        return frozenset(
            one.name
            for one in msgspec.structs.fields(self.make)
            if one.default is msgspec.NODEFAULT and one.default_factory is msgspec.NODEFAULT
        )

    def from_text(self, text: str, base: Path) -> Any:
        if self.short is None:
            raise ValueError(f"{text[:80]!r} is not a table")
        return self.from_toml(self.short(text), base)

    def from_toml(self, value: object, base: Path) -> Any:
        if isinstance(value, str):
            return self.from_text(value, base)
        if not isinstance(value, Mapping) or not self.required <= value.keys() <= self.parts.keys():
            raise ValueError(f"{json.dumps(value, default=str)[:60]} is not such a table")
        return self.make(
            **{key: self.parts[key].from_toml(one, base) for key, one in value.items()}
        )

    def to_toml(self, value: msgspec.Struct) -> str:
        """What differs from the defaults; parts without a default always."""
        defaults = {one.name: one.default for one in msgspec.structs.fields(self.make)}
        pairs = [
            f"{name} = {kind.to_toml(getattr(value, name))}"
            for name, kind in self.parts.items()
            if getattr(value, name) != defaults[name]
        ]
        return "{ " + ", ".join(pairs) + " }" if pairs else "{}"


def alias(text: str) -> dict[str, object]:
    """`NAME` or `NAME:WEIGHT`. A name may hold colons: only a number after the last is a weight."""
    match = _WEIGHED.match(text)
    return {"name": match[1], "weight": float(match[2])} if match else {"name": text}


def file(text: str) -> dict[str, object]:
    return {"name": text}
