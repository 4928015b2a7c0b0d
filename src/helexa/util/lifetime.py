"""How long a node lives: until it is told to stop.

The first SIGTERM or SIGINT ends the block gracefully; the second ends the process at
once, because somebody who asks twice has stopped waiting. A signal during start-up
cancels the start.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
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

    def hear(self, signum: signal.Signals) -> None:
        if self.signal is not None:
            # Nothing is flushed or closed: leashed children end by the kernel's hand.
            sys.stderr.flush()
            os._exit(128 + signum)
        self.signal = signum
        self.stop.set()


@contextmanager
def listening() -> Iterator[Told]:
    """SIGTERM and SIGINT are heard inside the block, and are what they were after it."""
    told = Told()
    loop = asyncio.get_running_loop()
    for signum in STOPPING:
        loop.add_signal_handler(signum, told.hear, signum)
    try:
        yield told
    finally:
        for signum in STOPPING:
            loop.remove_signal_handler(signum)


async def until_told(
    node: AbstractAsyncContextManager[T], on_ready: Callable[[T], None]
) -> signal.Signals:
    """Run `node` until a signal; returns which, once the node has ended gracefully.

    `on_ready` is called once, when the node serves. Whatever the node raises is raised.
    """
    with listening() as told:
        return await run_until(told, node, on_ready)


async def run_until(
    told: Told, node: AbstractAsyncContextManager[T], on_ready: Callable[[T], None]
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
