"""Where requests wait until a neuron serves their model, and what they are told meanwhile.

A place is taken, looked from now and then, and left; nothing is promised to it. What
wakes those who wait is news about their model: it is served somewhere, or it never will be.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Final

import anyio

from helexa.cortex.orchestrator.provisioning.demand import Demand
from helexa.cortex.orchestrator.provisioning.plan import Outlook, Plan
from helexa.protocol.errors import ModelLoading
from helexa.protocol.ids import ModelId
from helexa.protocol.work import Phase, Progress

RETRY_LEAST_S: Final = 1
RETRY_MOST_S: Final = 600
_NOTHING_KNOWN: Final = Outlook(progress=Progress(phase=Phase.WAITING))


class Room:
    """`place` is for requests; the others are for the one who provisions."""

    def __init__(
        self,
        demand: Demand,
        *,
        monotonic: Callable[[], float],
        called: Callable[[], None],
        max_wait_s: Callable[[ModelId], float],
    ) -> None:
        """`called` is told that somebody came to wait; `max_wait_s` is a model's own patience."""
        self._demand = demand
        self._monotonic = monotonic
        self._called = called
        self._max_wait_s = max_wait_s
        self._news: dict[ModelId, anyio.Event] = {}
        self._places: Counter[ModelId] = Counter()
        self._outlooks: Mapping[ModelId, Outlook] = MappingProxyType({})
        self._hopeless: Mapping[ModelId, str] = MappingProxyType({})

    @contextmanager
    def place(self, model: ModelId) -> Iterator[Place]:
        """Counted as waiting for the model inside the block."""
        came_s = self._monotonic()
        self._demand.waits(model, came_s)
        self._places[model] += 1
        self._called()
        try:
            yield Place(self, model)
        finally:
            self._places[model] -= 1
            if not self._places[model]:
                del self._places[model]
                self._news.pop(model, None)
            self._demand.served(model, came_s, self._monotonic())

    def wake(self, models: Iterable[ModelId]) -> None:
        """There is news about these: whoever waits for them looks again."""
        for model in models:
            news = self._news.pop(model, None)
            if news is not None:
                news.set()

    def tell(self, plan: Plan) -> None:
        """What those who wait are told from now on; the hopeless ones are woken."""
        self._outlooks, self._hopeless = plan.outlooks, plan.hopeless
        self.wake(plan.hopeless)

    @property
    def waited_for(self) -> frozenset[ModelId]:
        """Models that somebody waits for."""
        return frozenset(self._places)

    @property
    def places(self) -> Mapping[ModelId, int]:
        """Requests that wait, by model."""
        return self._places

    def outlook(self, model: ModelId) -> Outlook:
        return self._outlooks.get(model, _NOTHING_KNOWN)

    def hopeless(self, model: ModelId) -> str:
        """Why nothing here can serve it as things stand; empty while something may."""
        return self._hopeless.get(model, "")

    def max_wait_s(self, model: ModelId) -> float:
        return self._max_wait_s(model)

    async def news(self, model: ModelId, timeout_s: float) -> bool:
        event = self._news.setdefault(model, anyio.Event())
        with anyio.move_on_after(timeout_s):
            await event.wait()
        return event.is_set()


class Place:
    """One request's, while it waits."""

    __slots__ = ("_model", "_room")

    def __init__(self, room: Room, model: ModelId) -> None:
        self._room = room
        self._model = model

    @property
    def model(self) -> ModelId:
        return self._model

    @property
    def max_wait_s(self) -> float:
        """The longest wait that this model's entry allows."""
        return self._room.max_wait_s(self._model)

    async def news(self, timeout_s: float) -> bool:
        """Return at news about the model, or after this time; whether there was any."""
        return await self._room.news(self._model, timeout_s)

    def progress(self) -> Progress:
        return self._room.outlook(self._model).progress

    def too_late(self) -> ModelLoading:
        """The refusal of one that waited as long as it may: how far the model is, and when to
        come back.
        """
        outlook = self._room.outlook(self._model)
        progress = outlook.progress
        words = _WORDS[progress.phase]
        detail = f" ({outlook.reason})" if outlook.reason else ""
        eta_s = progress.eta_s
        when = "" if eta_s is None else f"; about {eta_s:.0f} s more"
        wait_s = 5 if eta_s is None else math.ceil(eta_s)
        return ModelLoading(
            f"The model {str(self._model)!r} {words}{detail}{when}.",
            max(RETRY_LEAST_S, min(wait_s, RETRY_MOST_S)),
            progress,
        )


_WORDS: Final[Mapping[Phase, str]] = MappingProxyType(
    {
        Phase.WAITING: "waits for room on a neuron",
        Phase.DOWNLOADING: "is being downloaded",
        Phase.LOADING: "is being loaded",
    }
)
