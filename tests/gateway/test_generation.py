"""`/v1/generation`: what became of a request, for its own account, as long as it is kept."""

from __future__ import annotations

import pytest
from tests.gateway.parts import (
    CHAT,
    DONE,
    KEY,
    MODEL,
    STREAM,
    USAGE,
    Answer,
    Gateway,
    Grant,
    MemoryKeys,
    answering,
    gateway_to,
    refusal,
    streaming,
    token,
    whole,
)

from helexa.cortex.gateway.ingress import Ingress
from helexa.cortex.gateway.receipts import Receipts, cost
from helexa.cortex.gateway.seams import Attempt, Ticket, Visit
from helexa.cortex.orchestrator.federation.wish import policy_id
from helexa.cortex.orchestrator.labels import label
from helexa.protocol.ids import NodeId, RequestId
from helexa.protocol.openai.requests import Head
from helexa.protocol.routing import Target, Wish
from helexa.protocol.work import Price, Usage, WorkloadClass

pytestmark = pytest.mark.anyio


async def told(gateway: Gateway, answer: Answer, key: str = KEY) -> Answer:
    return await gateway.get(f"/v1/generation?id={answer.headers['x-helexa-request-id']}", key=key)


async def test_a_stream_that_took_two_tries_tells_both_and_what_it_cost() -> None:
    first, second = answering(refusal(503, "overloaded")), streaming(token("a"), USAGE, DONE)
    async with gateway_to(first, second) as gateway:
        gateway.fleet.price = Price(prompt_uncached=10, prompt_cached=1, completion=100)
        policy = (b"x-helexa-policy", b"not=x; only=b,a")
        answer = await gateway.post(STREAM, headers=[policy])
        shown = (await told(gateway, answer)).json["data"]
        assert shown["id"] == answer.headers["x-helexa-request-id"]
        assert (shown["model"], shown["streamed"], shown["cancelled"]) == ("m", True, False)
        assert (shown["tokens_prompt"], shown["native_tokens_cached"]) == (10, 4)
        assert (shown["tokens_completion"], shown["native_tokens_reasoning"]) == (7, 2)
        nano = 6 * 10 + 4 * 1 + 5 * 100
        assert shown["total_cost"] == nano / 1e9
        assert shown["provider_name"] == "0001"
        assert shown["latency"] >= 0
        more = shown["helexa"]
        assert (more["outcome"], more["path"], more["cost_nano"]) == (
            "ok", "/v1/chat/completions", nano,
        )  # fmt: skip
        assert more["policy"] == {
            "id": policy_id(Wish(only=("a", "b"), without=("x",)), "terms-1"),
            "asked": "only=a,b; not=x",
            "terms": "terms-1",
        }
        failed, served = more["attempts"]
        assert (failed["outcome"], failed["usage"], failed["served_by"]) == (
            "overloaded", None, "0000",
        )  # fmt: skip
        assert (served["outcome"], served["served_by"]) == ("ok", "0001")
        assert served["began_ms"] <= served["first_byte_ms"] <= served["ended_ms"]
        assert served["operator"] == "ab" * 32
        assert (failed["delivered_tokens"], served["delivered_tokens"]) == (0, 7)


async def test_a_whole_answer_was_delivered_as_its_engine_counted_it() -> None:
    body = b'{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":5}}'
    async with gateway_to(answering(whole(body))) as gateway:
        shown = (await told(gateway, await gateway.post(CHAT))).json["data"]
        (attempt,) = shown["helexa"]["attempts"]
        assert attempt["delivered_tokens"] == 5


async def test_of_a_stream_that_broke_off_its_pieces_are_told() -> None:
    async with gateway_to(streaming(token("a"), token("b"))) as gateway:
        shown = (await told(gateway, await gateway.post(STREAM))).json["data"]
        (attempt,) = shown["helexa"]["attempts"]
        assert (attempt["outcome"], attempt["usage"]) == ("upstream_failed", None)
        assert attempt["delivered_tokens"] == 2


async def test_a_failure_is_told_by_its_code() -> None:
    async with gateway_to(answering(refusal(503, "overloaded"))) as gateway:
        answer = await gateway.post(CHAT)
        assert answer.status == 503
        shown = (await told(gateway, answer)).json["data"]
        assert shown["helexa"]["outcome"] == "overloaded"
        assert (shown["total_cost"], shown["tokens_prompt"]) == (None, None)


async def test_what_is_not_ones_own_or_not_kept_is_unknown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with gateway_to(answering(whole()), receipts_max=2) as gateway:
        answers = [await gateway.post(CHAT) for _ in range(3)]
        statuses = [(await told(gateway, one)).status for one in answers]
        assert statuses == [404, 200, 200]
        for path, status, code in (
            ("?id=req_nope", 404, "generation_not_found"),
            ("", 400, "bad_request"),
            ("?id=", 400, "bad_request"),
            ("?id=a&id=b", 400, "bad_request"),
        ):
            answer = await gateway.get(f"/v1/generation{path}")
            assert (answer.status, answer.error["code"]) == (status, code)
            assert answer.error["param"] == "id"
        assert (await told(gateway, answers[2], key="hx_live_bad")).status == 401
        monkeypatch.setattr(MemoryKeys, "check", lambda _self, _key: Grant("k", "another"))
        assert (await told(gateway, answers[2])).status == 404


async def test_a_silent_operator_names_nobody_here_either() -> None:
    async with gateway_to(answering(whole()), tell_served_by=False) as gateway:
        shown = (await told(gateway, await gateway.post(CHAT))).json["data"]
        assert shown["provider_name"] is None
        attempt = shown["helexa"]["attempts"][0]
        assert (attempt["served_by"], attempt["operator"]) == (None, None)


def _ticket(*outcomes: str) -> Ticket:
    """A request whose attempts, at nodes 0, 1 and so on, ended like this."""
    grant = Grant("k", "x")
    ingress = Ingress({"headers": []})
    ticket = Ticket(
        RequestId("req_1"), Visit(grant), MODEL, WorkloadClass.CHAT_BULK, 1.0, Head(), 1, ingress
    )
    for number, outcome in enumerate(outcomes):
        made = label(digest="", price=Price(), operator="ab", name=str(number))
        target = Target(node=NodeId(str(number)))
        ticket.attempts.append(Attempt(target, MODEL, made, 1.0 + number, outcome=outcome))
    return ticket


@pytest.mark.parametrize(
    ("outcomes", "served"),
    [
        (("ok",), "0"),
        (("overloaded", "ok"), "1"),
        (("ok", "outpaced"), "0"),
        (("peer_lost", "overloaded"), "1"),
        ((), None),
    ],
)
def test_who_served_is_who_answered(outcomes: tuple[str, ...], served: str | None) -> None:
    receipts = Receipts(1, now=lambda: 5.0)
    receipts.keep(_ticket(*outcomes), "/p", "ok", stream=False)
    found = receipts.find("req_1", "x")
    assert found is not None
    shown = receipts.shown(found)
    assert shown.provider_name == served
    assert shown.helexa.total_ms == 4000


def test_nothing_is_kept_where_nothing_shall_be() -> None:
    receipts = Receipts(0, now=lambda: 0.0)
    receipts.keep(_ticket("ok"), "/p", "ok", stream=False)
    assert len(receipts) == 0


def test_each_kind_of_token_has_its_price() -> None:
    usage = Usage(prompt_uncached=1, prompt_cached=2, completion=3, reasoning=4)
    price = Price(prompt_uncached=1000, prompt_cached=100, completion=10, reasoning=1)
    assert cost(usage, price) == 1000 + 200 + 30 + 4
