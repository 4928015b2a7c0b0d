"""A command line with words in braces, filled in argument by argument.

No shell reads it, so nothing in a model's name or path can become a second command. Only
a lower-case word in braces is a place to fill: JSON among the arguments stays as it is,
and `{{word}}` is `{word}`, literally.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from helexa.runtime.contract import Grant, ReplicaSpec

WORDS: Final = (
    "weights",
    "model",
    "port",
    "socket",
    "secret",
    "context_tokens",
    "slots",
    "devices",
)
_PLACE: Final = re.compile(r"\{\{([a-z_]+)\}\}|\{([a-z_]+)\}")


def named(texts: Sequence[str]) -> frozenset[str]:
    """The words in braces, known or not."""
    return frozenset(found[2] for text in texts for found in _PLACE.finditer(text) if found[2])


def wrong_with(command: Sequence[str], environment: Sequence[str] = ()) -> str:
    """Why no server could be started by it, or "". `environment` are the values of variables."""
    words = named((*command, *environment))
    if unknown := sorted(words - set(WORDS)):
        known = ", ".join(f"{{{word}}}" for word in WORDS)
        return f"{{{unknown[0]}}} is not known; what can be filled in is {known}"
    if not {"port", "socket"} & words:
        return "it says neither {port} nor {socket}, so nothing could be asked of its server"
    if {"port", "socket"} <= words:
        return "it says {port} and {socket}; one of them is where its server listens"
    return ""


def values(spec: ReplicaSpec, grant: Grant) -> Mapping[str, str]:
    files = spec.files
    return {
        "weights": str(files.weights),
        "model": files.called or files.model,
        "port": str(grant.port),
        "socket": str(grant.socket),
        "secret": grant.secret,
        "context_tokens": str(spec.context_tokens),
        "slots": str(spec.slots),
        "devices": ",".join(map(str, grant.devices)),
    }


def filled(text: str, given: Mapping[str, str]) -> str:
    """Each place once: what is filled in is not looked at again."""

    def fill(found: re.Match[str]) -> str:
        return f"{{{found[1]}}}" if found[1] else given[found[2]]

    return _PLACE.sub(fill, text)
