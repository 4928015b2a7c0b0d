"""A second target is asked when the first lets wait; who answers first serves, once."""

from __future__ import annotations

import asyncio

import anyio.lowlevel
import pytest
from tests.gateway.broken import DIGEST, answer, breaking, going_on
from tests.gateway.parts import CHAT, STREAM, WHOLE, Gateway, answering, gateway_to, refusal, whole
from tests.util.http_parts import Caller, Script

from helexa.cortex.settings import SurvivalSettings

pytestmark = pytest.mark.anyio

AT_ONCE = SurvivalSettings(hedge_after_s=0.01)
FAR_OFF = SurvivalSettings(hedge_after_s=600)


class Mute:
    """A neuron that takes a request and never answers; `left` when the gateway has hung up."""

    def __init__(self) -> None:
        self.left = asyncio.Event()

    async def __call__(self, caller: Caller) -> None:
        await caller.request()
        await caller.gone()
        self.left.set()


@pytest.mark.parametrize("body", [CHAT, STREAM])
async def test_the_quicker_one_serves_and_the_other_is_dropped(body: object) -> None:
    mute = Mute()
    async with gateway_to(mute, answering(whole()), survival=AT_ONCE) as gateway:
        got = await gateway.post(body)
        assert (got.status, got.body) == (200, WHOLE)
        await asyncio.wait_for(mute.left.wait(), 10)
        assert gateway.fleet.outcomes == ["outpaced", "ok"]


async def test_a_first_one_that_is_quick_is_asked_alone() -> None:
    async with gateway_to(answering(whole()), answering(whole()), survival=FAR_OFF) as gateway:
        assert (await gateway.post(CHAT)).status == 200
        assert gateway.neurons[1].requests == []
        assert gateway.fleet.outcomes == ["ok"]


async def test_without_the_setting_nobody_else_is_asked() -> None:
    asked, go = asyncio.Event(), asyncio.Event()

    async def slow(caller: Caller) -> None:
        await caller.request()
        asked.set()
        await go.wait()
        await caller.say(whole())

    async with gateway_to(slow, answering(whole())) as gateway:
        posted = asyncio.ensure_future(gateway.post(CHAT))
        await asked.wait()
        go.set()
        assert (await posted).status == 200
        assert gateway.neurons[1].requests == []


async def test_one_that_fails_while_both_are_asked_leaves_it_to_the_other() -> None:
    second_asked = asyncio.Event()

    async def fails(caller: Caller) -> None:
        await caller.request()
        await second_asked.wait()
        caller.reset()

    async def serves(caller: Caller) -> None:
        await caller.request()
        second_asked.set()
        while "peer_lost" not in gateway.fleet.outcomes:
            await anyio.lowlevel.checkpoint()
        await caller.say(whole())

    async with gateway_to(fails, serves, survival=AT_ONCE) as gateway:
        assert (await gateway.post(CHAT)).status == 200
        assert gateway.fleet.outcomes == ["peer_lost", "ok"]


@pytest.mark.parametrize("bounds", [AT_ONCE, FAR_OFF])
async def test_when_all_fail_the_client_hears_of_the_last(bounds: SurvivalSettings) -> None:
    async def refuses(caller: Caller) -> None:
        while True:
            await caller.request()
            await caller.say(refusal(503, "overloaded"))

    async with gateway_to(refuses, refuses, refuses, survival=bounds) as gateway:
        got = await gateway.post(CHAT)
        assert (got.status, got.error["code"]) == (503, "overloaded")
        assert [len(one.requests) for one in gateway.neurons] == [1, 1, 1]


async def test_a_clients_mistake_ends_the_race() -> None:
    mute = Mute()

    async def refuses(caller: Caller) -> None:
        await caller.request()
        await caller.say(refusal(400, "invalid_body"))

    async with gateway_to(mute, refuses, answering(whole()), survival=AT_ONCE) as gateway:
        got = await gateway.post(CHAT)
        assert (got.status, got.error["code"]) == (400, "invalid_body")
        assert gateway.neurons[2].requests == []


async def test_a_client_that_leaves_takes_both_with_it() -> None:
    mutes = Mute(), Mute()
    scripts: tuple[Script, ...] = mutes

    async def both_asked(gateway: Gateway) -> None:
        while not all(one.requests for one in gateway.neurons):
            await anyio.lowlevel.checkpoint()

    async with gateway_to(*scripts, survival=AT_ONCE) as gateway:
        posted = asyncio.ensure_future(gateway.post(STREAM))
        await both_asked(gateway)
        posted.cancel()
        for one in mutes:
            await asyncio.wait_for(one.left.wait(), 10)
        while len(gateway.fleet.outcomes) < 2:
            await anyio.lowlevel.checkpoint()
        assert gateway.fleet.outcomes == ["client_gone", "client_gone"]


async def test_what_wins_is_gone_on_with_like_any_stream() -> None:
    async with gateway_to(Mute(), breaking(4), going_on(), survival=AT_ONCE) as gateway:
        _, *others = gateway.fleet.ways
        gateway.fleet.digests = dict.fromkeys(others, DIGEST)
        body = {**STREAM, "stream_options": {"include_usage": True}}
        assert (await gateway.post(body)).body == b"".join(answer())
