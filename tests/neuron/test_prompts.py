"""What a neuron remembers of the prompts that it served, and what it measured meanwhile."""

from __future__ import annotations

import json
import os
import signal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.neuron.bench import Bench, Journal, bench

from helexa.neuron.serving.doors import ApiDoor
from helexa.neuron.serving.prompts import PROMPTS_MAX, TOLD_MAX, Read
from helexa.neuron.supervisor.pace import NEWS, Pace
from helexa.protocol.ids import ModelId
from helexa.protocol.openai.body import prompt_heads
from helexa.protocol.prefix import heads
from helexa.testing.fake_runtime import FakeRuntime
from helexa.util.sockets import Address

pytestmark = pytest.mark.anyio

CHAT = "/v1/chat/completions"
M = ModelId("m")


def asked(text: str, model: str = "m") -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}]}


def held(live: Bench) -> dict[ModelId, tuple[int, ...]]:
    return {one.model: one.prefixes for one in live.executor.prompts.beside(live.roster.loads())}


async def test_the_heads_of_a_served_prompt_are_told_as_a_cortex_finds_them() -> None:
    async with bench(FakeRuntime(), {"m": 1}) as live:
        body = json.dumps(asked("word " * 500)).encode()
        assert (await live.post(CHAT, body)).status == 200
        assert held(live)[M] == prompt_heads(body, "messages")
        assert len(held(live)[M]) == 3
        text = b'{"model":"m","prompt":"%s"}' % (b"x" * 700)
        assert (await live.post("/v1/completions", text)).status == 200
        assert set(held(live)[M]) == {
            *prompt_heads(body, "messages"),
            *heads(b'"%s"' % (b"x" * 700)),
        }


async def test_short_prompts_embeddings_and_refusals_leave_nothing() -> None:
    async with bench(FakeRuntime(flags={"m": ("--answers", "status-500")}), {"m": 1}) as live:
        await live.post(CHAT, asked("word " * 500))
        await live.post("/v1/embeddings", {"model": "m", "input": "word " * 500})
        assert held(live)[M] == ()
    async with bench(FakeRuntime(), {"m": 1}) as live:
        await live.post(CHAT, asked("hi"))
        assert held(live)[M] == ()


async def test_an_unloaded_model_and_a_dead_child_have_forgotten(journal: Journal) -> None:
    async with bench(FakeRuntime(journal=journal.path), {"m": 1, "n": 1}) as live:
        await live.post(CHAT, asked("word " * 500))
        pid = (await journal.heard("started"))["pid"]
        await live.post(CHAT, asked("word " * 500, "n"))
        assert len(held(live)[M]) == len(held(live)[ModelId("n")]) == 3
        await live.roster.unload("n", 1.0)
        await live.roster.load("n")
        assert held(live)[ModelId("n")] == ()
        os.kill(pid, signal.SIGKILL)
        await live.post(CHAT, asked("hi"))
        assert held(live)[M] == ()


async def test_the_first_token_of_requests_that_did_not_wait_is_measured() -> None:
    async with bench(FakeRuntime(), {"m": 1}) as live:
        await live.post(CHAT, asked("hi"))
        # The first one waited for the load.
        assert live.roster.capability("m").first_token_s == 0
        told: list[float] = []
        live.roster.observe(lambda: told.append(live.roster.capability("m").first_token_s))
        await live.post(CHAT, asked("hi"))
        assert live.roster.capability("m").first_token_s > 0
        assert told[-1] > 0


async def test_a_cortex_may_name_the_model_beside_the_body(journal: Journal) -> None:
    async with bench(FakeRuntime(journal=journal.path), {"m": 1}) as live:
        body = b'{ "model":"fast",  "messages":[{"role":"user","content":"hi"}] }'
        assert (await live.post(CHAT, body)).status == 404
        reply = await live.post(CHAT, body, headers={"x-helexa-model": "m"})
        assert reply.status == 200
        assert json.loads((await journal.heard("request"))["body"])["model"] == "fast"
        unknown = await live.post(CHAT, body, headers={"x-helexa-model": "../../m"})
        assert (unknown.status, unknown.error["code"]) == (404, "model_not_found")


async def test_a_client_of_the_neurons_own_socket_may_not() -> None:
    door = ApiDoor(Address("127.0.0.1", 0), "token")
    async with bench(FakeRuntime(), {"m": 1, "n": 1}, door=door) as live:
        reply = await live.post(CHAT, asked("hi"), headers={"x-helexa-model": "n"})
        assert reply.status == 200
        assert [one.model for one in live.roster.loads()] == ["m"]


def test_a_prompt_that_goes_on_from_another_takes_its_place() -> None:
    read = Read(room_tokens=1000)
    read.add((1, 2), 400)
    read.add((1, 2, 3), 500)
    read.add((7,), 400)
    assert read.newest() == (7, 1, 2, 3)
    assert len(read.prompts) == 2


def test_what_the_caches_cannot_hold_any_more_is_forgotten_oldest_first() -> None:
    read = Read(room_tokens=1000)
    read.add((1,), 400)
    read.add((2,), 400)
    read.add((1,), 400)
    read.add((3,), 400)
    assert read.newest() == (3, 1)
    read.add((4,), 5000)
    assert read.newest() == (4,)


@given(
    st.lists(st.tuples(st.lists(st.integers(0, 300), min_size=1, max_size=10), st.integers(0, 90)))
)
def test_the_memory_is_bounded_and_the_newest_prompt_is_told_first(
    prompts: list[tuple[list[int], int]],
) -> None:
    read = Read(room_tokens=300)
    for found, tokens in prompts:
        read.add(found, tokens)
        told = read.newest()
        assert len(told) == len(set(told)) <= TOLD_MAX
        assert list(told[: len(set(found))]) == list(dict.fromkeys(found))
        assert len(read.prompts) <= PROMPTS_MAX
        assert sum(one for _, one in read.prompts.values()) <= max(300, tokens)


def test_many_short_prompts_are_bounded_by_their_number() -> None:
    read = Read(room_tokens=1 << 40)
    for number in range(PROMPTS_MAX * 2):
        read.add((number,), 1)
    assert len(read.prompts) == PROMPTS_MAX
    assert len(read.newest()) == TOLD_MAX


def test_a_pace_is_smoothed_and_told_when_it_changed_much() -> None:
    pace = Pace()
    assert pace.of(M) == 0
    assert pace.measured(M, 10.0)
    assert not pace.measured(M, 11.0)
    assert 10 < pace.of(M) < 11
    assert pace.measured(M, 10.0 * (1 + NEWS) * 4)
    assert not pace.measured(M, pace.of(M))
