"""On which line of a TOML file each key stands.

`tomllib` keeps no positions, and a refusal without a line number sends an operator
searching. This scanner runs only on text that `tomllib` has accepted, so it may be
lenient: it has to find keys, not to judge values.
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_left
from typing import Final, TypeAlias

KeyPath: TypeAlias = tuple[str | int, ...]
"""Keys from the outermost table inwards, and indices from 0 where an array is passed."""

_BLANK: Final = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*")
_SPACE: Final = re.compile(r"[ \t]*")
_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")
_SCALAR: Final = re.compile(r"[^,\]}#\n]*")
_STRING: Final = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}(?!")'
    r"|'''(?:.)*?'{3,5}(?!')"
    r'|"(?:\\.|[^"\\\n])*"'
    r"|'[^'\n]*'",
    re.DOTALL,
)


def key_lines(text: str) -> dict[KeyPath, int]:
    """Line numbers, from 1, of every table, key and item of an array, by full path.

    Where a path is mentioned several times, the first counts.
    """
    return _Scanner(text).scan()


class _Scanner:
    def __init__(self, text: str) -> None:
        self._text = text
        self._ends = [match.start() for match in re.finditer("\n", text)]
        self._at = 0
        self._found: dict[KeyPath, int] = {}
        self._lengths: dict[KeyPath, int] = {}
        """Of arrays of tables, so far."""

    def scan(self) -> dict[KeyPath, int]:
        table: KeyPath = ()
        self._skip(_BLANK)
        while self._at < len(self._text):
            if self._peek("["):
                table = self._header()
            else:
                self._pair(table)
            self._skip(_BLANK)
        return self._found

    def _header(self) -> KeyPath:
        """`[a.b]` or `[[a.b]]`; a name of an array on the way stands for its last table."""
        is_array = self._peek("[[")
        self._at += 2 if is_array else 1
        path: KeyPath = ()
        keys = self._keys()
        for at, (key, line) in enumerate(keys):
            path = (*path, key)
            self._found.setdefault(path, line)
            is_last = at == len(keys) - 1
            if is_array and is_last:
                self._lengths[path] = self._lengths.get(path, 0) + 1
            if path in self._lengths:
                path = (*path, self._lengths[path] - 1)
                self._found.setdefault(path, line)
        self._skip(re.compile(r"[ \t]*\]+"))
        return path

    def _pair(self, table: KeyPath) -> None:
        path = table
        for key, line in self._keys():
            # Every prefix of a dotted key is a table that stands here, too.
            path = (*path, key)
            self._found.setdefault(path, line)
        self._skip(re.compile(r"[ \t]*=[ \t]*"))
        self._value(path)

    def _keys(self) -> list[tuple[str, int]]:
        """The parts of a dotted key, each with its line."""
        keys = []
        while True:
            self._skip(_SPACE)
            line = self._line()
            keys.append((self._key_part(), line))
            self._skip(_SPACE)
            if not self._peek("."):
                return keys
            self._at += 1

    def _line(self) -> int:
        return bisect_left(self._ends, self._at) + 1

    def _key_part(self) -> str:
        quoted = _STRING.match(self._text, self._at)
        match = quoted or _BARE_KEY.match(self._text, self._at)
        if match is None:
            raise ValueError(f"no key at position {self._at}: not the text that tomllib accepted")
        self._at = match.end()
        # tomllib knows the escapes of a quoted key.
        return str(tomllib.loads(f"k = {match[0]}")["k"]) if quoted else match[0]

    def _value(self, path: KeyPath) -> None:
        if self._peek("["):
            self._enclosed("]", path, keyed=False)
        elif self._peek("{"):
            self._enclosed("}", path, keyed=True)
        else:
            match = _STRING.match(self._text, self._at) or _SCALAR.match(self._text, self._at)
            assert match is not None
            self._at = match.end()

    def _enclosed(self, end: str, path: KeyPath, *, keyed: bool) -> None:
        self._at += 1
        self._skip(_BLANK)
        items = 0
        while not self._peek(end):
            if keyed:
                self._pair(path)
            else:
                self._found.setdefault((*path, items), self._line())
                self._value((*path, items))
                items += 1
            self._skip(_BLANK)
            if self._peek(","):
                self._at += 1
                self._skip(_BLANK)
        self._at += 1

    def _peek(self, start: str) -> bool:
        return self._text.startswith(start, self._at)

    def _skip(self, pattern: re.Pattern[str]) -> None:
        match = pattern.match(self._text, self._at)
        if match is not None:
            self._at = match.end()
