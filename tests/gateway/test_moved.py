"""A model that is being moved between neurons: a client hears of it only when it takes too long."""

from __future__ import annotations

import json

import pytest
from tests.gateway.parts import CHAT, WHOLE, gateway_to, refusal, whole
from tests.util.http_parts import Caller, Script

pytestmark = pytest.mark.anyio


def refusing(times: int, code: str) -> Script:
    """A neuron that has no room for the model at first."""
    left = [times]

    async def script(caller: Caller) -> None:
        while True:
            await caller.request()
            left[0] -= 1
            await caller.say(refusal(507, code) if left[0] >= 0 else whole())

    return script


async def test_a_request_that_met_a_move_on_every_neuron_is_served_after_it() -> None:
    neurons = (refusing(2, "does_not_fit"), refusing(2, "does_not_fit"))
    async with gateway_to(*neurons) as gateway:
        gateway.fleet.brings_models = True
        answer = await gateway.post(CHAT)
        assert (answer.status, answer.body) == (200, WHOLE)


async def test_a_model_that_moves_all_the_time_is_a_503_that_says_when_to_come_back() -> None:
    async with gateway_to(refusing(1_000, "does_not_fit")) as gateway:
        gateway.fleet.brings_models = True
        answer = await gateway.post(CHAT)
        assert answer.status == 503
        assert answer.error["code"] == "model_loading"
        assert int(answer.headers["retry-after"]) >= 1


async def test_where_nothing_is_brought_the_neuron_s_own_words_are_the_answer() -> None:
    async with gateway_to(refusing(1_000, "does_not_fit")) as gateway:
        answer = await gateway.post(CHAT)
        assert answer.status == 507
        assert json.loads(answer.body)["error"]["code"] == "does_not_fit"
