"""Sees to it that nothing of a process's children is left when that process is killed.

The leash holds the first process of a child. What that forked is nobody's once both are
gone, and workers of an engine hold memory of a device. So a keeper, one small program for
a node, reads from a pipe which children there are. The pipe ends when the node does,
however it does; the keeper then kills what is left of them and ends as well.

What belongs to a child is known by its session, and by a mark in its environment where it
left that. Both survive the death of those in between.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from helexa.util import kept

MARK: Final = kept.MARK
_ENDS_WITHIN_S: Final = kept.LEFT_WITHIN_S + 5.0


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
            (sys.executable, "-I", "-S", kept.__file__, mark),
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
            program.wait(_ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            program.kill()
            program.wait()
