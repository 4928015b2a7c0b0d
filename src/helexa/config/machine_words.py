"""Settings that name parts of a machine; whether it has them is seen at a load."""

# ruff: noqa: ARG002 - one signature for all kinds; only folders need `base`.

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from helexa.neuron import cores

_DEVICE: Final = re.compile(r"\d{1,3}|[A-Za-z0-9][A-Za-z0-9/_.:-]{3,99}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Device:
    words: str = "a device's number, or its UUID as a text"

    def from_text(self, text: str, base: Path) -> str:
        if not _DEVICE.fullmatch(text):
            raise ValueError(f"{text[:80]!r} names no device")
        return text

    def from_toml(self, value: object, base: Path) -> str:
        is_number = isinstance(value, int) and not isinstance(value, bool)
        if not is_number and not isinstance(value, str):
            raise ValueError(f"{str(value)[:80]!r} names no device")
        return self.from_text(str(value), base)

    def to_toml(self, value: str) -> str:
        return value if value.isdigit() else json.dumps(value)


@dataclass(frozen=True, slots=True)
class Cpus:
    words: str = "numbers and ranges of CPUs, such as 0-7,16"

    def from_text(self, text: str, base: Path) -> str:
        cores.parse(text)
        return text

    def from_toml(self, value: object, base: Path) -> str:
        return self.from_text(str(value), base)

    def to_toml(self, value: str) -> str:
        return json.dumps(value)
