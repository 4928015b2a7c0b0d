"""Two targets asked for one request, the second only when the first lets wait.

Until the first byte they race; who comes first answers, and the other one is dropped. A task for
each is the price, so this is for requests that are hedged alone.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

from helexa.cortex.gateway.trial import Elsewhere, Trial
from helexa.protocol.errors import HelexaError
from helexa.protocol.routing import Target

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
    racing: dict[asyncio.Task[None], Trial] = {}
    is_decided = False

    def start() -> None:
        while targets:
            target = targets.popleft()
            try:
                trial = enter(target)
            except Elsewhere as elsewhere:
                failures.append((target, elsewhere.error))
                continue
            racing[asyncio.create_task(trial.open(_silently))] = trial
            return

    try:
        start()
        is_alone = True
        while racing:
            done, _ = await asyncio.wait(
                racing,
                timeout=after_s if is_alone else every_s,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if not done and is_alone:
                start()
            elif not done and keepalive is not None:
                await keepalive()
            is_alone = False
            for task in done:
                trial = racing.pop(task)
                if is_decided := _opened(task, trial, failures):
                    return trial
        return None
    finally:
        for task in racing:
            task.cancel()
        await asyncio.gather(*racing, return_exceptions=True)
        for trial in racing.values():
            if is_decided:
                trial.outcome = OUTPACED
            trial.__exit__(None, None, None)


def _opened(
    task: asyncio.Task[None], trial: Trial, failures: list[tuple[Target, HelexaError]]
) -> bool:
    """Whether it answers. Raises what concerns all targets."""
    error = task.exception()
    if error is None:
        return True
    trial.__exit__(type(error), error, error.__traceback__)
    if not isinstance(error, Elsewhere):
        raise error
    failures.append((trial.target, error.error))
    return False


async def _silently() -> None:
    """Who watches the race tells the client that it waits."""
