"""A stream whose neuron dies goes on by another, and its client sees one."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from tests.gateway.broken import (
    DIGEST,
    PROMPT_TOKENS,
    WORDS,
    answer,
    breaking,
    chunk,
    cleanly,
    going_on,
    handed,
    in_band,
)
from tests.gateway.parts import DONE, SSE_HEAD, STREAM, Gateway, gateway_to, refusal
from tests.util.http_parts import Caller, Script

from helexa.cortex.settings import SurvivalSettings
from helexa.protocol.ids import NodeId

pytestmark = pytest.mark.anyio

SHOWN = {**STREAM, "stream_options": {"include_usage": True}}
UNDISTURBED = b"".join(answer())
ENDS: dict[str, Callable[[], Script]] = {
    "killed": lambda: breaking(4),
    "killed inside an event": lambda: breaking(4, last=b'data: {"choices":[{"ind'),
    "killed behind the role": lambda: breaking(1),
    "killed before the finish": lambda: breaking(1 + len(WORDS)),
    "killed before the counts": lambda: breaking(2 + len(WORDS)),
    "killed before the mark of the end": lambda: breaking(3 + len(WORDS)),
    "ended without a finish": lambda: breaking(4, ends=cleanly),
    "its runtime exited": lambda: breaking(4, last=in_band("runtime_exited"), ends=cleanly),
    "it drains": lambda: breaking(4, last=in_band("draining"), ends=cleanly),
    "a peer could not go on": lambda: breaking(4, last=in_band("stream_interrupted")),
}


def same_weights(gateway: Gateway) -> None:
    gateway.fleet.digests = dict.fromkeys(gateway.fleet.ways, DIGEST)


def code_of(event: str) -> str:
    return str(json.loads(event)["error"]["code"])


@pytest.mark.parametrize("end", ENDS)
async def test_the_client_sees_one_stream(end: str) -> None:
    async with gateway_to(ENDS[end](), going_on()) as gateway:
        same_weights(gateway)
        got = await gateway.post(SHOWN)
        assert got.body == UNDISTURBED
        assert gateway.value("helexa_gateway_tokens_total", kind="completion") == len(WORDS)
        assert gateway.value("helexa_gateway_tokens_total", kind="prompt_uncached") == (
            PROMPT_TOKENS - 1
        )
        assert gateway.value("helexa_gateway_continuations_total", outcome="completed") == 1


async def test_who_did_not_ask_for_usage_sees_none() -> None:
    async with gateway_to(breaking(4), going_on()) as gateway:
        same_weights(gateway)
        events = answer()
        assert (await gateway.post(STREAM)).body == b"".join([*events[:-2], DONE])


async def test_whoever_goes_on_is_told_exactly_what_was_delivered() -> None:
    async with gateway_to(breaking(4), going_on()) as gateway:
        same_weights(gateway)
        await gateway.post(SHOWN)
        asked = handed(gateway.neurons[1].requests[0])
        assert (asked.path, asked.model, asked.digest) == ("/v1/chat/completions", "m", DIGEST)
        told = asked.delivered
        assert (told.id, told.created, told.model) == ("chatcmpl-7", 5, "m")
        assert [one.content for one in told.choices] == [WORDS[:3]]
        assert json.loads(bytes(asked.request)) == SHOWN


async def test_three_neurons_one_after_the_other_make_one_answer() -> None:
    neurons = (breaking(3), going_on(stops_after=2), going_on(stops_after=1), going_on())
    async with gateway_to(*neurons) as gateway:
        same_weights(gateway)
        assert (await gateway.post(SHOWN)).body == UNDISTURBED
        assert gateway.value("helexa_gateway_tokens_total", kind="completion") == len(WORDS)
        assert gateway.fleet.outcomes == ["peer_lost", "peer_lost", "peer_lost", "ok"]


async def test_where_nobody_else_is_there_the_same_neuron_goes_on_when_it_is_back() -> None:
    served = [0]

    async def restarting(caller: Caller) -> None:
        served[0] += 1
        if served[0] == 1:
            await breaking(4)(caller)
        elif served[0] == 2:
            await caller.request()
            await caller.say(refusal(503, "runtime_exited"))
        else:
            await going_on()(caller)

    async with gateway_to(restarting) as gateway:
        same_weights(gateway)
        assert (await gateway.post(SHOWN)).body == UNDISTURBED


async def test_other_weights_never_go_on() -> None:
    bounds = SurvivalSettings(resume_within_s=0.1)
    async with gateway_to(breaking(4), going_on(), survival=bounds) as gateway:
        gateway.fleet.digests = {
            node: f"sha256:{number}" for number, node in enumerate(gateway.fleet.ways)
        }
        got = await gateway.post(SHOWN)
        assert code_of(got.events[-1]) == "stream_interrupted"
        assert gateway.neurons[1].requests == []
        assert b"".join(answer()[:4]) in got.body
        assert b"[DONE]" not in got.body


@pytest.mark.parametrize(
    ("why", "status", "code"),
    [("cannot", 409, "not_continuable"), ("is too old", 404, "unknown_url")],
)
async def test_who_will_not_go_on_is_asked_once_and_the_client_hears_why(
    why: str, status: int, code: str
) -> None:
    async def refuses(caller: Caller) -> None:
        while True:
            await caller.request()
            await caller.say(refusal(status, code))

    async with gateway_to(breaking(4), refuses) as gateway:
        same_weights(gateway)
        got = await gateway.post(SHOWN)
        assert code_of(got.events[-1]) == "stream_interrupted"
        assert len(gateway.neurons[1].requests) == 1
        assert gateway.value("helexa_gateway_continuations_total", outcome="not_continuable") == 1


async def test_a_refusal_inside_the_stream_of_who_goes_on_is_none_of_the_clients() -> None:
    async def refuses(caller: Caller) -> None:
        await caller.request()
        await caller.say(SSE_HEAD)
        await caller.say_chunk(b": keepalive\n\n")
        await caller.say_chunk(in_band("not_continuable"))
        await caller.say(b"0\r\n\r\n")

    async with gateway_to(breaking(4), refuses, going_on()) as gateway:
        same_weights(gateway)
        got = await gateway.post(SHOWN)
        assert got.body.replace(b": keepalive\n\n", b"") == UNDISTURBED


@pytest.mark.parametrize(
    ("headers", "settings"),
    [
        (((b"x-helexa-resume", b"off"),), {}),
        ((), {"survival": SurvivalSettings(resume=False)}),
    ],
)
async def test_who_does_not_want_it_gets_the_error(headers: Any, settings: dict[str, Any]) -> None:
    async with gateway_to(breaking(4), going_on(), **settings) as gateway:
        same_weights(gateway)
        got = await gateway.post(SHOWN, headers=headers)
        assert code_of(got.events[-1]) == "peer_lost"
        assert gateway.neurons[1].requests == []


async def test_a_wish_that_is_none_is_a_400_that_names_the_header() -> None:
    async with gateway_to(going_on()) as gateway:
        got = await gateway.post(SHOWN, headers=((b"x-helexa-resume", b"perhaps"),))
        assert (got.status, got.error["param"]) == (400, "x-helexa-resume")


async def test_what_is_too_long_to_be_kept_is_not_gone_on_with_and_says_so() -> None:
    long = chunk({"content": "x" * 1_000})

    async def breaks(caller: Caller) -> None:
        await caller.request()
        await caller.say(SSE_HEAD)
        for _ in range(200):
            await caller.say_chunk(long)
        caller.reset()

    bounds = SurvivalSettings(resume_bytes_max=64 * 1024)
    async with gateway_to(breaks, going_on(), survival=bounds) as gateway:
        same_weights(gateway)
        got = await gateway.post(STREAM)
        assert code_of(got.events[-1]) == "stream_interrupted"
        assert gateway.value("helexa_gateway_continuations_total", outcome="too_long") == 1


async def test_a_stream_that_always_breaks_off_ends() -> None:
    bounds = SurvivalSettings(resume_attempts_max=3)
    neurons = (breaking(2), *(going_on(stops_after=1) for _ in range(3)))
    async with gateway_to(*neurons, survival=bounds) as gateway:
        same_weights(gateway)
        got = await gateway.post(STREAM)
        assert code_of(got.events[-1]) == "stream_interrupted"
        assert gateway.value("helexa_gateway_continuations_total", outcome="too_often") == 1


@pytest.mark.parametrize("first", [b"", b": keepalive\n\n", in_band("runtime_exited")])
async def test_before_the_first_word_it_is_begun_anew_by_whatever_weights(first: bytes) -> None:
    async def dies(caller: Caller) -> None:
        await caller.request()
        await caller.say(SSE_HEAD)
        if first:
            await caller.say_chunk(first)
        caller.reset()

    async def serves(caller: Caller) -> None:
        await caller.request()
        await caller.say(SSE_HEAD)
        for event in answer():
            await caller.say_chunk(event)
        await caller.say(b"0\r\n\r\n")

    async with gateway_to(dies, serves) as gateway:
        gateway.fleet.digests[NodeId("f" * 64)] = DIGEST
        got = await gateway.post(SHOWN)
        assert got.body.replace(b": keepalive\n\n", b"") == UNDISTURBED


@pytest.mark.parametrize(
    "last",
    [
        in_band("runtime_exited"),
        in_band("runtime_exited").replace(b"}}\n\n", b"} }\n\n"),
        in_band("runtime_exited") + DONE,
        in_band("runtime_exited").replace(b"\n", b"\r\n"),
    ],
)
@pytest.mark.parametrize("before", [b"", answer()[4]])
async def test_an_error_of_a_node_never_reaches_the_client_however_it_is_packed(
    before: bytes, last: bytes
) -> None:
    async with gateway_to(breaking(4, last=before + last, ends=cleanly), going_on()) as gateway:
        same_weights(gateway)
        assert (await gateway.post(SHOWN)).body == UNDISTURBED


async def test_the_word_error_in_an_answer_is_an_answer() -> None:
    word = chunk({"content": '{"error": {"message": "x"}}'})
    odd = chunk({}, error=None, more={"error": {}})

    async def serves(caller: Caller) -> None:
        await caller.request()
        await caller.say(SSE_HEAD)
        for event in (word, odd, chunk({}, "stop"), DONE):
            await caller.say_chunk(event)
        await caller.say(b"0\r\n\r\n")

    async with gateway_to(serves) as gateway:
        got = await gateway.post(STREAM)
        assert got.body == word + odd + chunk({}, "stop") + DONE
