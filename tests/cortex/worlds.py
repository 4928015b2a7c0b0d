"""Fleets in virtual time, drawn by chance: neurons, models, requests, and what goes wrong."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from hypothesis import strategies as st
from tests.cortex.moments import GIB, node

from helexa.cortex.orchestrator.catalogue import catalogue
from helexa.cortex.orchestrator.fleet import Mark
from helexa.cortex.settings import ModelEntry, OrchestratorSettings
from helexa.protocol.ids import ModelId
from helexa.testing.provisioning.clock import Clock
from helexa.testing.provisioning.cortex import Cortex
from helexa.testing.provisioning.neurons import Faults, Neuron, Request, Weights

HALF: Final = GIB // 2
ASKED_FOR_S: Final = 40.0
"""Requests come within this time..."""
ENDS_S: Final = 400.0
"""...and by then all are served or refused."""


@dataclass(frozen=True, slots=True)
class Ask:
    at_s: float
    model: int
    service_s: float


@dataclass(frozen=True, slots=True)
class Event:
    at_s: float
    what: str
    neuron: int
    for_s: float


@dataclass(frozen=True, slots=True)
class World:
    """`holds[n]` are the models whose files neuron n has."""

    needs: tuple[int, ...]
    load_s: tuple[float, ...]
    slots: int
    rooms: tuple[int, ...]
    holds: tuple[frozenset[int], ...]
    entries: tuple[ModelEntry, ...]
    asks: tuple[Ask, ...]
    events: tuple[Event, ...]
    faults: Faults
    idle_timeout_s: float

    def run(self) -> Cortex:
        clock = Clock()
        settings = OrchestratorSettings(idle_timeout_s=self.idle_timeout_s)
        cortex = Cortex(clock, settings=settings, catalogue=catalogue(self.entries))
        models = [
            Weights(
                model=ModelId(f"m{number}"),
                need_bytes=need * HALF,
                load_s=load_s,
                slots=self.slots,
                pull_s=3.0,
            )
            for number, (need, load_s) in enumerate(zip(self.needs, self.load_s, strict=True))
        ]
        neurons = [
            Neuron(
                node(number),
                clock=clock,
                memory_bytes=room * HALF,
                models=tuple(models[one] for one in sorted(holds)),
                others={one.model: one for one in models},
                listener=cortex,
                faults=self.faults,
                random=random.Random(number),
                name=f"n{number}",
            )
            for number, (room, holds) in enumerate(zip(self.rooms, self.holds, strict=True))
        ]
        for neuron in neurons:
            cortex.attend(neuron)
        for ask in self.asks:
            clock.at(ask.at_s, _asking(cortex, clock, ask))
        for event in self.events:
            clock.at(event.at_s, _happening(cortex, clock, neurons[event.neuron], event))
        clock.run(ENDS_S)
        return cortex


def _asking(cortex: Cortex, clock: Clock, ask: Ask) -> Callable[[], None]:
    def happens() -> None:
        model = ModelId(f"m{ask.model}")
        cortex.ask(Request(model=model, came_s=clock.now_s, service_s=ask.service_s))

    return happens


def _happening(cortex: Cortex, clock: Clock, neuron: Neuron, event: Event) -> Callable[[], None]:
    def back() -> None:
        if neuron.dead:
            neuron.rise()
            cortex.attend(neuron)

    def happens() -> None:
        if event.what == "dies":
            if not neuron.dead:
                neuron.die()
                cortex.lose(neuron.node)
                clock.after(event.for_s, back)
        else:
            cortex.mark(neuron.node, Mark(event.what))
            clock.after(event.for_s, lambda: cortex.mark(neuron.node, None))

    return happens


@st.composite
def worlds(draw: Any, *, kind: bool = False) -> World:
    """`kind`: nothing fails, everybody is equal, and every model fits somewhere it can be had."""
    count = draw(st.integers(1, 5))
    models = range(count)
    rooms = draw(st.lists(st.integers(2, 8), min_size=1, max_size=3))
    needs = draw(
        st.lists(st.integers(1, max(rooms) if kind else 8), min_size=count, max_size=count)
    )
    holds = [frozenset(draw(st.sets(st.sampled_from(models)))) for _ in rooms]
    if kind:
        holds[rooms.index(max(rooms))] = frozenset(models)
    named = [] if kind else [number for number in models if draw(st.booleans())]
    entries = [
        ModelEntry(
            id=f"m{number}",
            source=draw(st.sampled_from(("", "hf:owner/name"))),
            memory_bytes=needs[number] * HALF,
            priority=draw(st.sampled_from((0, 0, 5))),
            keep_warm=draw(st.booleans()),
            replicas_min=draw(st.sampled_from((0, 0, 1, 2))),
            replicas_max=draw(st.sampled_from((None, 2))),
        )
        for number in named
    ]
    whats = st.sampled_from(("dies", *(mark.value for mark in Mark)))
    times = st.floats(0.0, ASKED_FOR_S)
    return World(
        needs=tuple(needs),
        load_s=tuple(draw(st.sampled_from((0.1, 1.0, 3.0))) for _ in models),
        slots=draw(st.integers(1, 4)),
        rooms=tuple(rooms),
        holds=tuple(holds),
        entries=tuple(entries),
        asks=tuple(
            draw(
                st.lists(
                    st.builds(
                        Ask, times, st.sampled_from(models), st.sampled_from((0.1, 0.5, 2.0))
                    ),
                    max_size=40,
                )
            )
        ),
        events=()
        if kind
        else tuple(
            draw(
                st.lists(
                    st.builds(
                        Event,
                        times,
                        whats,
                        st.integers(0, len(rooms) - 1),
                        st.sampled_from((1.0, 8.0, 30.0)),
                    ),
                    max_size=3,
                )
            )
        ),
        faults=Faults()
        if kind
        else Faults(
            load_fails=draw(st.sampled_from((0.0, 0.2))),
            answer_lost=draw(st.sampled_from((0.0, 0.1))),
            load_varies=0.3,
        ),
        idle_timeout_s=draw(st.sampled_from((0.0, 15.0, 600.0))),
    )
