"""How long requests wait for a slot under each policy, where no two prompts begin alike.

    python -m benchmarks.waits [--requests 4000] [--seeds 3] [--out FILE]

In virtual time, so exact: Poisson arrivals, service times of an exponential distribution,
reports once a second, one cortex or three that share the neurons and know of each other by
those reports alone. The policies are the real ones. What a cache would save is left out:
this is what a policy costs where there is nothing to save.
"""

from __future__ import annotations

import argparse
import heapq
import json
import random
import statistics
import sys
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from helexa.cortex.orchestrator import policies
from helexa.cortex.orchestrator.fleet import FleetView, HealthReported, NeuronRegistered, apply
from helexa.cortex.orchestrator.scheduler import Facts, route
from helexa.protocol.ids import ModelId, NodeId, OperatorId
from helexa.protocol.routing import RouteHints
from helexa.protocol.work import (
    Fingerprint,
    Load,
    ModelCapability,
    ModelState,
    NeuronDescriptor,
    ReplicaLoad,
    WorkloadClass,
)

MODEL = ModelId("m")
POLICIES = ("least_loaded", "prefix_affinity")
REPORT_S = 1.0
_WARM = 0.1
"""The part of the requests that comes before a steady state."""


@dataclass(frozen=True)
class Case:
    cortexes: int
    neurons: int
    slots: int
    load: float
    service_s: float


CASES = tuple(
    Case(cortexes, *rest)
    for cortexes in (1, 3)
    for rest in (
        (3, 4, 0.7, 1.0),
        (3, 4, 0.9, 1.0),
        (3, 1, 0.6, 1.0),
        (8, 4, 0.85, 1.0),
        (8, 2, 0.8, 0.2),
        (8, 2, 0.8, 5.0),
    )
)


class Simulation:
    def __init__(self, case: Case, policy: str, chance: random.Random) -> None:
        self._case = case
        self._chance = chance
        self._policy = policies.named(policy)
        self._nodes = sorted(NodeId(f"{chance.getrandbits(256):064x}") for _ in range(case.neurons))
        view = FleetView()
        for node in self._nodes:
            view = apply(view, _registered(node, case.slots))
        self._views = [view] * case.cortexes
        self._in_flight: list[dict[tuple[NodeId, ModelId], int]] = [
            {(node, MODEL): 0 for node in self._nodes} for _ in range(case.cortexes)
        ]
        self._running = dict.fromkeys(self._nodes, 0)
        self._queues: dict[NodeId, deque[tuple[int, float]]] = {
            node: deque() for node in self._nodes
        }
        self._ends: list[tuple[float, int, NodeId, int]] = []
        self._waits: list[float] = []

    def waits(self, requests: int) -> list[float]:
        """Of each request, in seconds, the first ones left out."""
        case, chance = self._case, self._chance
        rate = case.load * case.neurons * case.slots / case.service_s
        reports = [(chance.random() * REPORT_S, node) for node in self._nodes]
        heapq.heapify(reports)
        now_s, sequence = 0.0, 0
        for _ in range(requests):
            now_s += chance.expovariate(rate)
            while (upcoming := min(reports[0][0], self._next_end())) <= now_s:
                if self._next_end() == upcoming:
                    self._end()
                else:
                    at_s, node = heapq.heapreplace(
                        reports, (reports[0][0] + REPORT_S, reports[0][1])
                    )
                    sequence += 1
                    self._report(node, sequence, at_s)
            self._arrive(now_s)
        return self._waits[int(requests * _WARM) :]

    def _arrive(self, now_s: float) -> None:
        cortex = self._chance.randrange(self._case.cortexes)
        heads = tuple(self._chance.getrandbits(63) for _ in range(4))
        decision = route(
            Facts(view=self._views[cortex], now_s=now_s, in_flight=self._in_flight[cortex]),
            WorkloadClass.CHAT_INTERACTIVE,
            MODEL,
            RouteHints(prefixes=heads),
            policy=self._policy,
            random=self._chance.random,
        )
        node = decision.targets[0].node
        self._in_flight[cortex][node, MODEL] += 1
        if self._running[node] < self._case.slots:
            self._start(node, cortex, now_s, now_s)
        else:
            self._queues[node].append((cortex, now_s))

    def _start(self, node: NodeId, cortex: int, came_s: float, now_s: float) -> None:
        self._running[node] += 1
        self._waits.append(now_s - came_s)
        ends_s = now_s + self._chance.expovariate(1 / self._case.service_s)
        heapq.heappush(self._ends, (ends_s, len(self._waits), node, cortex))

    def _next_end(self) -> float:
        return self._ends[0][0] if self._ends else float("inf")

    def _end(self) -> None:
        now_s, _, node, cortex = heapq.heappop(self._ends)
        self._running[node] -= 1
        self._in_flight[cortex][node, MODEL] -= 1
        if self._queues[node]:
            self._start(node, *self._queues[node].popleft(), now_s)

    def _report(self, node: NodeId, sequence: int, now_s: float) -> None:
        replica = ReplicaLoad(
            model=MODEL,
            running=self._running[node],
            waiting=len(self._queues[node]),
            slots=self._case.slots,
        )
        load = Load(sequence=sequence, replicas=(replica,))
        for cortex, view in enumerate(self._views):
            own = {MODEL: self._in_flight[cortex][node, MODEL]}
            event = HealthReported(node=node, load=load, now_s=now_s, own=own)
            self._views[cortex] = apply(view, event)


def _registered(node: NodeId, slots: int) -> NeuronRegistered:
    descriptor = NeuronDescriptor(
        node=node,
        operator=OperatorId(node),
        version="bench",
        hardware=Fingerprint(machine="x86_64", system="Linux"),
    )
    capability = ModelCapability(model=MODEL, state=ModelState.LOADED, slots=slots)
    return NeuronRegistered(descriptor=descriptor, capabilities=(capability,), now_s=0.0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=4_000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="a file for the figures")
    args = parser.parse_args()
    rows = []
    print("cortexes neurons slots load service s | mean wait s, p99: " + ", ".join(POLICIES))
    for case in CASES:
        row: dict[str, object] = {name: getattr(case, name) for name in case.__dataclass_fields__}
        shown = []
        for policy in POLICIES:
            waits = sorted(
                wait
                for seed in range(args.seeds)
                for wait in Simulation(case, policy, random.Random(seed)).waits(args.requests)
            )
            mean, p99 = statistics.fmean(waits), waits[int(len(waits) * 0.99)]
            row[policy] = {"mean_s": round(mean, 4), "p99_s": round(p99, 3)}
            shown.append(f"{mean:.3f} {p99:.2f}")
        rows.append(row)
        print(*(row[name] for name in case.__dataclass_fields__), "|", ", ".join(shown))
    if args.out is not None:
        args.out.write_text(
            json.dumps({"requests": args.requests, "seeds": args.seeds, "cases": rows}, indent=1)
            + "\n"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
