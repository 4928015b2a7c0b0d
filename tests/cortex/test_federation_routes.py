"""Which cortex a request goes to, by order, by the request's own wish, and over several hops."""

from __future__ import annotations

import anyio
import pytest
from tests.cortex.federated import Member, member, model, pair, served_by, world

from helexa.protocol.errors import LoopDetected
from helexa.protocol.ids import ModelId
from helexa.protocol.routing import RouteHints
from helexa.protocol.work import ModelState, Price, WorkloadClass

pytestmark = pytest.mark.anyio

CHAT = WorkloadClass.CHAT_INTERACTIVE
M = ModelId("m")


def order_at(a: Member, **hints: object) -> list[str]:
    decision = a.fabric.decide(CHAT, M, RouteHints(**hints))  # type: ignore[arg-type]
    return [a.fabric.called(target) for target in decision.targets]


async def test_own_neurons_come_first_and_doubtful_ones_after_the_peers() -> None:
    async with pair() as (a, _, _):
        await a.neuron(model("m"))
        assert order_at(a) == ["a-neuron", "b"]
        assert served_by(await a.ask("m")) == "local"
    async with pair() as (a, _, _):
        await a.neuron(model("m", state=ModelState.FAILED))
        assert order_at(a) == ["b", "a-neuron"]
        assert served_by(await a.ask("m")) == "b"


async def test_a_local_failure_is_made_good_by_a_peer() -> None:
    async with pair() as (a, _, _):
        neuron = await a.neuron(model("m"))
        neuron.status, neuron.refusal = 507, b'{"error":{"message":"full","type":"x","code":"y"}}'
        assert served_by(await a.ask("m")) == "b"
        assert len(neuron.asked) == 1


async def test_cheapest_goes_by_price_and_by_the_request_or_the_operator() -> None:
    dear = Price(prompt_uncached=5, completion=5)
    async with pair() as (a, b, _), member(a.world, "c") as c:
        await a.neuron(model("m", price=dear))
        await c.neuron(model("m"))
        await a.link(c)
        await a.until_offered("m", by=c)
        c.terms(price_prompt=1, price_completion=2)
        await a.until(lambda: a.peers._peers[c.node].offer(M).price.completion == 2)  # type: ignore[union-attr]
        assert served_by(await a.ask("m")) == "local"
        for _ in range(3):
            answer = await a.ask("m", policy="order=cheapest")
            assert served_by(answer) == "b"
        a.terms(order="cheapest")
        assert order_at(a) == ["b", "c", "a-neuron"]
        del b


async def test_fastest_goes_by_measured_speed_and_past_what_is_full_or_not_loaded() -> None:
    async with (
        world() as mesh,
        member(mesh, "a", order="fastest") as a,
        member(mesh, "quick") as quick,
        member(mesh, "cold") as cold,
    ):
        await a.neuron(model("m", tokens_per_s=10.0))
        slow = await quick.neuron(model("m", tokens_per_s=50.0, slots=1), holds_at=1)
        await cold.neuron(model("m", tokens_per_s=90.0, state=ModelState.UNLOADED))
        for other in (quick, cold):
            await a.link(other)
            await a.until_offered("m", by=other)
        assert order_at(a) == ["quick", "a-neuron", "cold"]
        with await a.send("m", stream=True) as response:
            await response.chunk()
            assert order_at(a) == ["a-neuron", "quick", "cold"]
            slow.go.set()


@pytest.mark.parametrize(
    ("policy", "who"),
    [
        ("only=b", "b"),
        ("only=local", "local"),
        ("only=c,b; order=cheapest", "c"),
        ("not=local", "b"),
        ("not=local,b", "c"),
        ("not=b,c", "local"),
        ("region=us", "b"),
        ("region=eu-*", "c"),
        ("region=!us,!eu-*", "local"),
        ("max-price=0", "c"),
        ("no-federation", "local"),
    ],
)
async def test_a_request_can_narrow_where_it_goes(policy: str, who: str) -> None:
    async with (
        world() as mesh,
        member(mesh, "a", region="ch") as a,
        member(mesh, "b", region="us", price_completion=3) as b,
        member(mesh, "c", region="eu-west") as c,
    ):
        await a.neuron(model("m", price=Price(completion=1)))
        for other in (b, c):
            await other.neuron(model("m"))
            await a.link(other)
            await a.until_offered("m", by=other)
            a.record_of(other, "m")
        answer = await a.ask("m", policy=policy)
        assert answer.status == 200, answer.body
        if policy == "not=local":
            who = served_by(answer)
            assert who in "bc"
        assert served_by(answer) == who


async def test_cortexes_are_named_by_id_and_operator_too() -> None:
    async with pair() as (a, b, _):
        for word in (b.node, b.node[:8], b.own.operator, b.own.operator[:12]):
            assert (await a.ask("m", policy=f"only={word}")).status == 200
        for word in (b.node[:7], "nobody", "local"):
            answer = await a.ask("m", policy=f"only={word}")
            assert answer.status == 503
            rule = "cortex b is not among the only ones wanted (the request's policy)"
            assert rule in answer.error["message"]


async def test_a_wish_never_widens_what_the_operator_allows() -> None:
    async with pair(borrow_regions=("eu-*",)) as (a, _, neuron):
        answer = await a.ask("m", policy="only=b")
        assert answer.status == 503
        assert "(borrow_regions)" in answer.error["message"]
        a.terms(hops_max=0)
        assert "(hops_max)" in (await a.ask("m", policy="region=*")).error["message"]
        assert neuron.asked == []


@pytest.mark.parametrize(
    "policy", ["only=", "foo=1", "max-price=-1", "order=best", "only=a;only=b", "no-federation=1"]
)
async def test_a_policy_that_cannot_be_read_is_a_400(policy: str) -> None:
    async with pair() as (a, _, neuron):
        answer = await a.ask("m", policy=policy)
        assert answer.status == 400
        assert answer.error["param"] == "x-helexa-policy"
        assert neuron.asked == []


async def test_a_refusal_names_five_candidates_and_counts_the_others() -> None:
    async with world() as mesh, member(mesh, "a", borrow_models=("!m",)) as a:
        for number in range(7):
            async with member(mesh, f"p{number}") as other:
                a.record_of(other, "m")
        message = (await a.ask("m")).error["message"]
        assert message.count("is not asked for m (borrow_models)") == 5
        assert message.endswith("; and 2 more.")


async def test_work_that_no_candidate_does_is_a_400() -> None:
    async with pair() as (a, _, _):
        with anyio.fail_after(5):
            sent = [(b"authorization", b"Bearer hx_live_good")]
            body = b'{"model":"m","input":"x"}'
            with await a.client.request("POST", "/v1/embeddings", sent, body) as response:
                answer = await response.read(1 << 16)
        assert response.status == 400
        assert b"unsupported_capability" in answer


async def test_a_model_that_nobody_has_is_a_404() -> None:
    async with pair() as (a, _, _):
        assert (await a.ask("nothing")).error["code"] == "model_not_found"


# --- several hops


async def test_two_hops_where_both_operators_allow_it() -> None:
    async with (
        world() as mesh,
        member(mesh, "a", hops_max=2) as a,
        member(mesh, "b", hops_max=2) as b,
        member(mesh, "c", hops_max=2) as c,
    ):
        neuron = await c.neuron(model("m"))
        await a.link(b)
        await b.link(c)
        await b.until_offered("m", by=c)
        a.record_of(b, "m")
        await a.until_offered_nothing_by(b)
        answer = await a.ask("m")
        assert (answer.status, served_by(answer)) == (200, "b")
        assert len(neuron.asked) == 1
        a.terms(hops_max=1)
        answer = await a.ask("m")
        assert answer.status == 503
        assert "cortex b said" in answer.error["message"]
        assert len(neuron.asked) == 1
        a.terms(hops_max=2)
        c.terms(hops_max=1)
        assert (await a.ask("m")).status == 503
        assert c.count("in", "loop_detected") == 1


async def test_a_wish_holds_on_the_second_hop() -> None:
    async with (
        world() as mesh,
        member(mesh, "a", hops_max=2) as a,
        member(mesh, "b", hops_max=2, region="eu") as b,
        member(mesh, "c", hops_max=2, region="us") as c,
    ):
        neuron = await c.neuron(model("m"))
        await a.link(b)
        await b.link(c)
        await b.until_offered("m", by=c)
        a.record_of(b, "m")
        await a.until_offered_nothing_by(b)
        message = (await a.ask("m", policy="region=eu; max-price=9")).error["message"]
        assert "is in region us, not eu (the request's policy)" in message
        assert neuron.asked == []
        assert (await a.ask("m", policy="not=local")).status == 200


async def test_a_ring_that_believes_in_a_model_that_nobody_has_ends() -> None:
    async with (
        world() as mesh,
        member(mesh, "a", hops_max=3) as a,
        member(mesh, "b", hops_max=3) as b,
        member(mesh, "c", hops_max=3) as c,
    ):
        ring = (a, b, c)
        for one, other in ((a, b), (b, c), (c, a)):
            await one.link(other)
        for one in ring:
            for other in ring:
                if other is not one:
                    await one.until_offered_nothing_by(other)
                    one.record_of(other, "m")
        answer = await a.ask("m")
        assert answer.status == 503
        assert answer.error["code"] == "no_capacity"
        # Each passes it on only where it was not: two ways round and no third.
        assert sum(one.count("out", "no_capacity") for one in ring) == 2
        assert a.count("in", "loop_detected") == 0


async def test_the_door_refuses_a_path_that_is_a_loop_too_long_or_not_the_askers() -> None:
    async with pair() as (a, b, neuron):
        other = "0" * 64
        for path, word in (
            (f"{b.node},{a.node}", "passed this cortex already"),
            (f"{other},{a.node}", "passed 2 cortexes"),
            (other, "does not end with"),
            ("nonsense", "not a list of node ids"),
            (",".join([other] * 50), "does not end with"),
        ):
            answer = await a.at_door_of(b, [(b"x-helexa-path", path.encode())])
            assert (answer.status, answer.error["code"]) == (508, LoopDetected.code)
            assert word in answer.error["message"]
        own = (b"x-helexa-path", a.node.encode())
        answer = await a.at_door_of(b, [own, (b"x-helexa-hops-left", b"-1")])
        assert answer.error["code"] == LoopDetected.code
        assert neuron.asked == []
        assert (await a.at_door_of(b, [own, (b"x-helexa-hops-left", b"999")])).status == 200
        assert (await a.at_door_of(b, [])).status == 200


async def test_the_door_serves_work_and_nothing_else() -> None:
    async with pair() as (a, b, _):
        for path in ("/metrics", "/v1/models", "/readyz", "/api/v1/status"):
            answer = await a.at_door_of(b, [], path=path)
            assert answer.error["code"] == "unknown_url"
        answer = await a.at_door_of(b, [], "unheard-of")
        assert answer.error["code"] == "model_not_found"
