"""One replica on its way out: nobody new comes in, those inside may finish, then it is stopped.

It goes on whoever stops waiting for it: a model half unloaded because a link
broke would hold memory that somebody was promised.
"""

from __future__ import annotations

import anyio

from helexa.neuron.supervisor.events import Why
from helexa.neuron.supervisor.replica import Replica


class Departure:
    def __init__(self, replica: Replica, why: Why) -> None:
        self.why = why
        self._replica = replica
        self._patience = anyio.CancelScope()
        self._over = anyio.Event()

    @property
    def is_short(self) -> bool:
        """Whether it is worth waiting for its end: nobody meant that the model should be gone."""
        return self.why not in (Why.ASKED, Why.GONE)

    def within(self, grace_s: float) -> None:
        """Requests in flight may take so long from now; the shortest time asked for holds."""
        deadline = anyio.current_time() + grace_s
        self._patience.deadline = min(self._patience.deadline, deadline)

    async def take_place(self) -> None:
        """Return when it is stopped. Once, by a task of the roster's."""
        try:
            with self._patience:
                await self._replica.gate.emptied()
            self._replica.gate.closed()
            await self._replica.stop()
        finally:
            self._over.set()

    async def over(self) -> None:
        await self._over.wait()
