"""The flags of `helexa keys` that say what a key may ask for, and how limits are shown."""

from __future__ import annotations

import calendar
import math
import re
import time
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from helexa.cli.verb import Misused

RANGES: Final[Mapping[str, str]] = {
    "requests_per_s": "a number from 0 to 1000000",
    "requests_burst": "a whole number from 0 to 1000000",
    "tokens_per_minute": "a whole number from 0 to 1000000000",
    "concurrent": "a whole number from 0 to 1000000",
    "models": "1 to 256 names of up to 256 characters, separated by commas",
    "prompt_tokens_max": "a whole number from 0 to 16777216",
    "output_tokens_max": "a whole number from 0 to 16777216",
    "priority": "interactive or bulk",
    "weight": "a number from 0.001 to 1000",
}
FLAGS: Final[Mapping[str, tuple[str, str, str]]] = {
    "requests_per_s": ("--requests-per-s", "N", "requests a second; 0: no limit"),
    "requests_burst": ("--burst", "N", "requests at once after a pause"),
    "tokens_per_minute": ("--tokens-per-minute", "N", "of prompts and answers; 0: no limit"),
    "concurrent": ("--concurrent", "N", "requests under way at once; 0: no limit"),
    "models": ("--models", "NAMES", "models it may use, by commas, with * and ?; * for all"),
    "prompt_tokens_max": ("--prompt-tokens-max", "N", "of one request; 0: no limit"),
    "output_tokens_max": ("--output-tokens-max", "N", "of one answer; 0: no limit"),
    "priority": ("--priority", "RANK", "interactive, or bulk: never before others that wait"),
    "weight": ("--weight", "N", "its part of a busy model, beside others of 1"),
}
_WHOLE: Final = frozenset(
    (
        "requests_burst",
        "tokens_per_minute",
        "concurrent",
        "prompt_tokens_max",
        "output_tokens_max",
    )
)
_SPAN: Final = re.compile(r"(\d{1,6})([smhdw])")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


def add(parser: ArgumentParser) -> None:
    group = parser.add_argument_group(
        "what it may ask for (create, set; the word `default` leaves one to account or [limits])",
    )
    for name, (flag, metavar, words) in FLAGS.items():
        group.add_argument(flag, dest=name, metavar=metavar, help=words)
    group.add_argument(
        "--expires",
        metavar="WHEN",
        type=_expiry,
        help="30d, 12h, ... from now, or a date as 2030-01-31 (UTC); never",
    )


def said(args: Namespace) -> tuple[dict[str, Any], list[str]]:
    """What the flags set, as JSON can hold it, and what they leave to others again.

    Raises Misused.
    """
    limits: dict[str, Any] = {}
    unset = []
    for name in FLAGS:
        text = getattr(args, name)
        if text is None:
            continue
        if text == "default":
            unset.append(name)
        else:
            limits[name] = _value(name, text)
    return limits, unset


def shown(limits: Mapping[str, Any]) -> str:
    """One line for a table."""
    parts = []
    for name in FLAGS:
        value = limits.get(name)
        if value is not None:
            parts.append(f"{name}={_text(value)}")
    return " ".join(parts)


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ",".join(value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def checked(limits: dict[str, Any]) -> Any:
    """The same as the store takes it. Raises Misused naming flag and range."""
    from helexa.cortex.accounts.limits import Limits

    try:
        return msgspec.convert(limits, Limits)
    except msgspec.ValidationError as error:
        for name, value in limits.items():
            try:
                msgspec.convert({name: value}, Limits)
            except msgspec.ValidationError:
                raise _misused(name, _text(value)) from None
        raise Misused(str(error)) from None


def _misused(name: str, text: str) -> Misused:
    return Misused(f"{FLAGS[name][0]} takes {RANGES[name]}, not {text[:80]!r}")


def _value(name: str, text: str) -> Any:
    if name == "models":
        names = [one.strip() for one in text.split(",")]
        if not all(names):
            raise _misused(name, text)
        return names
    if name == "priority":
        return text
    try:
        number = int(text) if name in _WHOLE else float(text)
    except ValueError:
        raise _misused(name, text) from None
    if not math.isfinite(number):
        raise _misused(name, text)
    return number


def _expiry(text: str) -> int:
    """Seconds since 1970; 0 for never."""
    if text == "never":
        return 0
    if (span := _SPAN.fullmatch(text)) and int(span[1]):
        return int(time.time()) + int(span[1]) * _SECONDS[span[2]]
    try:
        day = calendar.timegm(time.strptime(text, "%Y-%m-%d"))
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is no time, such as 30d or 2030-01-31") from None
    return day
