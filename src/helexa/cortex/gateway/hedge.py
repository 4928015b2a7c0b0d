"""Two targets asked for one request, the second only when the first lets wait.

Until the first byte they race; who comes first answers, and the other one is dropped. A task for
each is the price, so this is for requests that are hedged alone.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

import anyio
from anyio.abc import TaskGroup

from helexa.cortex.gateway.trial import Elsewhere, Trial
from helexa.protocol.errors import HelexaError
from helexa.protocol.routing import Target
from helexa.util.background import background

OUTPACED: Final = "outpaced"
"""The outcome of the one that was not waited for any longer; it says nothing about it."""


async def first_to_answer(
    enter: Callable[[Target], Trial],
    targets: deque[Target],
    *,
    after_s: float,
    every_s: float,
    keepalive: Callable[[], Awaitable[None]] | None,
    failures: list[tuple[Target, HelexaError]],
) -> Trial | None:
    """The trial that opened first, which the caller has to exit; None where none did.

    `enter` gives a trial that was entered, or raises Elsewhere. Those of `targets` that were
    entered are taken away from it. What became of those that failed is added to `failures`.
    Raises HelexaError for what no other target would answer otherwise.
    """
    racing: list[Trial] = []
    told: asyncio.Queue[tuple[Trial, Exception | None]] = asyncio.Queue()
    is_decided = False

    async def run(trial: Trial) -> None:
        try:
            await trial.open(_silently)
        except Exception as error:  # noqa: BLE001 - handed to who waits for it
            told.put_nowait((trial, error))
        else:
            told.put_nowait((trial, None))

    def start(tasks: TaskGroup) -> None:
        while targets:
            target = targets.popleft()
            try:
                trial = enter(target)
            except Elsewhere as elsewhere:
                failures.append((target, elsewhere.error))
                continue
            racing.append(trial)
            tasks.start_soon(run, trial)
            return

    try:
        async with background() as tasks:
            start(tasks)
            is_alone = True
            while racing:
                heard = None
                with anyio.move_on_after(after_s if is_alone else every_s):
                    heard = await told.get()
                if heard is not None:
                    trial, error = heard
                    racing.remove(trial)
                    if is_decided := _opened(trial, error, failures):
                        return trial
                elif is_alone:
                    start(tasks)
                elif keepalive is not None:
                    await keepalive()
                is_alone = False
        return None
    finally:
        for trial in racing:
            if is_decided:
                trial.outcome = OUTPACED
            trial.__exit__(None, None, None)


def _opened(
    trial: Trial, error: Exception | None, failures: list[tuple[Target, HelexaError]]
) -> bool:
    """Whether it answers. Raises what concerns all targets."""
    if error is None:
        return True
    trial.__exit__(type(error), error, error.__traceback__)
    if not isinstance(error, Elsewhere):
        raise error
    failures.append((trial.target, error.error))
    return False


async def _silently() -> None:
    """Who watches the race tells the client that it waits."""
