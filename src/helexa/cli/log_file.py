"""A child's log on disk: bounded, and its last lines at hand to explain an end."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

FILE_BYTES_MAX: Final = 8 * 1024 * 1024
"""Then the file becomes `NAME.1` and a new one begins: two of them at most."""
TAIL_LINES: Final = 12
LINE_BYTES_MAX: Final = 4_096


class LogFile:
    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path = path
        self._file = file
        self._tail: deque[bytes] = deque(maxlen=TAIL_LINES)
        self._part = b""

    def write(self, data: bytes) -> None:
        if self._file.tell() + len(data) > FILE_BYTES_MAX:
            self._file.close()
            self.path.replace(self.path.with_name(f"{self.path.name}.1"))
            self._file = _opened(self.path)
        self._file.write(data)
        self._file.flush()
        *whole, self._part = (self._part + data).split(b"\n")
        self._part = self._part[-LINE_BYTES_MAX:]
        self._tail.extend(line[:LINE_BYTES_MAX] for line in whole if line.strip())

    def new_chapter(self) -> None:
        """Another process writes from here: what the one before it said explains nothing."""
        self._tail.clear()
        self._part = b""

    def tail(self) -> list[str]:
        lines = [*self._tail, self._part] if self._part.strip() else list(self._tail)
        return [line.decode(errors="replace") for line in lines]

    def close(self) -> None:
        self._file.close()


@contextmanager
def log_file(path: Path) -> Iterator[LogFile]:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    log = LogFile(path, _opened(path))
    try:
        yield log
    finally:
        log.close()


def _opened(path: Path) -> BinaryIO:
    file = path.open("ab")
    path.chmod(0o600)
    return file
