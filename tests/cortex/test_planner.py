"""One moment each: a fleet as its neurons say that it is, and what is decided about it."""

from __future__ import annotations

import random

from tests.cortex.simulated import GIB, node, weights

from helexa.cortex.settings import OrchestratorSettings
from helexa.protocol.ids import ModelId
from helexa.testing.provisioning.clock import Clock
from helexa.testing.provisioning.cortex import Cortex
from helexa.testing.provisioning.neurons import Neuron, Request


def test_a_request_for_a_cold_model_gets_one_load_and_is_served() -> None:
    clock = Clock()
    cortex = Cortex(clock, settings=OrchestratorSettings())
    for number in (1, 2):
        cortex.attend(
            Neuron(
                node(number),
                clock=clock,
                memory_bytes=4 * GIB,
                models=(weights("a"),),
                listener=cortex,
                random=random.Random(number),
            )
        )
    clock.run(10)
    for _ in range(3):
        cortex.ask(Request(model=ModelId("a"), came_s=clock.now_s, service_s=0.5))
    clock.run(20)
    assert [one.refused for one in cortex.requests] == ["", "", ""]
    assert sum(neuron.loads for neuron in cortex.neurons.values()) == 1
    assert not cortex.broken
