"""How long a node lives: until it is told to stop.

The first SIGTERM or SIGINT ends the block gracefully; the second ends the process at
once, because somebody who asks twice has stopped waiting. A signal during start-up
cancels the start. SIGHUP ends too, unless the node has a use for it: then only when its
terminal was closed, which is what the signal was made for.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from functools import partial
from typing import Any, Final, TypeVar

import anyio

from helexa.util import collector

STOPPING: Final = (signal.SIGTERM, signal.SIGINT)

T = TypeVar("T")


class Told:
    """What the signals said so far."""

    def __init__(self) -> None:
        self.stop = anyio.Event()
        self.signal: signal.Signals | None = None
        self.on_hangup: Callable[[], None] | None = None
        self._terminal = _has_terminal()

    def hear(self, signum: signal.Signals) -> None:
        if self.signal is not None:
            # Nothing is flushed or closed: leashed children end by the kernel's hand.
            sys.stderr.flush()
            os._exit(128 + signum)
        self.signal = signum
        self.stop.set()

    def hang_up(self) -> None:
        if self._terminal and not _has_terminal():
            self.hear(signal.SIGHUP)
        elif self.on_hangup is not None:
            self.on_hangup()


def _has_terminal() -> bool:
    """Whether there is one at standard input; one that was closed is none any more."""
    return os.isatty(0)


@contextmanager
def listening(*, hangup: bool = False) -> Iterator[Told]:
    """SIGTERM and SIGINT, and with `hangup` SIGHUP, are heard inside the block, and are what
    they were after it.
    """
    told = Told()
    heard: dict[signal.Signals, Callable[[], None]]
    heard = {signum: partial(told.hear, signum) for signum in STOPPING}
    if hangup:
        heard[signal.SIGHUP] = told.hang_up
    loop = asyncio.get_running_loop()
    for signum, hear in heard.items():
        loop.add_signal_handler(signum, hear)
    try:
        yield told
    finally:
        for signum in heard:
            loop.remove_signal_handler(signum)


async def until_told(
    node: AbstractAsyncContextManager[T],
    on_ready: Callable[[T], None],
    on_hangup: Callable[[T], None] | None = None,
) -> signal.Signals:
    """Run `node` until a signal; returns which, once the node has ended gracefully.

    `on_ready` is called once, when the node serves; `on_hangup` at each SIGHUP from then on.
    Whatever the node raises is raised.
    """
    with listening(hangup=on_hangup is not None) as told:
        return await run_until(told, node, on_ready, on_hangup)


async def run_until(
    told: Told,
    node: AbstractAsyncContextManager[T],
    on_ready: Callable[[T], None],
    on_hangup: Callable[[T], None] | None = None,
) -> signal.Signals:
    """`until_told` for a caller who listens already."""
    serving = False

    async def give_up_starting(scope: anyio.CancelScope) -> None:
        await told.stop.wait()
        # Once it serves, the node ends by leaving its block: a cancelled one could not say goodbye.
        if not serving:
            scope.cancel()

    async with anyio.create_task_group() as tasks:
        with anyio.CancelScope() as scope:
            tasks.start_soon(give_up_starting, scope, name="signals")
            async with node as live:
                serving = True
                collector.calm()
                if on_hangup is not None:
                    told.on_hangup = partial(on_hangup, live)
                on_ready(live)
                await told.stop.wait()
        tasks.cancel_scope.cancel()
    assert told.signal is not None
    return told.signal


def run(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine function on the loop that production uses."""
    import uvloop  # Only nodes need it; commands that merely ask start faster without.

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main())
