"""What a plan costs, for a fleet of 1,000 neurons and 200 models.

    python -m benchmarks.planning [--neurons 1000] [--models 200] [--out FILE]

Each neuron has the files of some models and runs two; requests wait for a fifth of all models.
Measured with what was remembered from the plan before, as it runs in a cortex: with requests
waiting, with nothing to do, and for a fleet that is full.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Mapping
from pathlib import Path

from benchmarks import machine
from helexa.cortex.orchestrator.catalogue import Catalogue, catalogue
from helexa.cortex.orchestrator.fleet import FleetView, HealthReported, NeuronRegistered, apply
from helexa.cortex.orchestrator.provisioning.given import Given
from helexa.cortex.orchestrator.provisioning.plan import Memory, Want
from helexa.cortex.orchestrator.provisioning.planner import ACTIONS_MAX, plan
from helexa.cortex.settings import ModelEntry, OrchestratorSettings
from helexa.protocol.ids import ModelId, NodeId, OperatorId
from helexa.protocol.work import (
    Fingerprint,
    Load,
    ModelCapability,
    ModelState,
    NeuronDescriptor,
    ReplicaLoad,
)

OUT = Path("docs/benchmarks/planning.json")
GIB = 1 << 30
FILES = 20
"""Models whose files a neuron has."""
LOADED = 2


def fleet(neurons: int, models: int, *, free_gib: int, seed: int = 1) -> FleetView:
    chance = random.Random(seed)
    names = [ModelId(f"model-{number:03d}") for number in range(models)]
    view = FleetView()
    for number in range(neurons):
        held = chance.sample(names, FILES)
        loaded = held[:LOADED]
        node = NodeId(f"{number:064x}")
        descriptor = NeuronDescriptor(
            node=node,
            operator=OperatorId(node),
            version="0",
            hardware=Fingerprint(machine="x", system="y"),
            name=f"n{number}",
            labels={"gpu": "yes"} if number % 2 else {},
        )
        capabilities = tuple(
            ModelCapability(
                model=name,
                state=ModelState.LOADED if name in loaded else ModelState.UNLOADED,
                slots=4,
                memory_bytes=4 * GIB,
                load_s=10.0,
                runtime="llama_cpp",
            )
            for name in held
        )
        load = Load(
            sequence=1,
            memory_free_bytes=free_gib * GIB,
            disk_free_bytes=100 * GIB,
            replicas=tuple(
                ReplicaLoad(
                    model=name,
                    running=int(chance.random() < 0.3),
                    slots=4,
                    idle_s=chance.uniform(0, 300),
                )
                for name in loaded
            ),
        )
        view = apply(
            view, NeuronRegistered(descriptor=descriptor, capabilities=capabilities, now_s=0.0)
        )
        view = apply(view, HealthReported(node=node, load=load, now_s=0.0))
    return view


def entries(models: int) -> Catalogue:
    return catalogue(
        ModelEntry(
            id=f"model-{number:03d}",
            source="hf:owner/repository",
            memory_bytes=4 * GIB,
            priority=number % 3,
            labels={"gpu": "yes"} if number % 4 == 0 else {},
        )
        for number in range(models)
    )


def wants(models: int, *, waiting: bool) -> Mapping[ModelId, Want]:
    return {
        ModelId(f"model-{number:03d}"): Want(
            waiting=3 if waiting and number % 5 == 0 else 0,
            oldest_s=5.0,
            in_flight=2,
            rate_per_s=1.0,
        )
        for number in range(models)
    }


def without_replicas(view: FleetView, models: int) -> FleetView:
    """So that those who wait do so for a reason: every fifth model runs nowhere."""
    cold = {ModelId(f"model-{number:03d}") for number in range(0, models, 5)}
    for node, neuron in view.neurons.items():
        capabilities = tuple(
            ModelCapability(
                model=one.model,
                state=ModelState.UNLOADED,
                slots=4,
                memory_bytes=one.memory_bytes,
                load_s=10.0,
                runtime="llama_cpp",
            )
            if one.model in cold
            else one
            for one in neuron.capabilities.values()
        )
        view = apply(
            view,
            NeuronRegistered(descriptor=neuron.descriptor, capabilities=capabilities, now_s=0.0),
        )
        load = neuron.load
        assert load is not None
        kept = Load(
            sequence=2,
            memory_free_bytes=load.memory_free_bytes,
            disk_free_bytes=load.disk_free_bytes,
            replicas=tuple(one for one in load.replicas if one.model not in cold),
        )
        view = apply(view, HealthReported(node=node, load=kept, now_s=0.0))
    return view


# Processor time of the thread: the machine may have other work, and a plan waits for nothing.
def cost_ms(
    view: FleetView, book: Catalogue, asked: Mapping[ModelId, Want], repeat: int
) -> list[float]:
    memory = Memory()
    found = []
    for number in range(repeat + 2):
        given = Given(
            view=view,
            catalogue=book,
            wants=asked,
            settings=OrchestratorSettings(),
            now_s=100.0 + number / 100,
        )
        began = time.thread_time()
        made, memory = plan(given, memory)
        found.append((time.thread_time() - began) * 1e3)
        assert len(made.actions) <= ACTIONS_MAX
    return found[2:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--neurons", type=int, default=1_000)
    parser.add_argument("--models", type=int, default=200)
    parser.add_argument("--repeat", type=int, default=50)
    parser.add_argument("--out", type=Path, default=OUT)
    asked = parser.parse_args()
    book = entries(asked.models)
    roomy = without_replicas(fleet(asked.neurons, asked.models, free_gib=8), asked.models)
    full = without_replicas(fleet(asked.neurons, asked.models, free_gib=0), asked.models)
    rows = {}
    for name, view, waiting in (
        ("nothing to do", roomy, False),
        ("40 models waited for, room", roomy, True),
        ("40 models waited for, no room", full, True),
    ):
        found = cost_ms(view, book, wants(asked.models, waiting=waiting), asked.repeat)
        rows[name] = {
            "median_ms": round(statistics.median(found), 2),
            "p99_ms": round(sorted(found)[int(len(found) * 0.99)], 2),
        }
        print(f"{name:<32} {rows[name]}")
    facts = {
        "machine": dict(machine.describe()),
        "neurons": asked.neurons,
        "models": asked.models,
        "files_a_neuron": FILES,
        "loaded_a_neuron": LOADED,
        "plans": rows,
    }
    asked.out.write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
