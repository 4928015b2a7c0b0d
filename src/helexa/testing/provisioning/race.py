"""The planner and first come first served, on the same neurons with the same requests."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from helexa.cortex.orchestrator.provisioning.plan import Kind
from helexa.cortex.settings import OrchestratorSettings
from helexa.protocol.ids import ModelId, NodeId
from helexa.testing.provisioning.clock import Clock
from helexa.testing.provisioning.cortex import Cortex, percentile, waits
from helexa.testing.provisioning.fifo import Fifo
from helexa.testing.provisioning.neurons import Neuron, Request, Weights
from helexa.testing.provisioning.traces import Ask

GIB: Final = 1 << 30
"""What every model here needs."""
SETTLED_S: Final = 6.0
"""When the first request comes."""
ENDS_S: Final = 3_600.0
STAYING: Final = OrchestratorSettings(idle_timeout_s=0)


@dataclass(frozen=True, slots=True)
class Outcome:
    swaps: int
    """Models that had to leave for another one."""
    served: int
    lost: int
    p50_s: float
    p99_s: float
    most_s: float
    broken: tuple[str, ...] = ()


def planner(
    rooms: Sequence[int],
    models: Sequence[str],
    load_s: float,
    trace: Sequence[Ask],
    settings: OrchestratorSettings = STAYING,
) -> Outcome:
    """`rooms` are for so many models on each neuron."""
    clock = Clock()
    front = Cortex(clock, settings=settings)
    _run(front, clock, _fleet(front, clock, rooms, models, load_s), trace)
    broken = [*front.broken]
    broken += [f"{one.name} had no room" for one in front.neurons.values() if one.refused_loads]
    swaps = sum(action.kind is Kind.UNLOAD for _, action in front.given)
    return _outcome(front.requests, swaps, broken)


def fifo(
    rooms: Sequence[int], models: Sequence[str], load_s: float, trace: Sequence[Ask]
) -> Outcome:
    clock = Clock()
    front = Fifo(clock, {ModelId(name): GIB for name in models})
    _run(front, clock, _fleet(front, clock, rooms, models, load_s), trace)
    return _outcome(front.requests, front.swaps, ())


def _fleet(
    front: Cortex | Fifo, clock: Clock, rooms: Sequence[int], models: Sequence[str], load_s: float
) -> list[Neuron]:
    weights = tuple(Weights(model=ModelId(name), need_bytes=GIB, load_s=load_s) for name in models)
    return [
        Neuron(
            NodeId(f"{number:064x}"),
            clock=clock,
            memory_bytes=room * GIB,
            models=weights,
            listener=front,
            random=random.Random(number),  # noqa: S311 - the same every time
            name=f"n{number}",
        )
        for number, room in enumerate(rooms, 1)
    ]


def _run(
    front: Cortex | Fifo, clock: Clock, neurons: Sequence[Neuron], trace: Sequence[Ask]
) -> None:
    for neuron in neurons:
        front.attend(neuron)

    def ask(one: Ask) -> None:
        model = ModelId(one.model)
        front.ask(Request(model=model, came_s=clock.now_s, service_s=one.service_s))

    for one in trace:
        clock.at(SETTLED_S + one.at_s, partial(ask, one))
    over = SETTLED_S + trace[-1].at_s
    clock.run(over)
    # Most requests are over by then: asking all of them after each event would take long.
    clock.run(ENDS_S, ends=lambda: all(one.ended_s is not None for one in front.requests[-64:]))
    clock.run(ENDS_S, ends=lambda: all(one.ended_s is not None for one in front.requests))


def _outcome(requests: Sequence[Request], swaps: int, broken: Sequence[str]) -> Outcome:
    found = waits(requests)
    return Outcome(
        swaps=swaps,
        served=len(found),
        lost=len(requests) - len(found),
        p50_s=round(percentile(found, 0.5), 2),
        p99_s=round(percentile(found, 0.99), 2),
        most_s=round(found[-1], 2) if found else 0.0,
        broken=tuple(broken),
    )
