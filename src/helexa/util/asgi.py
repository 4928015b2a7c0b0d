"""What an ASGI app on our own server needs: the types, the body within limits, and to be cancelled
when its client leaves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from types import TracebackType
from typing import Any, Self, TypeAlias

from helexa.util.budget import Budget
from helexa.util.http_cycle import EXTENSION, Cycle

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]


class BodyTooBig(Exception):
    def __init__(self, bytes_max: int) -> None:
        super().__init__(f"a body of more than {bytes_max} bytes")
        self.bytes_max = bytes_max


class BodyTooSlow(Exception):
    """The body did not arrive within the time allowed."""


class ClientGone(Exception):
    """Nobody is left to answer."""


def header(scope: Scope, name: bytes) -> bytes | None:
    """The first value of a request header, named in lower case."""
    for each, value in scope["headers"]:
        if each == name:
            return value  # type: ignore[no-any-return]
    return None


def cycle_of(scope: Scope) -> Cycle:
    """Our server's own side of the request, for what ASGI has no words for."""
    cycle: Cycle = scope["extensions"][EXTENSION]
    return cycle


async def read_body(
    scope: Scope,
    receive: Receive,
    *,
    bytes_max: int,
    timeout_s: float,
    budget: Budget | None = None,
) -> bytes:
    """The request's body, which is taken from `budget`: to be given back by the caller.

    Raises BodyTooBig and OverBudget (before reading, where the client declared it), BodyTooSlow
    or ClientGone.
    """
    cycle = cycle_of(scope)
    if cycle.body_complete:
        # Nearly always: it came with the headers, and there is nothing to wait for.
        body = cycle.take_body()
        if len(body) > bytes_max:
            raise BodyTooBig(bytes_max)
        if budget is not None:
            budget.take(len(body))
        return body
    declared = header(scope, b"content-length")
    # The parser has refused a length that is not a number.
    if declared is not None and int(declared) > bytes_max:
        raise BodyTooBig(bytes_max)
    budget = budget or Budget(bytes_max)
    if declared is not None:
        budget.check(int(declared))
    parts: list[bytes] = []
    try:
        async with asyncio.timeout(timeout_s):
            await _collect(receive, bytes_max, parts, budget)
    except BaseException as error:
        budget.give(sum(map(len, parts)))
        if isinstance(error, TimeoutError):
            raise BodyTooSlow from None
        raise
    return parts[0] if len(parts) == 1 else b"".join(parts)


async def _collect(receive: Receive, bytes_max: int, parts: list[bytes], budget: Budget) -> None:
    """All that comes, each part taken from the budget when it is added."""
    room = bytes_max
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        part: bytes = message["body"]
        room -= len(part)
        if room < 0:
            raise BodyTooBig(bytes_max)
        budget.take(len(part))
        parts.append(part)
        if not message["more_body"]:
            return


class UntilDisconnect:
    """Cancel the block when the client leaves before its answer is complete.

        with UntilDisconnect(scope) as client:
            ...
        if client.gone:
            ...

    For the request's own task. The cancellation ends with the block; one from
    elsewhere passes through. A watching task would do the same for ten times the price.
    """

    __slots__ = ("_cycle", "gone")

    def __init__(self, scope: Scope) -> None:
        self.gone = False
        self._cycle = cycle_of(scope)

    def __enter__(self) -> Self:
        self._cycle.on_disconnect = self._leave
        if self._cycle.disconnected:
            self._leave()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> bool:
        self._cycle.on_disconnect = None
        if not self.gone:
            return False
        return self._cycle.task.uncancel() == 0 and kind is asyncio.CancelledError

    def _leave(self) -> None:
        if not self.gone:
            self.gone = True
            self._cycle.task.cancel()
