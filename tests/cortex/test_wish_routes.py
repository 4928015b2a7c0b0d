"""Wishes over whole cortexes: who serves, who is out and why, and what the next one is told."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from tests.cortex.federated import member, model, pair, served_by, world
from tests.cortex.fleets import capability, fleet, node
from tests.cortex.test_wishes import wishes

from helexa.cortex.orchestrator.federation.wanted import Server, forbids, rank
from helexa.cortex.orchestrator.federation.wish import parse
from helexa.cortex.settings import Alias, ModelEntry
from helexa.mesh.trust import Standing, Trust
from helexa.protocol.ids import ModelId, OperatorId
from helexa.protocol.routing import RouteHints, Wish
from helexa.protocol.work import Price, WorkloadClass

pytestmark = pytest.mark.anyio

CHAT = WorkloadClass.CHAT_INTERACTIVE

WISHES: list[tuple[dict[str, Any], str]] = [
    ({"provider": {"only": ["b"]}}, "b"),
    ({"provider": {"order": ["c", "b"]}}, "c"),
    ({"provider": {"order": ["nobody", "b"]}}, "b"),
    ({"provider": {"order": ["b"], "allow_fallbacks": False}}, "b"),
    ({"provider": {"ignore": ["b", "c"]}}, "local"),
    ({"provider": {"sort": "price"}}, "c"),
    ({"provider": {"sort": "throughput"}}, "b"),
    ({"provider": {"sort": "latency"}}, "c"),
    ({"provider": {"quantizations": ["bf16"]}}, "c"),
    ({"provider": {"max_price": {"completion": 0.001}}}, "c"),
    ({"provider": {"preferred_min_throughput": 50}}, "b"),
    ({"provider": {"preferred_max_latency": 0.2}}, "c"),
    ({"helexa": {"min_quantisation": "Q8_0", "not": ["c"]}}, "b"),
    ({"helexa": {"max_first_token": 0.2}}, "c"),
    ({"helexa": {"min_speed": 50}}, "b"),
    ({"helexa": {"federation": False}}, "local"),
    ({"helexa": {"region": ["us"]}}, "b"),
]


@pytest.mark.parametrize(("members", "who"), WISHES, ids=lambda value: json.dumps(value)[:60])
async def test_a_body_narrows_where_it_goes(members: dict[str, Any], who: str) -> None:
    async with (
        world() as mesh,
        member(mesh, "a", region="ch") as a,
        member(mesh, "b", region="us", price_completion=5) as b,
        member(mesh, "c", region="eu", price_completion=1) as c,
    ):
        await a.neuron(
            model("m", price=Price(completion=9), quantisation="Q4_K_M", tokens_per_s=20.0,
                  first_token_s=0.9)
        )  # fmt: skip
        await b.neuron(model("m", quantisation="Q8_0", tokens_per_s=80.0, first_token_s=0.5))
        await c.neuron(model("m", quantisation="BF16", tokens_per_s=40.0, first_token_s=0.1))
        for other in (b, c):
            await a.link(other)
            await a.until_offered("m", by=other)
        answer = await a.ask("m", body=members)
        assert answer.status == 200, answer.body
        assert who in served_by(answer)


async def test_what_an_unknown_quantisation_or_speed_is_never_satisfies() -> None:
    async with world() as mesh, member(mesh, "a") as a:
        await a.neuron(model("m"))
        for policy, why in (
            ("min-quantisation=Q2_K", "has weights of unknown quantisation, under Q2_K"),
            ("quantisation=int4", "has weights of unknown quantisation, not int4"),
            ("max-first-token=9", "has no measured time to its first token, over 9 s"),
            ("min-speed=1", "has no measured speed, under 1"),
        ):
            answer = await a.ask("m", policy=policy)
            assert answer.status == 503
            assert f"a-neuron {why} (the request's policy)" in answer.error["message"]
        assert (await a.ask("m", policy="quantisation=unknown")).status == 200


async def test_models_are_asked_in_their_order() -> None:
    async with world() as mesh, member(mesh, "a") as a, member(mesh, "b") as b:
        own = await a.neuron(model("second"))
        there = await b.neuron(model("third"))
        await a.link(b)
        await a.until_offered("third", by=b)
        answer = await a.ask("first", body={"models": ["second", "third"]})
        assert answer.status == 200, answer.body
        assert own.header(b"x-helexa-model") == b"second"
        own.status, own.refusal = 503, b""
        answer = await a.ask("first", body={"models": ["second", "third"]})
        assert answer.status == 200, answer.body
        assert there.header(b"x-helexa-model") == b"third"
        answer = await a.ask("first", body={"models": ["nobody", "has"]})
        assert (answer.status, answer.error["code"]) == (404, "model_not_found")
        answer = await a.ask("", body={"models": ["third"]})
        assert answer.status == 200, answer.body
        answer = await a.ask("")
        assert (answer.status, answer.error["param"]) == (400, "model")


async def test_models_lead_through_aliases_and_before_the_catalogues_fallbacks() -> None:
    entries = (
        ModelEntry(id="m", fallbacks=("last",)),
        ModelEntry(id="other", aliases=(Alias(name="big"),)),
        ModelEntry(id="last"),
    )
    async with world() as mesh, member(mesh, "a", entries=entries) as a:
        neuron = await a.neuron(model("other"), model("last"))
        answer = await a.ask("m", body={"models": ["big"]})
        assert answer.status == 200, answer.body
        assert neuron.header(b"x-helexa-model") == b"other"


async def test_without_fallbacks_the_first_one_alone_is_asked() -> None:
    async with world() as mesh, member(mesh, "a") as a, member(mesh, "b") as b:
        own = await a.neuron(model("m"))
        await b.neuron(model("m"))
        await a.link(b)
        await a.until_offered("m", by=b)
        own.status, own.refusal = 503, b""
        assert (await a.ask("m")).status == 200
        assert (await a.ask("m", body={"provider": {"allow_fallbacks": False}})).status == 502


async def test_the_next_cortex_hears_what_holds_there_and_not_the_body() -> None:
    async with pair() as (a, b, neuron):
        body = {"helexa": {"not": ["x"], "max_price": 9, "resume": False}, "models": ["else"]}
        wish = {"provider": {"order": ["local", "b"], "allow_fallbacks": False}, **body}
        answer = await a.ask("m", body=wish)
        assert answer.status == 200, answer.body
        assert json.loads(neuron.asked[-1][1])["helexa"] == body["helexa"]
        hints = RouteHints(wish=parse(b"prefer=local,b; no-fallbacks; not=x; no-resume"))
        target = a.fabric.route(CHAT, ModelId("m"), hints).targets[0]
        passed = dict(a.fabric.way(target, hints).headers)[b"x-helexa-policy"]
        assert passed == f"not=x; prefer={a.node},b; no-fallbacks; no-resume".encode()
        # `local` in the body is the first cortex, which has read it; the second one would be wrong.
        answer = await a.ask("m", body={"provider": {"ignore": ["local"]}})
        assert answer.status == 200, answer.body
        assert b.node


async def test_a_wish_explains_who_is_out() -> None:
    async with world() as mesh, member(mesh, "a") as a:
        await a.neuron(model("m", quantisation="Q4_K_M"))
        hints = RouteHints(wish=parse(b"min-quantisation=Q8_0"))
        found = a.fabric.explained(CHAT, ModelId("m"), hints)
        assert [one.reason for one in found.candidates] == [
            "has Q4_K_M, under Q8_0 (the request's policy)"
        ]


async def test_nobody_waits_for_a_model_that_the_request_would_not_take_here() -> None:
    source = ModelEntry(id="m", source="hf:o/r", quantisation="Q4_K_M")
    async with world() as mesh, member(mesh, "a", entries=(source,)) as a:
        await a.neuron(model("x"))
        a.neurons.bring(lambda decision, _yielding: decision.choices[0])
        for policy in ("not=local", "no-federation; not=local", "min-quantisation=Q8_0"):
            answer = await a.ask("m", policy=policy)
            assert answer.status in (404, 503), answer.body
        hints = RouteHints(wish=parse(b"min-quantisation=Q4_0"))
        assert a.fabric.route(CHAT, ModelId("m"), hints).choices == ("m",)


async def test_the_best_of_many_neurons_is_found_where_a_request_asks_for_it() -> None:
    async with world() as mesh, member(mesh, "a") as a:
        usual = msgspec.structs.replace(
            capability("m"), price=Price(completion=9), tokens_per_s=5.0, first_token_s=1.0
        )
        best = msgspec.structs.replace(
            usual, price=Price(completion=1), tokens_per_s=9.0, first_token_s=0.1
        )
        a.neurons.view = fleet(*((number, (usual,)) for number in range(1, 200)), (200, (best,)))
        for policy in (
            "order=cheapest", "order=fastest", "order=quickest", f"prefer={node(200)}",
            f"only={node(200)}", "max-price=1", "min-speed=8", "max-first-token=0.5",
        ):  # fmt: skip
            hints = RouteHints(wish=parse(policy.encode()))
            assert a.fabric.route(CHAT, ModelId("m"), hints).targets[0].node == node(200), policy


@given(wishes)
def test_what_is_decided_keeps_every_part_of_a_wish(wish: Wish) -> None:
    """By the words of `forbids`, and in the order of what is preferred."""
    own = Standing(node=node(900), operator=OperatorId(node(901)), trust=Trust.OWN, name="ben")
    servers = [
        Server(
            standing=own,
            price=Price(completion=number * 10**6),
            quantisation=("", "Q4_K_M", "Q8_0", "FP8")[number % 4],
            first_token_s=number / 10,
            tokens_per_s=float(number * 100),
            neuron=own if number % 2 else None,
        )
        for number in range(8)
    ]
    for server in servers:
        if forbids(wish, server):
            continue
        assert wish.federation or server.is_local
        assert wish.price_max is None or server.price.completion <= wish.price_max
        assert not wish.quantisation_min or server.quantisation in ("Q8_0", "FP8")
        assert wish.first_token_max_s is None or 0 < server.first_token_s <= wish.first_token_max_s
        assert wish.speed_min is None or server.tokens_per_s >= wish.speed_min
        assert not {"ben", *(("local",) if server.is_local else ())} & set(wish.without)
        assert 0 <= rank(wish, server) <= len(wish.prefer)
