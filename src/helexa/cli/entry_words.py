"""A catalogue's entry as words on a command line: `source=hf:a/b replicas_min=1 labels=gpu=yes`.

Lists are separated by commas, aliases are written as in `[[models]]`. What has more shape (prices,
files with more than a name) is JSON. What the values mean is judged by the cortex; here is only
what kind of thing each of them is.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from helexa.cli.verb import Misused
from helexa.config.records import alias

TEXTS: Final = ("description", "source", "quantisation", "runtime")
LISTS: Final = ("arguments", "regions", "operators", "nodes", "fallbacks", "classes")
NUMBERS: Final = (
    "context_tokens", "slots", "memory_bytes", "replicas_min", "replicas_max", "priority",
    "idle_timeout_s", "queue_max", "max_wait_s",
)  # fmt: skip
SWITCHES: Final = {"deterministic", "keep_warm", "pin"}
JSONS: Final = ("files", "price")
PAIRS: Final = ("labels",)
NAMES: Final = (*TEXTS, *LISTS, *NUMBERS, *sorted(SWITCHES), *JSONS, *PAIRS, "aliases")


def changed(entry: Mapping[str, Any], assignments: Iterable[str]) -> dict[str, Any]:
    """The entry with these changes. `NAME=` takes a setting back to its default.

    Raises Misused.
    """
    found = dict(entry)
    for text in assignments:
        name, separator, value = text.partition("=")
        if not separator:
            raise Misused(f"{text!r} is not NAME=VALUE")
        if name not in NAMES:
            raise Misused(f"an entry has no {name!r}; it has {', '.join(sorted(NAMES))}")
        if value:
            found[name] = _value(name, value)
        else:
            found.pop(name, None)
    return found


def _value(name: str, text: str) -> Any:
    if name in TEXTS:
        return text
    if name in LISTS:
        return _parts(text)
    if name in PAIRS:
        return dict(_pair(name, one) for one in _parts(text))
    if name == "files" and text[:1] != "[":
        return [{"name": one} for one in _parts(text)]
    if name == "aliases":
        return [alias(one) for one in _parts(text)]
    if name in SWITCHES:
        if text not in ("true", "false"):
            raise Misused(f"{name} is true or false, not {text!r}")
        return text == "true"
    try:
        return json.loads(text)
    except ValueError as error:
        kind = "a number" if name in NUMBERS else "JSON"
        raise Misused(f"{name}: {text!r} is not {kind}") from error


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _pair(name: str, text: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not separator:
        raise Misused(f"{name}: {text!r} is not NAME=VALUE")
    return key, value
