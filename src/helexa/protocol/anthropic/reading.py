"""A body read by its type, and what is wrong with it.

Places are named in Anthropic's way: `tools.0.name`.
"""

from __future__ import annotations

import re
from typing import Final, TypeVar

import msgspec

from helexa.protocol.anthropic.errors import ThreadUnsupported
from helexa.protocol.errors import BodyMalformed, RequestRejected

T = TypeVar("T")
WORD_CHARS_MAX: Final = 60

_PLACE: Final = re.compile(r" - at `(?:\$|key in `?\$)\.?([^`]*)`")
_INDEX: Final = re.compile(r"\[(\d+|\.\.\.)\]")
_UNKNOWN: Final = re.compile(r"Object contains unknown field `([^`]*)`")
_MISSING: Final = re.compile(r"Object missing required field `([^`]*)`")
_VALUE: Final = re.compile(r"Invalid (?:enum )?value '(.*)'\Z", re.DOTALL)

_WHY: Final = {
    "document": "no model here reads documents: send their text",
    "search_result": "nothing is cited here: send its text",
    "redacted_thinking": "only Anthropic's own models can read it",
    "container_upload": "there are no containers here",
    "file": "there is no store of files here: send its content",
    "between_tools": "chat completions cannot ask for it",
    "fast": "there is one speed",
}
_WHY_ENDS: Final = (
    ("server_tool_use", "tools are run by clients alone"),
    ("tool_result", "tools are run by clients alone"),
)


def read(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """Raises BodyMalformed or RequestRejected, with the place of what is wrong."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _wrong(str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BodyMalformed(f"The body is not valid JSON: {str(error)[:200]}.") from error
    except RecursionError as error:
        raise BodyMalformed("The body is nested too deeply.") from error


def refused(place: str, why: str) -> RequestRejected:
    return RequestRejected(f"`{place}`: {why}.", place)


def place_of(path: str) -> str:
    """`messages[0].content[1]` as `messages.0.content.1`."""
    return _INDEX.sub(r".\1", path).lstrip(".")


def _wrong(said: str) -> RequestRejected:
    found = _PLACE.search(said)
    reason = said[: found.start()] if found else said
    place = place_of(found[1]) if found else ""
    if missing := _MISSING.match(reason):
        return BodyMalformed(
            f"`{_joined(place, missing[1])}` is missing.", _joined(place, missing[1])
        )
    if unknown := _UNKNOWN.match(reason):
        name = _joined(place, unknown[1][:WORD_CHARS_MAX])
        if name == "thread":
            return ThreadUnsupported("`thread`: conversations are not kept here.", name)
        return refused(name, "this field is not known here")
    if value := _VALUE.match(reason):
        word = value[1][:WORD_CHARS_MAX]
        why = _WHY.get(word) or next((one for end, one in _WHY_ENDS if word.endswith(end)), "")
        if not why and re.fullmatch(r"tools\.\d+\.type", place):
            why = "only tools that the client runs (`custom`) can be offered here"
        return refused(place, f"{word!r} is not taken{'; ' + why if why else ' here'}")
    shown = f"`{place}`: {reason[:200]}" if place else reason[:200]
    return BodyMalformed(f"{shown}.", place or None)


def _joined(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name
