"""Sees to it that nothing of a process's children is left when that process is killed.

The leash holds the first process of a child. What that forked is nobody's once both are
gone, and workers of an engine hold memory of a device. So a keeper, one small program for
a node, reads from a pipe which children there are. The pipe ends when the node does,
however it does; the keeper then kills what is left of them and ends as well.

What belongs to a child is known by its session, and by a mark in its environment where it
left that. Both survive the death of those in between.

Only the standard library, because it runs with `-I -S`.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final

MARK: Final = "KEPT_BY"
"""The variable that all of a child's processes inherit."""
_LOOK_EVERY_S: Final = 0.01
_QUIET_LOOKS: Final = 2
"""Looks on end that found nobody: who forked and died during the first left a child to find."""
_PROC: Final = "/proc"
_PATIENCE_S: Final = 10.0


class Keeper:
    """The node's end of the pipe."""

    def __init__(self, pipe: int, mark: str) -> None:
        self._pipe = pipe
        self._mark = mark
        self._count = 0

    def mark(self) -> str:
        """Of one more child."""
        self._count += 1
        return f"{self._mark}.{self._count}."

    def keep(self, pid: int) -> None:
        """A child that leads a session of its own."""
        self._say(f"+{pid}\n")

    def release(self, pid: int) -> None:
        self._say(f"-{pid}\n")

    def _say(self, word: str) -> None:
        # A keeper that somebody killed is missed by no child that ends in an orderly way.
        with suppress(BlockingIOError, BrokenPipeError):
            os.write(self._pipe, word.encode())


@contextmanager
def keeping() -> Iterator[Keeper]:
    """A keeper for as long as the block lasts, and for what is left after it."""
    mark = secrets.token_hex(8)
    reads, writes = os.pipe()
    try:
        os.set_blocking(writes, False)
        program = subprocess.Popen(
            (sys.executable, "-I", "-S", __file__, mark),
            stdin=reads,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            # What a terminal or a service manager sends to all of the node is not for it.
            start_new_session=True,
        )
    except OSError:
        os.close(writes)
        raise
    finally:
        os.close(reads)
    try:
        yield Keeper(writes, mark)
    finally:
        os.close(writes)
        try:
            program.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            program.kill()
            program.wait()


def end_all(sessions: Collection[int], mark: str, within_s: float) -> None:
    """Kill what belongs to these until nobody does. Blocks."""
    until_s = time.monotonic() + within_s
    quiet = 0
    while quiet < _QUIET_LOOKS and time.monotonic() < until_s:
        found = belonging(sessions, mark)
        for pid in found:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        quiet = 0 if found else quiet + 1
        if found:
            time.sleep(_LOOK_EVERY_S)


def belonging(sessions: Collection[int], mark: str, proc: str = _PROC) -> Sequence[int]:
    """The living of these sessions, or with this mark; never this process."""
    word = f"{MARK}={mark}".encode()
    try:
        numbers = [int(name) for name in os.listdir(proc) if name.isdecimal()]  # noqa: PTH208
    except OSError:
        return ()
    return [
        pid
        for pid in numbers
        if pid != os.getpid() and _is_alive_of(f"{proc}/{pid}", sessions, word)
    ]


def _is_alive_of(folder: str, sessions: Collection[int], word: bytes) -> bool:
    try:
        with open(f"{folder}/stat", "rb") as file:  # noqa: PTH123 - pathlib is slow to import
            # A process may be called `) R 1 1`, so its fields begin after the last bracket.
            fields = file.read().rpartition(b")")[2].split()
        if fields[0] in (b"Z", b"X"):
            return False
        if int(fields[3]) in sessions:
            return True
        with open(f"{folder}/environ", "rb") as file:  # noqa: PTH123
            return word in file.read()
    except (OSError, IndexError, ValueError):
        return False  # It is gone, or somebody else's.


def _keep(mark: str) -> None:
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)
    sessions: set[int] = set()
    for line in sys.stdin:
        number = int(line[1:])
        if line[0] == "+":
            sessions.add(number)
        else:
            sessions.discard(number)
    end_all(sessions, f"{mark}.", _PATIENCE_S)


if __name__ == "__main__":
    _keep(sys.argv[1])
