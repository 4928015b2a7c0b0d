"""Aliases and fallbacks on their way through real gateways, doors and other operators' cortexes."""

from __future__ import annotations

import pytest
from tests.cortex.federated import member, model, served_by, world

from helexa.cortex.settings import Alias, ModelEntry
from helexa.protocol.errors import ModelUnknown
from helexa.protocol.ids import ModelId
from helexa.protocol.routing import RouteHints
from helexa.protocol.work import ModelState, Price, WorkloadClass

pytestmark = pytest.mark.anyio

CHAT = WorkloadClass.CHAT_INTERACTIVE
ALIAS = (ModelEntry(id="m", aliases=(Alias(name="any"),)),)


async def test_an_alias_is_served_by_its_model_and_the_neuron_is_told_which() -> None:
    async with world() as mesh, member(mesh, "a", entries=ALIAS) as a:
        neuron = await a.neuron(model("m"), holds_at=1)
        with await a.send("any", stream=True) as response:
            # What is under way counts for the model, by whatever name it was asked for.
            await neuron.began.wait()
            assert a.neurons.in_flight == {(neuron.node, ModelId("m")): 1}
            neuron.go.set()
            await response.read(1 << 20)
        assert neuron.header(b"x-helexa-model") == b"m"
        assert b'"model": "any"' in neuron.asked[0][1]
        await a.ask("m")
        assert neuron.header(b"x-helexa-model") is None


async def test_an_alias_is_served_by_another_cortex_that_does_not_know_it() -> None:
    async with world() as mesh, member(mesh, "a", entries=ALIAS) as a, member(mesh, "b") as b:
        neuron = await b.neuron(model("m"))
        await a.link(b)
        await a.until_offered("m", by=b)
        answer = await a.ask("any")
        assert (answer.status, served_by(answer)) == (200, "b")
        assert neuron.header(b"x-helexa-model") == b"m"
        assert b'"model": "any"' in neuron.asked[0][1]


async def test_a_model_that_a_cortex_names_at_the_door_is_held_to_the_terms() -> None:
    async with world() as mesh, member(mesh, "a") as a, member(mesh, "b") as b:
        await b.neuron(model("m"), model("secret"))
        b.terms(lend_models=("m",))
        await a.link(b)
        await a.until_offered("m", by=b)
        good = await a.at_door_of(b, [(b"x-helexa-model", b"m")], name="whatever")
        assert good.status == 200
        kept = await a.at_door_of(b, [(b"x-helexa-model", b"secret")], name="m")
        assert (kept.status, kept.json["error"]["code"]) == (403, "not_lent")
        wrong = await a.at_door_of(b, [(b"x-helexa-model", b"../m")], name="m")
        assert (wrong.status, wrong.json["error"]["code"]) == (400, "bad_request")


async def test_a_first_choice_of_another_cortex_goes_before_an_own_fallback() -> None:
    entries = (ModelEntry(id="m", fallbacks=("small",)),)
    async with world() as mesh, member(mesh, "a", entries=entries) as a, member(mesh, "b") as b:
        own = await a.neuron(model("small"))
        far = await b.neuron(model("m"))
        await a.link(b)
        await a.until_offered("m", by=b)
        decision = a.fabric.decide(CHAT, ModelId("m"), RouteHints())
        assert [(one.via, one.model) for one in decision.targets] == [(b.node, ""), (None, "small")]
        assert served_by(await a.ask("m")) == "b"
        far.status, far.refusal = 503, b'{"error":{"message":"full","type":"x","code":"y"}}'
        assert served_by(await a.ask("m")) == "local"
        assert own.header(b"x-helexa-model") == b"small"


async def test_a_model_of_the_catalogue_that_no_neuron_lists_is_known_and_not_there() -> None:
    async with world() as mesh, member(mesh, "a", entries=(*ALIAS, ModelEntry(id="new"))) as a:
        await a.neuron(model("other"))
        for name in ("new", "any"):
            answer = await a.ask(name)
            assert (answer.status, answer.json["error"]["code"]) == (503, "no_capacity")
            assert "No neuron has the model" in answer.json["error"]["message"]
        assert (await a.ask("nothing")).status == 404


async def test_what_the_catalogue_asks_counts_where_the_neuron_asks_nothing() -> None:
    entries = (ModelEntry(id="m", price=Price(completion=90)),)
    async with world() as mesh, member(mesh, "a", entries=entries) as a:
        await a.neuron(model("m"))
        assert (await a.ask("m", policy="max-price=90")).status == 200
        answer = await a.ask("m", policy="max-price=89")
        assert "asks 90 nano-credits" in answer.json["error"]["message"]


async def test_everybody_is_explained_own_neurons_and_other_cortexes() -> None:
    entries = (ModelEntry(id="m", aliases=(Alias(name="any"),), fallbacks=("small",)),)
    async with world() as mesh, member(mesh, "a", entries=entries) as a, member(mesh, "b") as b:
        await a.neuron(model("m", state=ModelState.FAILED), model("small", tokens_per_s=7.0))
        await b.neuron(model("m"))
        await a.link(b)
        await a.until_offered("m", by=b)
        found = a.fabric.explained(CHAT, ModelId("any"), RouteHints())
        assert found.choices == ("m", "small")
        shown = [(one.place, one.name, one.model, one.state) for one in found.candidates]
        assert shown == [
            (1, "b", "m", "loaded"),
            (2, "a-neuron", "small", "loaded"),
            (3, "a-neuron", "m", "failed"),
        ]
        assert found.candidates[1].tokens_per_s == 7.0
        assert all(one.reason for one in found.candidates)
        a.terms(borrow_from="nobody")
        refused = a.fabric.explained(CHAT, ModelId("m"), RouteHints()).candidates[-1]
        assert (refused.place, refused.via) == (0, b.node)
        assert "borrow_from" in refused.reason
        with pytest.raises(ModelUnknown):
            a.fabric.explained(CHAT, ModelId("nothing"), RouteHints())


async def test_a_wish_is_granted_by_the_one_of_many_neurons_that_can() -> None:
    async with world() as mesh, member(mesh, "a") as a:
        for _ in range(12):
            await a.neuron(model("m", price=Price(completion=50)))
        cheap = await a.neuron(model("m", price=Price(completion=5)))
        assert (await a.ask("m", policy="max-price=10")).status == 200
        assert len(cheap.asked) == 1


async def test_what_a_request_drew_by_lot_it_draws_again_however_often_it_is_looked_at() -> None:
    entries = tuple(ModelEntry(id=name, aliases=(Alias(name="any"),)) for name in "abc")
    async with world() as mesh, member(mesh, "a", entries=entries) as a:
        await a.neuron(model("a"), model("b"), model("c"))
        firsts = set()
        for number in range(30):
            hints = RouteHints(request=f"req_{number}")
            drawn = {
                a.fabric.decide(CHAT, ModelId("any"), hints).targets[0].model for _ in range(5)
            }
            assert len(drawn) == 1
            firsts |= drawn
        assert firsts == {"a", "b", "c"}


async def test_aliases_of_models_that_are_served_are_listed() -> None:
    entries = (
        ModelEntry(id="m", aliases=(Alias(name="any"),)),
        ModelEntry(id="away", aliases=(Alias(name="nobody"),)),
        ModelEntry(id="theirs", aliases=(Alias(name="far"),)),
    )
    async with world() as mesh, member(mesh, "a", entries=entries) as a, member(mesh, "b") as b:
        await a.neuron(model("m", context_tokens=4096))
        await b.neuron(model("theirs"))
        await a.link(b)
        await a.until_offered("theirs", by=b)
        listed = {one["id"]: one for one in (await a.get("/v1/models")).json["data"]}
        assert set(listed) == {"m", "any", "theirs", "far"}


async def test_another_cortex_is_offered_what_the_catalogue_lets_be_served_at_its_price() -> None:
    entries = (
        ModelEntry(id="m", classes=(CHAT,), price=Price(prompt_uncached=3, completion=9)),
        ModelEntry(id="kept", nodes=("elsewhere",)),
    )
    async with world() as mesh, member(mesh, "a") as a, member(mesh, "b", entries=entries) as b:
        await b.neuron(model("m"), model("kept"))
        await a.link(b)
        await a.until_offered("m", by=b)
        assert a.peers.offered_by(b.node) == ("m",)
        offer = a.peers.offer(b.node, ModelId("m"))
        assert offer is not None
        assert (offer.price.prompt_uncached, offer.price.completion) == (3, 9)
        assert WorkloadClass.COMPLETION not in offer.classes
