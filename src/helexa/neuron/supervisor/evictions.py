"""Room made by itself, and models that nobody used for long: `room` decides, this does.

Who waits for room waits in a row, so that two models cannot take the freed
memory from one another for ever.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeAlias, assert_never

import anyio

from helexa.neuron.supervisor.events import Why
from helexa.neuron.supervisor.grants import Grants
from helexa.neuron.supervisor.replica import Replica
from helexa.neuron.supervisor.room import Leave, Never, Resident, Wait, overdue, room_for
from helexa.protocol.errors import DoesNotFit, NoCapacity
from helexa.protocol.ids import ModelId
from helexa.protocol.work import ModelProgress, Phase, Progress

ROOM_WITHIN_S: Final = 300.0
"""A request that finds no room for so long is refused."""
_RETRY_AFTER_S: Final = 30

Residents: TypeAlias = Callable[[], Sequence[Resident]]


@dataclass(slots=True)
class _Place:
    """In the row, of all who want one model."""

    waiting: int = 0
    first: anyio.Lock = field(default_factory=anyio.Lock)


class Leaving(Protocol):
    async def over(self) -> None: ...


SendOff: TypeAlias = Callable[[ModelId, Why], Leaving]
"""At once, without waiting: nobody may come in between the look and the leaving."""


class Evictions:
    def __init__(
        self, grants: Grants, residents: Residents, send_off: SendOff, *, stay_s: float
    ) -> None:
        self._grants = grants
        self._residents = residents
        self._send_off = send_off
        self._stay_s = stay_s
        self._row = anyio.Lock()
        self._stirred = anyio.Event()
        self._places: dict[ModelId, _Place] = {}

    def stir(self) -> None:
        """Somebody came, left, or became idle: look again."""
        stirred, self._stirred = self._stirred, anyio.Event()
        stirred.set()

    def progress(self) -> tuple[ModelProgress, ...]:
        """Of the models that wait for room."""
        waits = Progress(phase=Phase.WAITING)
        return tuple(ModelProgress(model=model, progress=waits) for model in sorted(self._places))

    async def grant(self, replica: Replica) -> None:
        """`Grants.give`, after others have left where they have to.

        Raises DoesNotFit where it never would fit, NoCapacity where those that are in
        use hold the memory for too long.
        """
        model = replica.spec.files.model
        if self._grants.has(model):
            return
        place = self._places.setdefault(model, _Place())
        place.waiting += 1
        try:
            with anyio.fail_after(ROOM_WITHIN_S):
                # One stands in the row for all who want the same model. Were they in it one by
                # one, a model that has come could be waited for by those in front of the rest.
                async with place.first:
                    if not self._grants.has(model):
                        async with self._row:
                            await self._make_room(replica)
        except TimeoutError:
            raise NoCapacity(
                reason=f"{model!r} fits only without models that are in use; try again later.",
                wait_s=_RETRY_AFTER_S,
            ) from None
        finally:
            place.waiting -= 1
            if not place.waiting:
                del self._places[model]

    async def _make_room(self, replica: Replica) -> None:
        fits = self._grants.fits(replica)
        while True:
            await self._grants.look()
            stirred = self._stirred
            try:
                self._grants.give(replica)
                return
            except (DoesNotFit, NoCapacity):
                verdict = room_for(fits, self._residents(), stay_s=self._stay_s)
                match verdict:
                    case Never():
                        raise
                    case Leave(models=()):
                        # The grants would do; what others on the machine hold would not.
                        raise
                    case Leave(models=models):
                        leaving = [self._send_off(model, Why.EVICTED) for model in models]
                    case Wait(seconds=seconds):
                        leaving = []
                        with anyio.move_on_after(math.inf if seconds is None else seconds):
                            await stirred.wait()
                    case _:
                        assert_never(verdict)
            for departure in leaving:
                await departure.over()

    async def sweep(self, timeout_s: float) -> None:
        """Send away who is idle for so long, until cancelled."""
        while True:
            stirred, residents = self._stirred, self._residents()
            for model in overdue(residents, timeout_s):
                self._send_off(model, Why.IDLE)
            idle = [timeout_s - one.idle_s for one in residents if one.is_idle]
            until_next_s = min((one for one in idle if one > 0), default=math.inf)
            with anyio.move_on_after(until_next_s):
                await stirred.wait()
