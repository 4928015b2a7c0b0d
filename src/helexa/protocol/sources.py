"""Where a model's weights come from, as one word: what `source` may say.

    hf:OWNER/REPO[@REVISION]   a repository of a model hub
    https://HOST/PATH          a file; http:// on loopback alone
    file:/PATH                 a file or folder on the neuron
    peer:                      neurons that hold it; every file then has its digest

A cortex checks the word when an operator writes it and a neuron when it is told to pull.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from helexa.protocol.messages import SourceFile

SOURCE_CHARS_MAX: Final = 2_048
FILE_NAME_CHARS_MAX: Final = 512
FORMS: Final = "hf:OWNER/REPO, hf:OWNER/REPO@REVISION, https://..., file:/PATH or peer:"

_REPO: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}\Z")
_REVISION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/+-]{0,199}\Z")
_SHA256: Final = re.compile(r"[0-9a-f]{64}\Z")


@dataclass(frozen=True, slots=True)
class Place:
    """`kind` is hf, https, http, file or peer. `where`: OWNER/REPO, the URL, the path, nothing."""

    kind: str
    where: str
    revision: str = ""


def parse_source(text: str) -> Place:
    """Raises ValueError that says what is wrong with the word."""
    if len(text) > SOURCE_CHARS_MAX:
        raise ValueError(f"a source of {len(text)} characters; at most {SOURCE_CHARS_MAX}")
    kind, separator, rest = text.partition(":")
    if not separator or kind not in _READERS:
        raise ValueError(f"{text[:80]!r} is not a source; write {FORMS}")
    if not text.isprintable():
        raise ValueError(f"{text[:80]!r} has characters that cannot be printed")
    return _READERS[kind](text, rest)


def _hub(text: str, rest: str) -> Place:
    repository, at, revision = rest.partition("@")
    parts = repository.split("/")
    if len(parts) != 2 or not all(map(_is_repository_part, parts)):
        raise ValueError(f"{text[:80]!r} names no repository; write hf:OWNER/REPO")
    if at and (not _REVISION.match(revision) or ".." in revision):
        raise ValueError(f"{revision[:80]!r} is not a revision: a branch, a tag or a commit")
    return Place("hf", repository, revision)


def _is_repository_part(text: str) -> bool:
    return _REPO.match(text) is not None and ".." not in text


def _web(text: str, _rest: str) -> Place:
    try:
        url = urlsplit(text)
        host, _port = url.hostname or "", url.port
    except ValueError:
        raise ValueError(f"{text[:80]!r} is not a URL") from None
    if not host or " " in text or not text.startswith(f"{url.scheme}://"):
        raise ValueError(f"{text[:80]!r} is not a URL")
    if url.username is not None or url.fragment:
        # A source is shown to whoever may list models; what is after # never leaves a client.
        raise ValueError("a source's URL has neither a name with password before its host nor #")
    if url.scheme == "http" and not _is_loopback(host):
        raise ValueError(f"{text[:80]!r}: http:// is for loopback alone; write https://")
    return Place(url.scheme, text)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _file(text: str, rest: str) -> Place:
    if not rest.startswith("/") or not rest.strip("/") or ".." in rest.split("/"):
        raise ValueError(f"{text[:80]!r} names no absolute path; write file:/PATH")
    return Place("file", rest)


def _peer(text: str, rest: str) -> Place:
    if rest:
        raise ValueError(f"{text[:80]!r}: nothing follows peer: - its files name the weights")
    return Place("peer", "")


_READERS: Final = {"hf": _hub, "https": _web, "http": _web, "file": _file, "peer": _peer}


def check_sha256(text: str) -> str:
    """The digest itself. Raises ValueError."""
    if not _SHA256.match(text):
        raise ValueError(f"{text[:80]!r} is not a digest")
    return text


def check_file_name(text: str) -> str:
    """A relative path that stays where it is put. Raises ValueError."""
    parts = text.split("/")
    climbs = any(part in ("", ".", "..") for part in parts)
    if climbs or len(text) > FILE_NAME_CHARS_MAX or not text.isprintable() or "\\" in text:
        raise ValueError(f"{text[:80]!r} cannot name a file of a source")
    return text


def why_incomplete(place: Place, files: Sequence[SourceFile]) -> str:
    """What the files of this source lack, as a sentence's rest; empty where nothing is missing."""
    if place.kind != "peer":
        return ""
    if not files:
        return "peer: needs files, each with its sha256"
    bare = next((one.name for one in files if not one.sha256), None)
    return "" if bare is None else f"peer: needs the sha256 of every file; {bare} has none"
