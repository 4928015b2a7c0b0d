"""What may be asked for by name, as clients are told it."""

from __future__ import annotations

import pytest
from tests.cortex.books import entry
from tests.cortex.federated import member, model, world
from tests.cortex.fleets import capability, fleet, node

from helexa.cortex.orchestrator.catalogue import EMPTY, catalogue
from helexa.cortex.orchestrator.fleet import (
    FleetView,
    HealthReported,
    Mark,
    NeuronLeft,
    NeuronMarked,
    apply,
)
from helexa.cortex.orchestrator.listing import about, as_used, listed, owners
from helexa.cortex.settings import Alias, ModelEntry
from helexa.protocol.openai.models import ModelAbout, credits_of
from helexa.protocol.work import Load, ModelState, Price, WorkloadClass

HERE = fleet((1, (capability("m"),)))


def names(entries, *had, view=HERE, brings=True):
    return [one.model for one in listed(had, catalogue(entries), view, brings=brings)]


def test_without_a_catalogue_what_somebody_has_is_listed() -> None:
    had = [capability("m")]
    assert listed(had, EMPTY, HERE, brings=True) == had


def test_a_model_that_can_be_brought_is_listed_as_it_will_be() -> None:
    new = entry(
        "new",
        source="hf:a/b",
        context_tokens=4096,
        classes=(WorkloadClass.EMBEDDING,),
        price=Price(completion=3),
    )
    (found,) = listed([], catalogue([new]), HERE, brings=True)
    assert (found.model, found.state) == ("new", ModelState.UNLOADED)
    assert (found.context_tokens, found.classes) == (4096, (WorkloadClass.EMBEDDING,))
    assert found.price == Price(completion=3)


def test_a_model_that_nobody_may_bring_is_not_listed() -> None:
    new = entry("new", source="hf:a/b")
    assert names([new]) == ["new"]
    assert names([new], brings=False) == []
    assert names([new], view=FleetView()) == []
    assert names([entry("new")]) == [], "it has no source"
    assert names([entry("new", source="hf:a/b", labels={"rack": "b"})]) == []
    assert names([entry("new", source="hf:a/b", nodes=("f" * 8,))]) == []
    gone = apply(HERE, NeuronLeft(node=node(1), reason="", now_s=1))
    cordoned = apply(HERE, NeuronMarked(node=node(1), mark=Mark.CORDONED))
    draining = apply(
        HERE, HealthReported(node=node(1), load=Load(sequence=1, draining=True), now_s=1)
    )
    for view in (gone, cordoned, draining):
        assert names([new], view=view) == []


def test_an_alias_is_listed_as_the_likeliest_of_its_models_that_is() -> None:
    entries = [
        entry("m", aliases=["any"]),
        ModelEntry(id="n", aliases=(Alias(name="any", weight=3), Alias(name="other"))),
        ModelEntry(id="away", aliases=(Alias(name="any", weight=9), Alias(name="nobody"))),
    ]
    m, n = capability("m", slots=1), capability("n", slots=2)
    found = {one.model: one for one in listed([m, n], catalogue(entries), HERE, brings=True)}
    assert set(found) == {"m", "n", "any", "other"}
    assert found["any"].slots == 2
    assert names(entries, m) == ["m", "any"]
    assert owners({"n": "b"}, catalogue(entries)) == {"n": "b", "any": "b", "other": "b"}


def test_an_entry_narrows_the_work_and_sets_a_price_where_the_neuron_has_none() -> None:
    book = catalogue([entry("m", classes=(WorkloadClass.EMBEDDING,), price=Price(completion=2))])
    both = capability("m", classes=(WorkloadClass.EMBEDDING, WorkloadClass.COMPLETION))
    used = as_used(both, book)
    assert (used.classes, used.price) == ((WorkloadClass.EMBEDDING,), Price(completion=2))
    assert as_used(both, EMPTY) == both


def test_what_the_operator_says_of_a_name() -> None:
    book = catalogue(
        [
            entry("m", aliases=["any"], description="small", fallbacks=("n",)),
            ModelEntry(id="n", aliases=(Alias(name="any", weight=2),)),
        ]
    )
    assert about(book, "m") == ModelAbout(description="small", fallbacks=("n",))
    assert about(book, "any") == ModelAbout(leads_to=("n", "m"))
    assert about(book, "unknown") == ModelAbout()


@pytest.mark.anyio
async def test_clients_are_told_limits_prices_and_where_a_name_leads() -> None:
    entries = (
        entry("m", aliases=["any"], queue_max=7, description="small", price=Price(completion=5)),
        entry("theirs", aliases=["far"]),
    )
    async with world() as mesh, member(mesh, "a", entries=entries) as a, member(mesh, "b") as b:
        await a.neuron(model("m", context_tokens=4096))
        await b.neuron(model("theirs"))
        await a.link(b)
        await a.until_offered("theirs", by=b)
        found = {one["id"]: one for one in (await a.get("/v1/models")).json["data"]}
        own = found["m"]
        assert (own["owned_by"], own["context_length"], own["state"]) == ("helexa", 4096, "loaded")
        assert own["helexa"] == {
            "description": "small",
            "price": {"prompt_uncached": 0, "prompt_cached": 0, "completion": 5, "reasoning": 0},
            "requests_max": 7,
        }
        assert found["any"]["helexa"]["leads_to"] == ["m"]
        assert found["any"]["helexa"]["price"]["completion"] == 5
        assert (found["theirs"]["owned_by"], found["far"]["owned_by"]) == ("b", "b")
        assert found["far"]["helexa"] == {"leads_to": ["theirs"], "requests_max": 1024}
        far = (await a.get("/v1/models/far")).json
        (row,) = far["helexa"].pop("served_by")
        assert far == found["far"]
        assert (row["cortex"], row["operator"]) == ("b", b.own.operator[:16])


@pytest.mark.anyio
async def test_a_model_says_what_it_is_and_who_serves_it_by_the_words_of_policies() -> None:
    price = Price(prompt_uncached=1, completion=2_500)
    async with (
        world() as mesh,
        member(mesh, "a", region="ch") as a,
        member(mesh, "b", region="eu", price_completion=7) as b,
    ):
        await a.neuron(
            model("m", quantisation="Q8_0", digest="sha256:a", context_tokens=64, price=price),
        )
        await a.neuron(model("m", quantisation="Q8_0", digest="sha256:a", price=price))
        await b.neuron(model("m", quantisation="Q4_K_M", digest="sha256:b"))
        await a.link(b)
        await a.until_offered("m", by=b)
        said = (await a.get("/v1/models/m")).json
        assert said["pricing"]["prompt"] == "0.000000001"
        assert said["pricing"]["completion"] == "0.0000025"
        assert said["pricing"]["request"] == "0"
        assert said["architecture"] == {"input_modalities": ["text"], "output_modalities": ["text"]}
        assert (said["helexa"]["quantisation"], said["helexa"]["digest"]) == ("Q8_0", "sha256:a")
        *own, there = said["helexa"]["served_by"]
        assert {row["cortex"] for row in own} == {"local"}
        assert sum(row["neurons"] for row in own) == 2
        assert {row["quantisation"] for row in own} == {"Q8_0"}
        assert (there["cortex"], there["region"], there["quantisation"]) == ("b", "eu", "Q4_K_M")
        assert there["price"]["completion"] == 7
        for row in (*own, there):
            wish = f"only={row['operator']}; quantisation={row['quantisation']}"
            assert (await a.ask("m", policy=wish)).status == 200


@pytest.mark.anyio
async def test_weights_that_differ_have_no_name_in_common() -> None:
    async with world() as mesh, member(mesh, "a") as a:
        await a.neuron(model("m", quantisation="Q8_0", digest="sha256:a"))
        await a.neuron(model("m", quantisation="Q4_0", digest="sha256:b"))
        (said,) = (await a.get("/v1/models")).json["data"]
        assert not {"quantisation", "digest", "served_by"} & said["helexa"].keys()
        rows = (await a.get("/v1/models/m")).json["helexa"]["served_by"]
        assert sorted(row["quantisation"] for row in rows) == ["Q4_0", "Q8_0"]


def test_credits_are_told_exactly() -> None:
    assert [credits_of(nano) for nano in (0, 1, 1_500_000_000, 10**18)] == [
        "0",
        "0.000000001",
        "1.5",
        "1000000000",
    ]
