"""What the single settings of a catalogue's entry may look like, whichever door they come by.

A reader returns what it was given, or raises ValueError saying what is wrong with it.
"""

from __future__ import annotations

import re
from typing import Final

from helexa.protocol.sources import parse_source

TEXT_CHARS_MAX: Final = 1_000
"""Of a description, an argument, a label."""
NAME_CHARS_MAX: Final = 200
ID_DIGITS_MIN: Final = 8
"""Of an operator's or a node's id, where its head stands for it."""

_WORD: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
_RUNTIME: Final = re.compile(r"[a-z][a-z0-9_]{0,63}\Z")
_ARGUMENT: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}=")
_HEAD: Final = re.compile(rf"[0-9a-f]{{{ID_DIGITS_MIN},64}}\Z")
# As in [federation]: a comma would end it in a variable, a second ! would mean nothing.
_PATTERN: Final = re.compile(r"!?[^\s,!\x00-\x1f\x7f]{1,200}\Z")


def description(text: str) -> str:
    return _bounded(text, "a description")


def source(text: str) -> str:
    if text:
        parse_source(text)
    return text


def quantisation(text: str) -> str:
    return _matching(_WORD, text, "a quantisation") if text else text


def runtime(text: str) -> str:
    return _matching(_RUNTIME, text, "a runtime's name") if text else text


def argument(text: str) -> str:
    _matching(_ARGUMENT, text, "NAME=VALUE")
    return _bounded(text, "an argument")


def region(text: str) -> str:
    return _matching(_PATTERN, text, "a pattern")


def operator(text: str) -> str:
    return _matching(_HEAD, text.lower(), "the id of an operator")


def node(text: str) -> str:
    if not text.strip() or len(text) > NAME_CHARS_MAX or not text.isprintable():
        raise ValueError(f"{text[:80]!r} names no neuron")
    return text


def label(name: str, value: str) -> None:
    if not name:
        raise ValueError("a label without a name")
    _bounded(name, "a label")
    _bounded(value, "a label")


def _matching(pattern: re.Pattern[str], text: str, what: str) -> str:
    if not pattern.match(text):
        raise ValueError(f"{text[:80]!r} is not {what}")
    return text


def _bounded(text: str, what: str) -> str:
    if len(text) > TEXT_CHARS_MAX:
        raise ValueError(f"{what} of {len(text)} characters; at most {TEXT_CHARS_MAX}")
    # What operators read in a terminal must not be able to rewrite it.
    if not text.isprintable():
        raise ValueError(f"{text[:80]!r} has characters that cannot be printed")
    return text
