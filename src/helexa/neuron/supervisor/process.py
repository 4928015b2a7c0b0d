"""One child process, gone by the end of the block together with all that it forked.

The child has a session of its own, because a runtime forks workers and the group
is what holds the GPU; it is leashed, so that the kernel ends it when the neuron
is killed; its environment holds nothing of the neuron's; and of what it writes
only the end is kept, however much it writes.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final

import anyio
from anyio.abc import ByteReceiveStream, Process

from helexa.util import leash
from helexa.util.background import background

TAIL_BYTES_MAX: Final = 16 * 1024
_INHERITED: Final = ("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "TMPDIR")
_LAST_WORDS_WITHIN_S: Final = 0.5
_GROUP_GONE_WITHIN_S: Final = 2.0
_POLL_S: Final = 0.01


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
    argv: Sequence[str], env: Mapping[str, str], *, folder: str, grace_s: float
) -> AsyncIterator[Child]:
    """Raises OSError when it cannot be started at all."""
    process = await anyio.open_process(
        leash.command(argv, signum=signal.SIGKILL),
        env={**inherited(os.environ), **env},
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        started = Child(process)
        async with background() as tasks:
            tasks.start_soon(started.listen, process.stdout, name="child output")
            yield started
    finally:
        with anyio.CancelScope(shield=True):
            await _end(process, grace_s)


def inherited(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: environment[name] for name in _INHERITED if name in environment}


async def _end(process: Process, grace_s: float) -> None:
    """SIGTERM to the group, time to act on it, then SIGKILL to whatever is left of the group."""
    if process.returncode is None:
        _signal_group(process.pid, signal.SIGTERM)
        with anyio.move_on_after(grace_s):
            await process.wait()
    _signal_group(process.pid, signal.SIGKILL)
    await process.wait()
    # A killed worker that init has not reaped yet still holds its memory.
    with anyio.move_on_after(_GROUP_GONE_WITHIN_S):
        while _signal_group(process.pid, 0):  # noqa: ASYNC110 - the kernel has no event for it
            await anyio.sleep(_POLL_S)
    await process.aclose()


def _signal_group(pid: int, signum: int) -> bool:
    """False when nobody is left in the group."""
    try:
        os.killpg(pid, signum)
    except (ProcessLookupError, PermissionError):
        return False
    return True
