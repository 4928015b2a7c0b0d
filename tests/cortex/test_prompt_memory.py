"""What `Neurons` keeps of prompts and of others' requests while reports come and models go."""

from __future__ import annotations

import random

from tests.cortex.fleets import capability, descriptor, node

from helexa.cortex.orchestrator import policies
from helexa.cortex.orchestrator.catalogue import catalogue
from helexa.cortex.orchestrator.fleet import (
    CapabilitiesAnnounced,
    HealthReported,
    NeuronLeft,
    NeuronRegistered,
    TimePassed,
)
from helexa.cortex.orchestrator.neurons import Neurons
from helexa.cortex.orchestrator.reception import Timing
from helexa.cortex.settings import Alias, ModelEntry
from helexa.protocol.ids import ModelId
from helexa.protocol.routing import RouteHints, Target
from helexa.protocol.work import Load, ModelState, ReplicaLoad, WorkloadClass

M = ModelId("m")
HEADS = (11, 22, 33)
HINTS = RouteHints(prefixes=HEADS)
CHAT = WorkloadClass.CHAT_INTERACTIVE


def neurons(policy: str = "prefix_affinity", count: int = 3) -> Neurons:
    book = catalogue([ModelEntry(id="m", aliases=(Alias(name="any"),))])
    made = Neurons(
        policy=policies.named(policy),
        timing=Timing(1, 4),
        name="",
        monotonic=lambda: 1.0,
        random=random.Random(5).random,
        catalogue=lambda: book,
    )
    for number in range(count):
        registered = NeuronRegistered(
            descriptor=descriptor(number), capabilities=(capability(),), now_s=0
        )
        made.post(registered)
    return made


def report(made: Neurons, number: int, sequence: int, running: int, *heads: int) -> None:
    replica = ReplicaLoad(model=M, running=running, slots=4, prefixes=heads)
    load = Load(sequence=sequence, replicas=(replica,))
    made.post(HealthReported(node=node(number), load=load, now_s=1))


def first(made: Neurons) -> Target:
    return made.decide(CHAT, M, HINTS).targets[0]


def test_a_prompt_goes_where_it_was_sent_before() -> None:
    made = neurons()
    home = first(made)
    for number in range(3):
        made.started(Target(node=node(number)), M, RouteHints())
        made.finished(Target(node=node(number)), M)
    made.started(home, M, HINTS)
    made.finished(home, M)
    assert "has the first 2048 bytes" in first(made).reason
    assert first(made).node == home.node


def test_a_prompt_goes_where_a_neuron_says_that_it_was_read() -> None:
    made = neurons()
    for number in range(3):
        report(made, number, 1, 0)
    report(made, 2, 2, 0, *HEADS)
    assert first(made).node == node(2)


def test_a_model_that_was_unloaded_meanwhile_has_forgotten() -> None:
    made = neurons()
    report(made, 2, 1, 0, *HEADS)
    for state in (ModelState.UNLOADED, ModelState.LOADED):
        able = (capability(state=state),)
        made.post(CapabilitiesAnnounced(node=node(2), capabilities=able, now_s=1))
    assert not made.recall.matches(M, HEADS)


def test_a_neuron_that_lost_its_link_alone_still_has_its_prompts() -> None:
    made = neurons()
    report(made, 2, 1, 0, *HEADS)
    made.post(NeuronLeft(node=node(2), reason="x", now_s=1))
    assert first(made).node != node(2)
    made.post(NeuronRegistered(descriptor=descriptor(2), capabilities=(capability(),), now_s=2))
    assert first(made).node == node(2)


def test_a_forgotten_neuron_leaves_no_reports_behind() -> None:
    made = neurons()
    report(made, 2, 1, 0, *HEADS)
    made.post(NeuronLeft(node=node(2), reason="x", now_s=1))
    made.post(TimePassed(now_s=5000, lost_after_s=1e9, forget_after_s=10))
    assert node(2) not in made.view.neurons
    assert not made.recall._reported


def test_a_report_of_this_cortex_own_requests_does_not_count_them_twice_or_after_their_end() -> (
    None
):
    made = neurons("least_loaded", count=1)
    target = Target(node=node(0))
    for _ in range(3):
        made.started(target, M, HINTS)
    report(made, 0, 1, 5)
    assert "1.25 requests" in _pressure(made)
    for _ in range(3):
        made.finished(target, M)
    # The two that others have there are still known; the own ones are over.
    assert "0.50 requests" in _pressure(made)
    report(made, 0, 2, 0)
    assert "0.00 requests" in _pressure(made)


def _pressure(made: Neurons) -> str:
    made.post(NeuronRegistered(descriptor=descriptor(9), capabilities=(capability(),), now_s=0))
    targets = made.decide(CHAT, M, HINTS).targets
    return next(one.reason for one in targets if one.node == node(0))


def test_heads_are_wanted_only_where_they_make_a_difference() -> None:
    assert neurons().wants_prefixes(M)
    assert neurons().wants_prefixes(ModelId("any"))
    assert not neurons().wants_prefixes(ModelId("other"))
    assert not neurons(count=1).wants_prefixes(M)
    assert not neurons("least_loaded").wants_prefixes(M)
