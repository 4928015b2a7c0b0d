"""One child process, gone by the end of the block together with all that it forked.

The child has a session of its own, because a runtime forks workers and all of them
hold the GPU; it is leashed, so that the kernel ends it when the neuron is killed, and
a keeper ends the workers; its environment holds nothing of the neuron's, not even where
its home is; and of what it writes only the end is kept, however much it writes.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread
from anyio.abc import ByteReceiveStream, Process

from helexa.util import kept, leash
from helexa.util.background import background
from helexa.util.keeper import Keeper
from helexa.util.sockets import UNIX_PATH_BYTES_MAX

TAIL_BYTES_MAX: Final = 16 * 1024
_INHERITED: Final = ("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "TMPDIR")
_LAST_WORDS_WITHIN_S: Final = 0.5
_ALL_GONE_WITHIN_S: Final = 2.0
_FILES_OPEN: Final = 65_536
_OOM_RATHER: Final = 500
"""A model that is taken by the kernel can be loaded again; a neuron takes all of them along."""
_LONGEST_IN_TMPDIR: Final = 48
"""Of a socket's name there: engines make them of UUIDs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """Under which children of a neuron live."""

    home: Path | None = None
    """Where they find `HOME`: caches that outlive them lie there, and nothing of the operator's."""
    nice: int = 0
    file_bytes_max: int = 0
    """Of one file that they write; 0 sets no limit."""
    new_privileges: bool = False
    """A program of another user's may get them: a sandbox is one on some systems, and gives
    them up before the engine starts.
    """
    keeper: Keeper | None = None
    memory_factor: float = 0.0
    """Of the memory granted to one; beyond it, and some slack, it is ended. 0 sets no limit."""


_USUAL: Final = Terms()


class Child:
    """A running child. `tail` is the end of what it wrote to stdout and stderr."""

    def __init__(self, process: Process) -> None:
        self.pid = process.pid
        self._process = process
        self._tail = bytearray()
        self._quiet = anyio.Event()

    @property
    def tail(self) -> str:
        return self._tail.decode(errors="replace")

    async def exited(self) -> int:
        """The exit status, negative for a signal, once its last words are in `tail`."""
        status = await self._process.wait()
        # A forked worker may hold the pipe open for as long as it likes.
        with anyio.move_on_after(_LAST_WORDS_WITHIN_S):
            await self._quiet.wait()
        return status

    async def listen(self, output: ByteReceiveStream) -> None:
        with suppress(anyio.EndOfStream, anyio.ClosedResourceError, anyio.BrokenResourceError):
            while True:
                self._tail += await output.receive()
                if len(self._tail) > TAIL_BYTES_MAX:
                    del self._tail[:-TAIL_BYTES_MAX]
        self._quiet.set()


@asynccontextmanager
async def child(
    argv: Sequence[str],
    env: Mapping[str, str],
    *,
    folder: str,
    grace_s: float,
    terms: Terms = _USUAL,
    cpus: Sequence[int] = (),
) -> AsyncIterator[Child]:
    """Raises OSError when it cannot be started at all."""
    mark = terms.keeper.mark() if terms.keeper is not None else secrets.token_hex(8)
    process = await anyio.open_process(
        leash.command(argv, signum=signal.SIGKILL, terms=_asked_of_the_kernel(terms, cpus)),
        env={**inherited(os.environ), **_own(terms, folder), **env, kept.MARK: mark},
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    since = kept.started(process.pid)
    if terms.keeper is not None:
        terms.keeper.keep(process.pid)
    try:
        assert process.stdout is not None
        started = Child(process)
        async with background() as tasks:
            tasks.start_soon(started.listen, process.stdout, name="child output")
            yield started
    finally:
        with anyio.CancelScope(shield=True):
            await _end(process, grace_s, mark, since)
            if terms.keeper is not None:
                terms.keeper.release(process.pid)


def _asked_of_the_kernel(terms: Terms, cpus: Sequence[int]) -> Mapping[str, str]:
    asked = {
        "closed_from": "3",
        "core": "0",
        "files": str(_FILES_OPEN),
        "oom": str(_OOM_RATHER),
        "umask": "077",
    }
    if not terms.new_privileges:
        asked["privileges"] = "none"
    if terms.nice:
        asked["nice"] = str(terms.nice)
    if terms.file_bytes_max:
        asked["file_bytes"] = str(terms.file_bytes_max)
    if cpus:
        asked["cpus"] = ":".join(map(str, cpus))
    return asked


def _own(terms: Terms, folder: str) -> Mapping[str, str]:
    """Folders of its own in place of the neuron's."""
    own = {"HOME": str(terms.home)} if terms.home is not None else {}
    if len(os.fsencode(folder)) + _LONGEST_IN_TMPDIR <= UNIX_PATH_BYTES_MAX:
        own["TMPDIR"] = folder
    return own


def inherited(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: environment[name] for name in _INHERITED if name in environment}


async def _end(process: Process, grace_s: float, mark: str, since: int) -> None:
    """SIGTERM to the group, time to act on it, then SIGKILL to whatever is left of it."""
    if process.returncode is None:
        _signal_group(process.pid, signal.SIGTERM)
        with anyio.move_on_after(grace_s):
            await process.wait()
    # Workers that made a session of their own, too; and one that is dying still holds its memory.
    # Before the group is killed as one: whoever takes away shared memory behind the others is
    # given a moment for it.
    end_all = partial(kept.end_all, {process.pid}, mark, _ALL_GONE_WITHIN_S, since=since)
    await anyio.to_thread.run_sync(end_all)
    _signal_group(process.pid, signal.SIGKILL)
    await process.wait()
    await process.aclose()


def _signal_group(pid: int, signum: int) -> bool:
    """False when nobody is left in the group."""
    try:
        os.killpg(pid, signum)
    except (ProcessLookupError, PermissionError):
        return False
    return True
