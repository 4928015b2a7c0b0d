"""What one scheduling decision costs with a large fleet in view.

    python -m benchmarks.decisions [--decisions 4000] [--out FILE]

A thousand neurons list all of two hundred models; what is loaded where, and how busy it
is, comes from a seed. Every policy decides in turn, round by round, about models that
many, some or few have loaded, about an alias and about one whose entry names labels.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks import machine
from helexa.cortex.orchestrator import policies
from helexa.cortex.orchestrator.catalogue import Catalogue, catalogue
from helexa.cortex.orchestrator.fleet import FleetView, HealthReported, NeuronRegistered, apply
from helexa.cortex.orchestrator.recall import Recall
from helexa.cortex.orchestrator.scheduler import Facts, route
from helexa.cortex.settings import Alias, ModelEntry
from helexa.protocol.ids import ModelId, NodeId, OperatorId
from helexa.protocol.prefix import heads
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

NEURONS, MODELS, SLOTS = 1_000, 200, 4
ROUNDS = 8
AIM_US = 50.0
PROMPT = b"All of this is a prompt of eight kilobytes that many others begin with. " * 114
CASES = {
    "loaded on half of the fleet": "m0",
    "loaded on ten neurons": "m1",
    "loaded nowhere": "m2",
    "loaded on three": "m3",
    "an alias of three models": "alias",
    "labels that one neuron in four has": "m4",
}


@dataclass(frozen=True)
class World:
    view: FleetView
    catalogue: Catalogue
    in_flight: dict[tuple[NodeId, ModelId], int]
    recall: Recall


def world(chance: random.Random) -> World:
    nodes = [NodeId(f"{chance.getrandbits(256):064x}") for _ in range(NEURONS)]
    homes = {"m0": NEURONS // 2, "m2": 0, "m3": 3}
    loaded = {
        f"m{number}": set(chance.sample(nodes, homes.get(f"m{number}", 10)))
        for number in range(MODELS)
    }
    # Where its entry lets it run, and by hand on a few other neurons.
    loaded["m4"] = {*chance.sample(nodes[::4], NEURONS // 8), *chance.sample(nodes, 20)}
    view, recall = FleetView(), Recall()
    for number, node in enumerate(nodes):
        view = apply(view, _registered(number, node, loaded))
        replicas = tuple(
            ReplicaLoad(model=ModelId(model), running=chance.randrange(SLOTS), slots=SLOTS)
            for model, homes_of in loaded.items()
            if node in homes_of
        )
        load = Load(sequence=1, replicas=replicas)
        view = apply(view, HealthReported(node=node, load=load, now_s=1.0))
    for node in chance.sample(sorted(loaded["m0"]), 3):
        recall.sent(node, ModelId("m0"), heads(PROMPT))
    entries = [
        ModelEntry(id="m0", aliases=(Alias(name="alias", weight=3.0),)),
        ModelEntry(id="m1", aliases=(Alias(name="alias"),), fallbacks=("m5",)),
        ModelEntry(id="m3", aliases=(Alias(name="alias"),)),
        ModelEntry(id="m4", labels={"gpu": "yes"}),
    ]
    in_flight = {
        (node, ModelId("m0")): chance.randrange(3)
        for node in chance.sample(sorted(loaded["m0"]), 200)
    }
    return World(view, catalogue(entries), in_flight, recall)


def _registered(number: int, node: NodeId, loaded: dict[str, set[NodeId]]) -> NeuronRegistered:
    capabilities = tuple(
        ModelCapability(
            model=ModelId(model),
            state=ModelState.LOADED if node in homes else ModelState.UNLOADED,
            classes=(WorkloadClass.CHAT_INTERACTIVE, WorkloadClass.COMPLETION),
            slots=SLOTS,
            tokens_per_s=20.0 + number % 7,
        )
        for model, homes in loaded.items()
    )
    descriptor = NeuronDescriptor(
        node=node,
        operator=OperatorId(node),
        version="bench",
        hardware=Fingerprint(machine="x86_64", system="Linux"),
        labels={"gpu": "yes"} if number % 4 == 0 else {},
    )
    return NeuronRegistered(descriptor=descriptor, capabilities=capabilities, now_s=0.0)


def timed(decide: Callable[[], object], times: int) -> list[float]:
    found = []
    for _ in range(times):
        before = time.perf_counter_ns()
        decide()
        found.append((time.perf_counter_ns() - before) / 1000)
    return found


def measure(decisions: int) -> dict[str, dict[str, list[float]]]:
    """Microseconds of each decision, by policy and case."""
    made = world(random.Random(1))
    facts = Facts(
        view=made.view,
        now_s=2.0,
        catalogue=made.catalogue,
        in_flight=made.in_flight,
        recall=made.recall,
    )
    chance = random.Random(2)
    values: dict[str, dict[str, list[float]]] = {
        name: {case: [] for case in CASES} for name in policies.names()
    }
    for _ in range(ROUNDS):
        for name, cases in values.items():
            policy = policies.named(name)
            hints = RouteHints(
                prompt_bytes=len(PROMPT), prefixes=heads(PROMPT) if policy.by_prefix else ()
            )
            for case, model in CASES.items():
                cases[case] += timed(
                    lambda model=model, policy=policy, hints=hints: route(  # type: ignore[misc]
                        facts,
                        WorkloadClass.CHAT_INTERACTIVE,
                        ModelId(model),
                        hints,
                        policy=policy,
                        random=chance.random,
                    ),
                    decisions // ROUNDS,
                )
    return values


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--decisions", type=int, default=4000, help="of each policy and case")
    parser.add_argument("--out", type=Path, help="a file for the figures")
    args = parser.parse_args()
    values = measure(args.decisions)
    figures: dict[str, object] = {
        "neurons": NEURONS,
        "models": MODELS,
        "decisions": args.decisions,
        "aim_us": AIM_US,
    }
    worst = 0.0
    print(f"{'policy':<16} {'model':<36} {'median us':>10} {'p99 us':>8}")
    for name, cases in values.items():
        shown = {}
        for case, each in cases.items():
            median, p99 = statistics.median(each), statistics.quantiles(each, n=100)[98]
            worst = max(worst, median)
            shown[case] = {"median_us": round(median, 1), "p99_us": round(p99, 1)}
            print(f"{name:<16} {case:<36} {median:10.1f} {p99:8.1f}")
        figures[name] = shown
    heading = timed(lambda: heads(PROMPT), args.decisions)
    figures["heads_of_8_kib_us"] = round(statistics.median(heading), 1)
    print(f"heads of a prompt of {len(PROMPT)} bytes: {statistics.median(heading):.1f} us")
    verdict = "met" if worst < AIM_US else "NOT MET"
    print(f"worst median {worst:.1f} us, wanted under {AIM_US:g}: {verdict}")
    if args.out is not None:
        text = json.dumps({"machine": dict(machine.describe()), **figures}, indent=1)
        args.out.write_text(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
