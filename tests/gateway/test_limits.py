"""What keys may ask for, and their turns, at a real gateway."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from tests.gateway.parts import (
    CHAT,
    DONE,
    SSE_HEAD,
    STREAM,
    USAGE,
    Gateway,
    Grant,
    answering,
    gateway_to,
    streaming,
    token,
    whole,
)
from tests.util.http_parts import Caller, raw_client

from helexa.cortex.accounts.limits import NO_LIMITS, Bounds, Limits, bounds
from helexa.cortex.settings import LimitsSettings

pytestmark = pytest.mark.anyio

COUNTED = (
    b'{"id":"x","choices":[{"message":{"content":"hello"}}],'
    b'"usage":{"prompt_tokens":30,"completion_tokens":20}}'
)


def limited(gateway: Gateway, secret: str, *, account: str = "", **said: Any) -> Grant:
    """A key that says this."""
    grant = Grant(f"key_{secret}", account or secret, holds(**said))
    gateway.keys.others[secret] = grant
    return grant


def holds(**said: Any) -> Bounds:
    return bounds(LimitsSettings(), NO_LIMITS, Limits(**said))


class Held:
    """A neuron that answers when it is told to, and remembers who asked in which order."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.news = anyio.Event()
        self._free = asyncio.Semaphore(0)

    async def script(self, caller: Caller) -> None:
        while True:
            request = await caller.request()
            self.asked.append(json.loads(request.partition(b"\r\n\r\n")[2])["user"])
            news, self.news = self.news, anyio.Event()
            news.set()
            await self._free.acquire()
            await caller.say(whole(COUNTED))

    def answer(self, count: int = 1) -> None:
        for _ in range(count):
            self._free.release()

    async def until_asked(self, count: int) -> None:
        while len(self.asked) < count:
            await self.news.wait()


async def queued(gateway: Gateway, count: int) -> None:
    """Return when so many wait for their turn."""
    await until(lambda: _queued(gateway) == count)


async def until(look: Callable[[], object]) -> None:
    with anyio.fail_after(20):
        while not look():
            await checkpoint()


def _queued(gateway: Gateway) -> float:
    return sum(
        sample.value
        for metric in gateway.metrics.registry.collect()
        for sample in metric.samples
        if sample.name == "helexa_gateway_queue"
    )


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/models/m"])
async def test_a_model_that_the_key_may_not_use_is_refused_by_name(path: str) -> None:
    async with gateway_to(answering(whole())) as gateway:
        limited(gateway, "narrow", models=("other", "team/*"))
        method = "GET" if "models" in path else "POST"
        answer = await gateway.post(CHAT, path, key="narrow", method=method)
        assert (answer.status, answer.error["code"]) == (403, "model_not_allowed")
        assert answer.error["param"] == "model"
        assert (await gateway.get("/v1/models", key="narrow")).json["data"] == []
        assert gateway.neurons[0].requests == []
        assert len((await gateway.get("/v1/models")).json["data"]) == 1


async def test_requests_a_second_are_bounded_with_a_true_time_to_come_back() -> None:
    async with gateway_to(answering(whole())) as gateway:
        limited(gateway, "slow", requests_per_s=0.01, requests_burst=2)
        answers = [await gateway.post(CHAT, key="slow") for _ in range(3)]
        assert [one.status for one in answers] == [200, 200, 429]
        assert [one.headers["x-ratelimit-remaining-requests"] for one in answers] == ["1", "0", "0"]
        last = answers[-1]
        assert last.error["code"] == "rate_limit_exceeded"
        assert last.headers["x-ratelimit-limit-requests"] == "2"
        assert last.headers["retry-after"] == "100"
        assert (await gateway.post(CHAT)).status == 200, "another key has its own"


async def test_a_changed_limit_holds_for_the_next_request() -> None:
    async with gateway_to(answering(whole())) as gateway:
        limited(gateway, "k", requests_per_s=0.01, requests_burst=1)
        assert (await gateway.post(CHAT, key="k")).status == 200
        assert (await gateway.post(CHAT, key="k")).status == 429
        limited(gateway, "k", requests_per_s=0.01, requests_burst=3)
        assert (await gateway.post(CHAT, key="k")).status == 200
        limited(gateway, "k")
        answer = await gateway.post(CHAT, key="k")
        assert answer.status == 200
        assert not [name for name in answer.headers if name.startswith("x-ratelimit")]


async def test_tokens_a_minute_are_settled_by_what_was_counted() -> None:
    async with gateway_to(answering(whole(COUNTED))) as gateway:
        limited(gateway, "k", tokens_per_minute=1_000)
        for _ in range(5):
            assert (await gateway.post(CHAT, key="k")).status == 200
        answer = await gateway.post({**CHAT, "max_tokens": 10}, key="k")
        # Five times fifty were counted; what the sixth may come to is taken, too.
        left = int(answer.headers["x-ratelimit-remaining-tokens"])
        assert 1_000 - 250 - 60 <= left <= 1_000 - 250
        assert answer.headers["x-ratelimit-limit-tokens"] == "1000"


async def test_tokens_that_are_used_up_have_to_be_waited_for() -> None:
    async with gateway_to(answering(whole(COUNTED))) as gateway:
        limited(gateway, "k", tokens_per_minute=60)
        statuses = [(await gateway.post(CHAT, key="k")).status for _ in range(4)]
        assert statuses[0] == 200
        assert statuses[-1] == 429
        answer = await gateway.post(CHAT, key="k")
        assert int(answer.headers["retry-after"]) >= 20


async def test_a_stream_is_settled_too_and_one_that_broke_off_by_what_was_delivered() -> None:
    async with gateway_to(streaming(token("a"), USAGE, DONE)) as gateway:
        limited(gateway, "k", tokens_per_minute=1_000)
        await gateway.post(STREAM, key="k")
        answer = await gateway.post({**STREAM, "max_tokens": 1}, key="k")
        left = int(answer.headers["x-ratelimit-remaining-tokens"])
        assert 1_000 - 17 - 30 <= left <= 1_000 - 17


async def test_requests_at_once_are_bounded_for_a_key_and_for_its_account() -> None:
    neuron = Held()
    async with gateway_to(neuron.script) as gateway, anyio.create_task_group() as tasks:
        limited(gateway, "k", concurrent=1)
        both = bounds(LimitsSettings(), Limits(concurrent=2), Limits())
        for secret in ("a", "b", "c"):
            gateway.keys.others[secret] = Grant(secret, "firm", both)
        for secret in ("k", "a", "b"):
            tasks.start_soon(lambda key=secret: gateway.post({**CHAT, "user": key}, key=key))
        await neuron.until_asked(3)
        for secret in ("k", "c"):
            answer = await gateway.post({**CHAT, "user": "x"}, key=secret)
            assert (answer.status, answer.error["code"]) == (429, "rate_limit_exceeded")
            assert "retry-after" in answer.headers
        neuron.answer(3)
    assert sorted(neuron.asked) == ["a", "b", "k"]


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
async def test_an_answer_that_may_not_be_so_long_is_refused_by_field(field: str) -> None:
    async with gateway_to(answering(whole())) as gateway:
        limited(gateway, "k", output_tokens_max=100)
        answer = await gateway.post({**CHAT, field: 101}, key="k")
        assert (answer.status, answer.error["code"]) == (400, "key_limit_exceeded")
        assert answer.error["param"] == field
        assert (await gateway.post({**CHAT, field: 100}, key="k")).status == 200


@pytest.mark.parametrize("body", [b'{"model":"m","messages":[{"role":"user","content":"hi"}] }\n'])
async def test_an_answer_without_an_end_gets_the_keys_own_and_nothing_else_is_changed(
    body: bytes,
) -> None:
    async with gateway_to(answering(whole())) as gateway:
        limited(gateway, "k", output_tokens_max=100)
        await gateway.post(body, key="k")
        sent = gateway.neurons[0].requests[0].partition(b"\r\n\r\n")[2]
        assert sent == body.rstrip()[:-1] + b',"max_tokens":100}'
        await gateway.post(body)
        assert gateway.neurons[0].requests[1].partition(b"\r\n\r\n")[2] == body


async def test_a_prompt_that_is_too_long_is_refused_before_anybody_reads_it() -> None:
    async with gateway_to(answering(whole())) as gateway:
        limited(gateway, "k", prompt_tokens_max=100)
        long = {"model": "m", "messages": [{"role": "user", "content": "x" * 2_000}]}
        answer = await gateway.post(long, key="k")
        assert (answer.status, answer.error["param"]) == (400, "messages")
        assert (await gateway.post(CHAT, key="k")).status == 200
        assert len(gateway.neurons[0].requests) == 1


async def test_accounts_take_turns_however_many_requests_one_of_them_sends() -> None:
    neuron = Held()
    settings = LimitsSettings(overcommit=0)
    async with (
        gateway_to(neuron.script, limits=settings) as gateway,
        anyio.create_task_group() as tasks,
    ):
        gateway.fleet.slots_each = 1
        for secret in ("greedy", "modest"):
            limited(gateway, secret)
        for number in range(6):
            tasks.start_soon(_asking(gateway, "greedy"))
            await queued(gateway, number)
        tasks.start_soon(_asking(gateway, "modest"))
        await queued(gateway, 6)
        neuron.answer(7)
    assert neuron.asked.index("modest") <= 2
    assert len(neuron.asked) == 7
    assert gateway.value("helexa_gateway_queued_total", model="m", rank="interactive") == 6


def _asking(gateway: Gateway, key: str, **more: Any) -> Any:
    headers = more.pop("headers", ())

    async def ask() -> None:
        answer = await gateway.post({**CHAT, "user": key, **more}, key=key, headers=headers)
        assert answer.status == 200

    return ask


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"headers": [(b"x-helexa-priority", b"bulk")]}, {}),
        ({"service_tier": "flex"}, {}),
        ({}, {"priority": "bulk"}),
        ({"headers": [(b"x-helexa-priority", b"interactive")]}, {"priority": "bulk"}),
    ],
)
async def test_what_is_bulk_goes_after_what_somebody_watches(
    more: dict[str, Any], said: dict[str, Any]
) -> None:
    neuron = Held()
    settings = LimitsSettings(overcommit=0)
    async with (
        gateway_to(neuron.script, limits=settings) as gateway,
        anyio.create_task_group() as tasks,
    ):
        gateway.fleet.slots_each = 1
        limited(gateway, "bulk", **said)
        limited(gateway, "watched")
        tasks.start_soon(_asking(gateway, "watched"))
        await neuron.until_asked(1)
        tasks.start_soon(_asking(gateway, "bulk", **more))
        await queued(gateway, 1)
        tasks.start_soon(_asking(gateway, "watched"))
        await queued(gateway, 2)
        neuron.answer(3)
    assert neuron.asked == ["watched", "watched", "bulk"]


async def test_a_priority_that_is_none_is_refused() -> None:
    async with gateway_to(answering(whole())) as gateway:
        answer = await gateway.post(CHAT, headers=[(b"x-helexa-priority", b"urgent")])
        assert (answer.status, answer.error["param"]) == (400, "x-helexa-priority")


async def test_a_client_that_leaves_the_queue_is_not_asked_for() -> None:
    neuron = Held()
    settings = LimitsSettings(overcommit=0)
    async with (
        gateway_to(neuron.script, limits=settings) as gateway,
        anyio.create_task_group() as tasks,
    ):
        gateway.fleet.slots_each = 1
        for secret in ("first", "leaves", "last"):
            limited(gateway, secret)
        tasks.start_soon(_asking(gateway, "first"))
        await neuron.until_asked(1)
        with anyio.CancelScope() as scope:

            async def leave() -> None:
                await queued(gateway, 1)
                tasks.start_soon(_asking(gateway, "last"))
                await queued(gateway, 2)
                scope.cancel()

            tasks.start_soon(leave)
            await gateway.post({**CHAT, "user": "leaves"}, key="leaves")
        await queued(gateway, 1)
        neuron.answer(2)
    assert neuron.asked == ["first", "last"]


async def test_a_stream_in_the_queue_shows_comments_and_then_its_answer() -> None:
    gate = anyio.Event()

    async def script(caller: Caller) -> None:
        while True:
            await caller.request()
            await gate.wait()
            await caller.say(SSE_HEAD)
            for piece in (token("a"), DONE):
                await caller.say_chunk(piece)
            await caller.say(b"0\r\n\r\n")

    settings = LimitsSettings(overcommit=0)
    async with (
        gateway_to(script, limits=settings, keepalive_s=0.05) as gateway,
        anyio.create_task_group() as tasks,
    ):
        gateway.fleet.slots_each = 1
        tasks.start_soon(gateway.post, STREAM)
        await until(lambda: gateway.neurons[0].requests)
        async with raw_client(gateway.port) as client:
            body = json.dumps(STREAM).encode()
            await client.say(
                b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n"
                b"authorization: Bearer hx_live_good\r\ncontent-length: %d\r\n\r\n%s"
                % (len(body), body)
            )
            assert b": queued\n\n" in await client.reader.readuntil(b": queued\n\n")
            gate.set()
            assert token("a") in await client.reader.readuntil(b"[DONE]")


async def test_who_cannot_be_served_in_its_time_is_told_so_at_once_or_when_it_is_over() -> None:
    neuron = Held()
    settings = LimitsSettings(overcommit=0)
    async with (
        gateway_to(neuron.script, limits=settings) as gateway,
        anyio.create_task_group() as tasks,
    ):
        gateway.fleet.slots_each = 1
        limited(gateway, "k")
        tasks.start_soon(_asking(gateway, "k"))
        await neuron.until_asked(1)
        for header in (b"x-helexa-max-wait", b"x-helexa-deadline"):
            answer = await gateway.post({**CHAT, "user": "late"}, headers=[(header, b"0.05")])
            assert (answer.status, answer.error["code"]) == (503, "deadline_passed")
            assert int(answer.headers["retry-after"]) >= 1
        answer = await gateway.post(CHAT, headers=[(b"x-helexa-deadline", b"soon")])
        assert (answer.status, answer.error["param"]) == (400, "x-helexa-deadline")
        neuron.answer(1)
    assert neuron.asked == ["k"]


async def test_a_deadline_holds_where_nobody_waits_and_not_for_who_was_let_in() -> None:
    neuron = Held()
    async with (
        gateway_to(neuron.script, limits=LimitsSettings(overcommit=0)) as gateway,
        anyio.create_task_group() as tasks,
    ):
        gateway.fleet.slots_each = 2
        limited(gateway, "k")
        for said in (b"soon", b"-1", b"nan", b"inf", b"86401"):
            answer = await gateway.post(CHAT, headers=[(b"x-helexa-deadline", said)])
            assert (answer.status, answer.error["param"]) == (400, "x-helexa-deadline")
        for said in (b"0", b"0.0001"):
            answer = await gateway.post(CHAT, headers=[(b"x-helexa-deadline", said)])
            assert (answer.status, answer.error["code"]) == (503, "deadline_passed")
            assert int(answer.headers["retry-after"]) >= 1
        assert neuron.asked == []

        async def ask() -> None:
            late = [(b"x-helexa-deadline", b"0.05")]
            answer = await gateway.post({**CHAT, "user": "k"}, key="k", headers=late)
            assert answer.status == 200

        tasks.start_soon(ask)
        await neuron.until_asked(1)
        await anyio.sleep(0.1)  # Past the deadline that it gave itself.
        neuron.answer(1)


async def test_a_full_queue_sends_the_greedy_away_and_lets_the_modest_in() -> None:
    neuron = Held()
    settings = LimitsSettings(overcommit=0)
    async with (
        gateway_to(neuron.script, limits=settings, queue_max=4) as gateway,
        anyio.create_task_group() as tasks,
    ):
        gateway.fleet.slots_each = 1
        for secret in ("greedy", "modest"):
            limited(gateway, secret)
        statuses: list[int] = []

        async def ask() -> None:
            answer = await gateway.post({**CHAT, "user": "greedy"}, key="greedy")
            statuses.append(answer.status)
            assert answer.status == 200 or answer.error["code"] == "queue_full"

        for number in range(4):
            tasks.start_soon(ask)
            await queued(gateway, number)
        assert (await gateway.post(CHAT, key="greedy")).status == 429
        tasks.start_soon(_asking(gateway, "modest"))
        await until(lambda: statuses)
        assert statuses == [429]
        neuron.answer(4)
    assert sorted(statuses) == [200, 200, 200, 429]


async def test_without_a_key_nobody_is_served_unless_the_operator_says_so() -> None:
    async with gateway_to(answering(whole())) as gateway:
        assert (await gateway.post(CHAT, key=None)).status == 401
    settings = LimitsSettings(anonymous=True, anonymous_requests_per_minute=2)
    async with gateway_to(answering(whole()), limits=settings) as gateway:
        answers = [await gateway.post(CHAT, key=None) for _ in range(3)]
        assert [one.status for one in answers] == [200, 200, 429]
        assert (await gateway.post(CHAT, key="hx_live_wrong")).status == 401
        basic = [(b"authorization", b"Basic abc")]
        assert (await gateway.post(CHAT, key=None, headers=basic)).status == 401
        sent = gateway.neurons[0].requests[0]
        assert sent.endswith(b',"max_tokens":512}')
    settings = LimitsSettings(anonymous=True, anonymous_models=("other",))
    async with gateway_to(answering(whole()), limits=settings) as gateway:
        assert (await gateway.post(CHAT, key=None)).error["code"] == "model_not_allowed"
        assert (await gateway.get("/v1/models", key=None)).json["data"] == []


async def test_those_without_a_key_get_what_is_left_over() -> None:
    neuron = Held()
    settings = LimitsSettings(anonymous=True, overcommit=1.0)
    async with (
        gateway_to(neuron.script, limits=settings) as gateway,
        anyio.create_task_group() as tasks,
    ):
        gateway.fleet.slots_each = 1
        limited(gateway, "k")
        tasks.start_soon(_asking(gateway, "k"))
        await neuron.until_asked(1)

        async def stranger() -> None:
            answer = await gateway.post({**CHAT, "user": "stranger"}, key=None)
            assert answer.status == 200

        tasks.start_soon(stranger)
        await queued(gateway, 1)
        for number in range(2):
            # One more with a key goes at once, and one before the stranger.
            tasks.start_soon(_asking(gateway, "k"))
            await queued(gateway, 1 + number)
        neuron.answer(4)
    assert neuron.asked == ["k", "k", "k", "stranger"]


async def test_a_model_that_goes_while_requests_wait_ends_their_wait() -> None:
    """No slots known means that everybody goes, to hear there what is the matter."""
    neuron = Held()
    settings = LimitsSettings(overcommit=0)
    async with (
        gateway_to(neuron.script, limits=settings) as gateway,
        anyio.create_task_group() as tasks,
    ):
        gateway.fleet.slots_each = 1
        limited(gateway, "k")
        tasks.start_soon(_asking(gateway, "k"))
        await neuron.until_asked(1)
        tasks.start_soon(_asking(gateway, "k"))
        await queued(gateway, 1)
        gateway.fleet.slots_each = None
        await neuron.until_asked(2)
        neuron.answer(2)
