"""Kinds of values that are one word with a form: ids, domain names, patterns of names."""

# ruff: noqa: ARG002 - the signature of every kind; only folders need `base`.

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from helexa.cortex.orchestrator import entry_forms
from helexa.protocol import sources
from helexa.protocol.ids import is_node_id

PATTERN_CHARS_MAX: Final = 200
DNS_NAME_CHARS_MAX: Final = 253
_LABEL: Final = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)\Z")
# A comma would end the pattern in a variable or flag, a second ! would mean nothing.
_PATTERN: Final = re.compile(r"[^\s,!\x00-\x1f\x7f]+\Z")


@dataclass(frozen=True, slots=True)
class Word:
    """A text that `read` accepts; it raises ValueError for any other."""

    words: str
    read: Callable[[str], str]

    def from_text(self, text: str, base: Path) -> str:
        return self.read(text)

    def from_toml(self, value: object, base: Path) -> str:
        if not isinstance(value, str):
            raise ValueError(f"{json.dumps(value, default=str)[:60]} is not a text in quotes")  # noqa: TRY004 - kinds raise ValueError
        return self.read(value)

    def to_toml(self, value: str) -> str:
        return json.dumps(value, ensure_ascii=False)


def pattern(noun: str, example: str, known: Sequence[str] = ()) -> Word:
    """Of names: `*` and `?` as in file names, `!` in front excludes.

    Where `known` lists all names there are, a pattern that matches none of them is a
    mistake that would silently let everything or nothing through.
    """

    def read(text: str) -> str:
        core = text.removeprefix("!")
        if len(core) > PATTERN_CHARS_MAX or not _PATTERN.match(core):
            raise ValueError(f"{text[:80]!r} is not a pattern")
        if known and not any(fnmatchcase(one, core) for one in known):
            raise ValueError(f"{text[:80]!r} matches nothing")
        return text

    named = f" ({', '.join(known)})" if known else ""
    return Word(f"{noun}{named} or a pattern such as {example} or !{example}", read)


def _key_id(text: str) -> str:
    word = text.lower()
    if not is_node_id(word):
        raise ValueError(f"{text[:80]!r} is not an id")
    return word


def _host_name(text: str) -> str:
    name = text.removesuffix(".")
    if len(name) > DNS_NAME_CHARS_MAX or not all(map(_LABEL.match, name.split("."))):
        raise ValueError(f"{text[:80]!r} is not a domain name")
    return name


def _host_pattern(text: str) -> str:
    name = text.removeprefix("*.")
    return text[: len(text) - len(name)] + _host_name(name)


def _network(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text))
    except ValueError as error:
        raise ValueError(f"{text[:80]!r} is not a network: {error}") from None


def _realm(text: str) -> str:
    # Brings keys and tickets; most commands set no realm.
    from helexa.mesh.discovery.advert import service_of

    service_of(text)
    return text


_SERVER_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,30}[a-z0-9])?")


def _server(text: str) -> str:
    if not _SERVER_NAME.fullmatch(text):
        raise ValueError(f"{text[:80]!r} cannot name a server")
    return text


# Desktop and editor apps have origins of schemes of their own.
_ORIGIN: Final = re.compile(r"[a-z][a-z0-9+.-]*://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]{1,5})?\Z")


def _origin(text: str) -> str:
    if text != "*" and not _ORIGIN.match(text):
        raise ValueError(f"{text[:80]!r} is not an origin as browsers write it")
    return text


KEY_ID: Final = Word("the id of an operator or a node, 64 hexadecimal digits", _key_id)
ORIGIN: Final = Word(
    "a scheme, a host in small letters and perhaps a port, such as https://app.example.org, or *",
    _origin,
)
HOST_NAME: Final = Word("a domain name, such as mesh.example.org", _host_name)
HOST_PATTERN: Final = Word("a host such as pictures.example.org or *.example.org", _host_pattern)
NETWORK: Final = Word("a network such as 10.4.0.0/24 or fd12::/48", _network)
REALM: Final = Word("1 to 15 small letters, digits and inner hyphens", _realm)
SERVER: Final = Word("1 to 32 small letters, digits and inner _ or -", _server)

DESCRIPTION: Final = Word("a text of one line", entry_forms.description)
SOURCE: Final = Word(f"{sources.FORMS}, or empty", entry_forms.source)
QUANTISATION: Final = Word("a word such as Q4_K_M", entry_forms.quantisation)
RUNTIME: Final = Word("small letters, digits and _, such as llama_cpp", entry_forms.runtime)
ARGUMENT: Final = Word("NAME=VALUE", entry_forms.argument)
OPERATOR: Final = Word("the id of an operator or its first 8 or more digits", entry_forms.operator)
NEURON: Final = Word(
    "a neuron's name, its id, or the first 8 or more digits of that", entry_forms.node
)
FILE_NAME: Final = Word("a file's path within the source", sources.check_file_name)
SHA256: Final = Word("64 small hexadecimal digits", sources.check_sha256)
