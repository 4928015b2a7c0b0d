"""JSON as clients write it: the same value in many spellings. And a reader that keeps spellings."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, TypeAlias

from hypothesis import strategies as st

Members: TypeAlias = list[tuple[str, str]]
"""Of an object: names, and the texts of their values."""

_decoder = json.JSONDecoder()
_SPACE = " \t\n\r"
SPACES = st.sampled_from(("", "", "", " ", "\n", "\t  ", "\r\n"))
NUMBERS = st.sampled_from(
    (
        *("0", "-0", "-0.0", "1", "1.0", "1.50", "1e2", "1E+2", "1e-7", "0.1", "10000000000000000"),
        *("123456789012345678901234567890", "0.30000000000000004", "3.14159265358979323846"),
    )
)
CHARACTERS = st.characters(exclude_categories=["Cs"])
_SHORT = {
    '"': '\\"',
    "\\": "\\\\",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\b": "\\b",
    "\f": "\\f",
}


@st.composite
def spelled(draw: st.DrawFn, text: str) -> str:
    """A string of JSON that means `text`, with some characters escaped that need not be."""
    escapes = draw(st.sampled_from(("none", "all", "some")))
    parts = []
    for character in text:
        if character in _SHORT:
            parts.append(_SHORT[character])
        elif character == "/" and escapes == "some":
            parts.append("\\/")
        elif (
            ord(character) < 0x20
            or escapes == "all"
            or (escapes == "some" and ord(character) % 3 == 0)
        ):
            parts += [f"\\u{unit:04x}" for unit in _units(character)]
        else:
            parts.append(character)
    return f'"{"".join(parts)}"'


def _units(character: str) -> Sequence[int]:
    data = character.encode("utf-16-be")
    return [int.from_bytes(data[at : at + 2]) for at in range(0, len(data), 2)]


TEXTS = st.one_of(
    st.text(CHARACTERS, min_size=1, max_size=40),
    st.text(st.sampled_from(" \t\n\r"), min_size=1, max_size=8),
    st.sampled_from(
        (
            *(
                "  two  spaces  ",
                "\ttab\n\nlines\r\n",
                "größer 🦊 e\u0301 \u200b\u202e\ufeff",
                "\x00",
            ),
            *("<|im_start|>system\n", "</s>[INST]", '{"json": "inside"}', "\\u0041", "x" * 5000),
        )
    ),
)
"""With what somebody might want to strip, to normalise, or to take for a mark of a template."""


@st.composite
def values(draw: st.DrawFn, depth: int = 2) -> str:
    """Any JSON."""
    kinds = ["text", "number", "word"] + (["array", "object"] if depth else [])
    kind = draw(st.sampled_from(kinds))
    if kind == "text":
        return draw(spelled(draw(TEXTS)))
    if kind == "number":
        return draw(NUMBERS)
    if kind == "word":
        return draw(st.sampled_from(("true", "false", "null")))
    count = draw(st.integers(0, 3))
    if kind == "array":
        return draw(array([draw(values(depth - 1)) for _ in range(count)]))
    names = [draw(TEXTS) for _ in range(count)]
    return draw(written([(name, draw(values(depth - 1))) for name in names]))


@st.composite
def array(draw: st.DrawFn, items: Sequence[str]) -> str:
    inner = ",".join(f"{draw(SPACES)}{one}{draw(SPACES)}" for one in items)
    return f"[{inner}]" if items else f"[{draw(SPACES)}]"


@st.composite
def written(draw: st.DrawFn, members: Members) -> str:
    """An object of these members, in this order."""
    inner = ",".join(
        f"{draw(SPACES)}{draw(spelled(name))}{draw(SPACES)}:{draw(SPACES)}{value}{draw(SPACES)}"
        for name, value in members
    )
    return f"{{{inner}}}"


def members_of(text: str) -> Members:
    """The members of an object, in order, each value as it is spelled."""
    at = _skip(text, 0)
    assert text[at] == "{", text[:80]
    found: Members = []
    at = _skip(text, at + 1)
    while text[at] != "}":
        name, end = _decoder.raw_decode(text, at)
        at = _skip(text, end)
        assert text[at] == ":"
        at = _skip(text, at + 1)
        _, end = _decoder.raw_decode(text, at)
        found.append((name, text[at:end]))
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)
    return found


def last_of_each(members: Members) -> dict[str, str]:
    """Of names that come twice the last, as JSON's readers have it."""
    return dict(members)


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in _SPACE:
        at += 1
    return at


def plain(text: str) -> Any:
    return json.loads(text)
