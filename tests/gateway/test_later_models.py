"""A request that names several models gets to each, however many nodes have the first and fail."""

from __future__ import annotations

from typing import Any

import pytest
from tests.gateway.parts import CHAT, MODEL, WHOLE, Gateway, answering, gateway_to, refusal, whole
from tests.util.http_parts import Caller

from helexa.cortex.gateway.dispatch import ATTEMPTS_MAX
from helexa.protocol.errors import NoCapacity
from helexa.protocol.ids import ModelId
from helexa.protocol.routing import RouteHints, RoutingDecision, Target
from helexa.protocol.work import WorkloadClass

pytestmark = pytest.mark.anyio

OTHER = ModelId("n")
BODY = {**CHAT, "models": [OTHER]}


async def fails(caller: Caller) -> None:
    while True:
        await caller.request()
        await caller.say(refusal(503, "runtime_exited"))


def lead(gateway: Gateway, *, at_once: bool, ready: bool = True) -> list[RouteHints]:
    """The last neuron has the other model, which a decision names `at_once` or when it is asked
    for by itself; the hints of those that were.
    """
    *first, last = gateway.fleet.ways
    alone: list[RouteHints] = []

    def route(workload: WorkloadClass, model: ModelId, hints: RouteHints) -> RoutingDecision:
        if model == OTHER:
            alone.append(hints)
            if not ready:
                raise NoCapacity("nobody has it")
            return RoutingDecision(model=OTHER, workload=workload, targets=(Target(node=last),))
        targets = [Target(node=node) for node in first]
        if at_once:
            targets.append(Target(node=last, model=OTHER))
        return RoutingDecision(
            model=MODEL, workload=workload, targets=tuple(targets), choices=(MODEL, OTHER)
        )

    fleet: Any = gateway.fleet
    fleet.route = route
    return alone


@pytest.mark.parametrize("at_once", [True, False])
async def test_the_next_model_is_tried_after_the_first_ones_few(at_once: bool) -> None:
    neurons = [fails] * (ATTEMPTS_MAX + 1)
    async with gateway_to(*neurons, answering(whole())) as gateway:
        alone = lead(gateway, at_once=at_once)
        answer = await gateway.post(BODY)
        assert (answer.status, answer.body) == (200, WHOLE)
        asked = [len(one.requests) for one in gateway.neurons]
        assert asked == [1] * ATTEMPTS_MAX + [0, 1]
        assert b"x-helexa-model: n" in gateway.neurons[-1].requests[0].lower()
        assert len(alone) == (not at_once)
        assert gateway.fleet.outcomes == ["runtime_exited"] * ATTEMPTS_MAX + ["ok"]


async def test_where_the_next_model_is_nowhere_the_first_ones_words_are_the_answer() -> None:
    async with gateway_to(fails, answering(whole())) as gateway:
        lead(gateway, at_once=False, ready=False)
        answer = await gateway.post(BODY)
        assert (answer.status, answer.error["code"]) == (503, "runtime_exited")


async def test_a_request_that_the_first_model_serves_looks_for_no_other() -> None:
    async with gateway_to(answering(whole()), answering(whole())) as gateway:
        alone = lead(gateway, at_once=False)
        assert (await gateway.post(BODY)).status == 200
        assert alone == []
