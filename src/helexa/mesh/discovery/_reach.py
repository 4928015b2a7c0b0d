"""Reaching a node at all the addresses of its ticket at once.

A ticket names addresses of several networks, of which most are dead ends from
wherever the reader is. One by one they would cost a timeout each.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Final, Protocol, TypeVar

import anyio
from anyio.abc import TaskGroup

from helexa.mesh.discovery import advice
from helexa.mesh.discovery.join_report import Outcome, Step, step_of
from helexa.mesh.statements.plain_text import plain
from helexa.mesh.transport import DialFailed, Link, LinkClosed
from helexa.protocol.ids import NodeId

GRACE_S: Final = 0.5
"""For the other addresses once one answered: long enough to see which of them are good, too."""

T = TypeVar("T")


class Dial(Protocol):
    """How one address is tried: `Transport.dial` of the transport of that name."""

    async def __call__(
        self, transport: str, node: NodeId, address: str, *, timeout_s: float
    ) -> Link:
        """A link to that node at that one address. Raises DialFailed, LinkClosed."""
        ...


class Race:
    """One ticket's addresses. `reached` says whether somebody there proved to be the node."""

    def __init__(self, node: NodeId, dial: Dial, limit_s: float) -> None:
        self.reached = False
        self._node = node
        self._dial = dial
        self._limit_s = limit_s
        self._steps: dict[int, Step] = {}
        self._first = anyio.Event()

    async def run(self, ways: Sequence[tuple[str, str]]) -> list[Step]:
        """A step for each (transport, address), in their order, within the limit."""
        began_s = anyio.current_time()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._cut_short, tasks)
            async with anyio.create_task_group() as tries:
                for number, (transport, address) in enumerate(ways):
                    tries.start_soon(self._try, number, transport, address)
            tasks.cancel_scope.cancel()
        took_s = anyio.current_time() - began_s
        return [
            self._steps.get(number)
            or step_of(_reaching(*way), Outcome.SKIPPED, took_s, "another way was faster")
            for number, way in enumerate(ways)
        ]

    async def _try(self, number: int, transport: str, address: str) -> None:
        began_s = anyio.current_time()
        detail, fix = "", ""
        try:
            link = await within(
                self._limit_s,
                self._dial(transport, self._node, address, timeout_s=self._limit_s),
            )
        except (DialFailed, LinkClosed) as error:
            detail = str(error)
        except TimeoutError:
            detail = f"no answer within {self._limit_s:g} s"
        took_s = anyio.current_time() - began_s
        if detail:
            outcome, fix = Outcome.FAILED, advice.on_unreached(transport, address, detail)
        else:
            outcome = Outcome.OK
        self._steps[number] = step_of(_reaching(transport, address), outcome, took_s, detail, fix)
        if outcome is Outcome.OK:
            self.reached = True
            self._first.set()
            with anyio.CancelScope(shield=True), anyio.move_on_after(GRACE_S):
                await link.close(reason="only a try")

    async def _cut_short(self, tasks: TaskGroup) -> None:
        await self._first.wait()
        await anyio.sleep(GRACE_S)
        tasks.cancel_scope.cancel()


def _reaching(transport: str, address: str) -> str:
    return f"reach it by {plain(transport, 16)} at {plain(address, 100)}"


async def within(limit_s: float, doing: Awaitable[T]) -> T:
    """Raises TimeoutError after `limit_s` seconds."""
    with anyio.fail_after(limit_s):
        return await doing
