"""Tasks that live behind a block and are gone after it.

anyio's task group wraps whatever leaves it into an ExceptionGroup, also the one
exception that the body of the block raised. A `running()` that keeps tasks in a
group would so turn its caller's `KeyError` into a group around a `KeyError`,
once per layer. This gives the group and hands a lone exception on as itself.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from anyio.abc import TaskGroup


@asynccontextmanager
async def background() -> AsyncIterator[TaskGroup]:
    """A task group that is cancelled when the block ends.

    A failing task cancels the block; its exception is raised from here. Only
    when several fail at once does a group leave.
    """
    try:
        async with anyio.create_task_group() as tasks:
            yield tasks
            tasks.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        lone = lone_exception(group)
        if lone is group:
            raise
        raise lone from lone.__cause__


def lone_exception(error: BaseException) -> BaseException:
    """What a group of one is about; anything else is returned as it is."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
