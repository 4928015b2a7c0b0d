"""One node as a child process: alive inside the block, started again when it dies, gone after it.

The child speaks through its `--json` events on stdout and its log on stderr. A death
before it was ever ready is a failure that its own last words explain; after that it is
an accident, and the child is started again after a growing pause.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

import anyio
from anyio.abc import Process, TaskStatus
from anyio.streams.buffered import BufferedByteReceiveStream

from helexa.cli.log_file import LogFile
from helexa.cli.verb import Failed
from helexa.util import leash
from helexa.util.backoff import Backoff

EVENT_BYTES_MAX: Final = 1 << 20
STEADY_AFTER_S: Final = 30.0
"""A child that served this long was well: its next death is the first of a new row."""
LAST_WORDS_S: Final = 0.5
"""How long a dead child's log may take to arrive."""
BACKOFF: Final = Backoff(first_s=0.2, factor=2.0, most_s=15.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What the operator is told about a death that will be repaired."""

    role: str
    status: int
    served: bool
    again_in_s: float
    last_words: Sequence[str]


class Member:
    def __init__(
        self,
        role: str,
        argv: Callable[[], Sequence[str]],
        log: LogFile,
        *,
        grace_s: float,
        on_ready: Callable[[dict[str, Any]], Coroutine[Any, Any, None]],
        on_ended: Callable[[Ended], None],
    ) -> None:
        self.role = role
        self.ready: dict[str, Any] = {}
        """The child's last ready event."""
        self._argv = argv
        self._log = log
        self._grace_s = grace_s
        self._on_ready = on_ready
        self._on_ended = on_ended
        self._process: Process | None = None
        self._serving = False

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Member]:
        """Yields once the child serves. Raises Failed when it dies before that."""
        async with anyio.create_task_group() as tasks:
            await tasks.start(self._attend, name=self.role)
            yield self
            tasks.cancel_scope.cancel()

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    def ask_to_end(self) -> None:
        """End the present process gracefully; another takes its place."""
        if self._process is not None:
            _signal(self._process, signal.SIGTERM)

    def hang_up(self) -> None:
        """SIGHUP, once the process serves: one that does not listen yet would die of it."""
        if self._process is not None and self._serving:
            _signal(self._process, signal.SIGHUP)

    async def _attend(self, *, task_status: TaskStatus[None]) -> None:
        failures = 0
        first = True
        while True:
            serving = anyio.Event()

            began = time.monotonic()
            status = await self._live(serving, task_status if first else None)
            if first and not serving.is_set():
                raise Failed(_explained(self.role, status, self._log))
            first = False
            steady = serving.is_set() and time.monotonic() - began > STEADY_AFTER_S
            failures = 1 if steady else failures + 1
            pause_s = BACKOFF.delay_s(failures, random.random)
            self._on_ended(
                Ended(
                    role=self.role,
                    status=status,
                    served=serving.is_set(),
                    again_in_s=pause_s,
                    last_words=self._log.tail(),
                )
            )
            await anyio.sleep(pause_s)

    async def _live(self, serving: anyio.Event, first: TaskStatus[None] | None) -> int:
        """One process from its start to its end; returns its status."""
        self._log.new_chapter()
        command = leash.command(self._argv())
        process = await anyio.open_process(
            command, stdin=subprocess.DEVNULL, start_new_session=True
        )
        self._process = process
        try:
            async with anyio.create_task_group() as tasks:

                def on_event(event: dict[str, Any]) -> None:
                    if event.get("event") != "ready":
                        return
                    self.ready = event
                    self._serving = True
                    serving.set()
                    if first is not None:
                        first.started()
                    else:
                        # Beside the reader, not in it: the child's pipe must never fill.
                        tasks.start_soon(self._on_ready, event)

                logged = anyio.Event()
                tasks.start_soon(self._copy_log, process, logged)
                tasks.start_soon(_hear, process, on_event)
                status = await process.wait()
                # Its pipes may be held open by what it left behind; nothing there matters now.
                with anyio.move_on_after(LAST_WORDS_S):
                    await logged.wait()
                tasks.cancel_scope.cancel()
            return status
        finally:
            self._process = None
            self._serving = False
            await self._end(process)

    async def _end(self, process: Process) -> None:
        # Shielded: a cancelled supervisor must not leave a node behind.
        with anyio.CancelScope(shield=True):
            _signal(process, signal.SIGTERM)
            with anyio.move_on_after(self._grace_s):
                await process.wait()
            _signal(process, signal.SIGKILL)
            await process.aclose()

    async def _copy_log(self, process: Process, done: anyio.Event) -> None:
        assert process.stderr is not None
        async for chunk in process.stderr:
            self._log.write(chunk)
        done.set()


async def _hear(process: Process, on_event: Callable[[dict[str, Any]], None]) -> None:
    assert process.stdout is not None
    lines = BufferedByteReceiveStream(process.stdout)
    with suppress(anyio.EndOfStream, anyio.IncompleteRead):
        while True:
            line = await lines.receive_until(b"\n", EVENT_BYTES_MAX)
            with suppress(ValueError):
                event = json.loads(line)
                if isinstance(event, dict):
                    on_event(event)


def _explained(role: str, status: int, log: LogFile) -> str:
    return "\n".join(
        [
            f"the {role} ended with status {status} before it was ready; {log.path} ends with:",
            *(f"  {line}" for line in log.tail()),
        ]
    )


def _signal(process: Process, signum: signal.Signals) -> None:
    if process.returncode is None:
        with suppress(ProcessLookupError):
            process.send_signal(signum)
