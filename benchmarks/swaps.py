"""The planner against first come first served, on made-up traces in virtual time."""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks import traces
from helexa.cortex.orchestrator.provisioning.plan import Kind
from helexa.cortex.settings import OrchestratorSettings
from helexa.protocol.ids import ModelId, NodeId
from helexa.testing.provisioning.clock import Clock
from helexa.testing.provisioning.cortex import Cortex, percentile, waits
from helexa.testing.provisioning.fifo import Fifo
from helexa.testing.provisioning.neurons import Neuron, Request, Weights

GIB = 1 << 30


@dataclass(frozen=True)
class Outcome:
    swaps: int
    loads: int
    served: int
    lost: int
    p50_s: float
    p99_s: float
    max_s: float


def fleet(rooms: Sequence[int], models: Sequence[str], load_s: float, front) -> None:
    weights = tuple(
        Weights(model=ModelId(name), need_bytes=GIB, load_s=load_s, slots=4) for name in models
    )
    for number, room in enumerate(rooms, 1):
        front.attend(
            Neuron(
                NodeId(f"{number:064x}"),
                clock=front.clock,
                memory_bytes=room * GIB,
                models=weights,
                listener=front,
                random=random.Random(number),
                name=f"n{number}",
            )
        )


def run(front, clock: Clock, trace: Sequence[traces.Ask]) -> None:
    start = 6.0
    for ask in trace:
        clock.at(
            start + ask.at_s,
            lambda ask=ask: front.ask(
                Request(model=ModelId(ask.model), came_s=clock.now_s, service_s=ask.service_s)
            ),
        )
    clock.run(
        start + trace[-1].at_s + 3000,
        ends=lambda: (
            len(front.requests) == len(trace)
            and all(one.ended_s is not None for one in front.requests)
        ),
    )


def outcome(front, swaps: int, loads: int) -> Outcome:
    found = waits(front.requests)
    return Outcome(
        swaps=swaps,
        loads=loads,
        served=len(found),
        lost=len(front.requests) - len(found),
        p50_s=round(percentile(found, 0.5), 2),
        p99_s=round(percentile(found, 0.99), 2),
        max_s=round(found[-1], 2),
    )


def planner(rooms, models, load_s, trace, settings) -> Outcome:
    clock = Clock()
    front = Cortex(clock, settings=settings)
    fleet(rooms, models, load_s, front)
    run(front, clock, trace)
    for line in front.broken[:5]:
        print("   broken", line)
    kinds = [action.kind for _, action in front.given]
    if any(one.refused_loads for one in front.neurons.values()):
        print("   refused loads", [one.refused_loads for one in front.neurons.values()])
    return outcome(front, kinds.count(Kind.UNLOAD), kinds.count(Kind.LOAD))


def fifo(rooms, models, load_s, trace) -> Outcome:
    clock = Clock()
    front = Fifo(clock, {ModelId(name): GIB for name in models})
    fleet(rooms, models, load_s, front)
    run(front, clock, trace)
    return outcome(front, front.swaps, front.loads)


def main() -> int:
    settings = OrchestratorSettings(idle_timeout_s=0)
    for load_s in (0.5, 3.0, 10.0):
        for pace in (0.1, 0.25, 0.5, 1.0, 2.0, 4.0):
            for service in (0.3,):
                trace = traces.letters(pace, rounds=40, service_s=service)
                a = fifo((1, 1), "ABC", load_s, trace)
                b = planner((1, 1), "ABC", load_s, trace, settings)
                show(f"letters load {load_s} pace {pace}", a, b)
    models = [f"m{n}" for n in range(12)]
    for load_s in (0.5, 3.0):
        for rate in (0.5, 1, 2, 5, 10):
            trace = traces.zipf(models, per_s=rate, seconds=400, service_s=0.5)
            a = fifo((1, 1, 2, 2), models, load_s, trace)
            b = planner((1, 1, 2, 2), models, load_s, trace, settings)
            show(f"zipf load {load_s} rate {rate}", a, b)
    return 0


def show(name: str, a: Outcome, b: Outcome) -> None:
    fewer = 1 - b.swaps / a.swaps if a.swaps else 0
    ok = "ok " if fewer >= 0.4 and b.p99_s <= a.p99_s and not b.lost else "   "
    print(
        f"{ok}{name:32} swaps {a.swaps:4} -> {b.swaps:4} ({fewer:4.0%})  "
        f"p50 {a.p50_s:7.2f} -> {b.p50_s:7.2f}  p99 {a.p99_s:7.2f} -> {b.p99_s:7.2f}  "
        f"max {a.max_s:7.2f} -> {b.max_s:7.2f} lost {b.lost}"
    )


if __name__ == "__main__":
    sys.exit(main())
