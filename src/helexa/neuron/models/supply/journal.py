"""Which pieces of a file are here, as lines appended to a file: one a piece, one a loss.

    helexa pieces 1
    {"key":"sha256:...","size":123,"model":"org/tiny","name":"tiny-Q4_K_M.gguf"}
    0 SHA256 origin
    1 SHA256 NODE_ID
    -0

A line counts once its end is written, so a process that is killed while it writes loses
that line alone. What it says is a claim: it was true when it was written, and the data on
disk is read again before anybody relies on it after a restart.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from helexa.neuron.models.supply.piece import FILE_BYTES_MAX, Layout
from helexa.protocol.ids import ModelId

FIRST: Final = b"helexa pieces 1"
JOURNAL_BYTES_MAX: Final = 64 << 20
_GIVER_CHARS_MAX: Final = 80


class Heading(msgspec.Struct, frozen=True, kw_only=True):
    key: str
    size: int
    model: ModelId
    name: str

    @property
    def layout(self) -> Layout:
        return Layout(key=self.key, size=self.size)


@dataclass(frozen=True, slots=True)
class Entry:
    digest: bytes
    giver: str


@dataclass(slots=True)
class Journal:
    heading: Heading
    entries: dict[int, Entry] = field(default_factory=dict)
    length: int = 0
    """Up to the end of the last whole line."""


def begun(path: Path, heading: Heading) -> Journal:
    """A new one in place of whatever was there."""
    text = b"\n".join((FIRST, msgspec.json.encode(heading), b""))
    path.write_bytes(text)
    return Journal(heading=heading, length=len(text))


def read(path: Path) -> Journal | None:
    """None where it is absent or none of ours."""
    try:
        if path.stat().st_size > JOURNAL_BYTES_MAX:
            return None
        text = path.read_bytes()
    except OSError:
        return None
    lines = _lines(text)
    try:
        first, told = next(lines), next(lines)
        heading = msgspec.json.decode(told, type=Heading)
    except (StopIteration, msgspec.MsgspecError):
        return None
    if first != FIRST or not 0 <= heading.size <= FILE_BYTES_MAX:
        return None
    journal = Journal(heading=heading, length=len(first) + len(told) + 2)
    count = heading.layout.count
    for line in lines:
        if not _apply(journal, line, count):
            break
        journal.length += len(line) + 1
    return journal


def repair(path: Path, journal: Journal) -> None:
    """Cut off what follows the last whole line, or the next line would be glued to it."""
    if path.stat().st_size > journal.length:
        os.truncate(path, journal.length)


def note(path: Path, index: int, entry: Entry) -> None:
    _append(path, b"%d %s %s\n" % (index, entry.digest.hex().encode(), _word(entry.giver)))


def note_loss(path: Path, index: int) -> None:
    _append(path, b"-%d\n" % index)


def _append(path: Path, line: bytes) -> None:
    # One write: lines of several pieces that come at once do not mix.
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    try:
        if os.write(file, line) != len(line):
            raise OSError("the journal of a download could not be written")
    finally:
        os.close(file)


def _word(giver: str) -> bytes:
    safe = "".join(one for one in giver if one.isascii() and one.isalnum())
    return safe[:_GIVER_CHARS_MAX].encode() or b"?"


def _lines(text: bytes) -> Iterator[bytes]:
    at = 0
    while (end := text.find(b"\n", at)) >= 0:
        yield text[at:end]
        at = end + 1


def _apply(journal: Journal, line: bytes, count: int) -> bool:
    try:
        if line.startswith(b"-"):
            journal.entries.pop(int(line[1:]), None)
            return True
        index, digest, giver = line.decode("ascii").split(" ")
        entry = Entry(bytes.fromhex(digest), giver)
    except ValueError:
        return False
    if not 0 <= int(index) < count or len(entry.digest) != 32:
        return False
    journal.entries[int(index)] = entry
    return True
