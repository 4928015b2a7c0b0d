"""Who leaves so that another fits: the decision, and the neuron that makes room by itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.neuron.bench import PATIENCE_S, Bench, Journal, bench
from tests.neuron.states import States

from helexa.neuron.serving.doors import ApiDoor
from helexa.neuron.supervisor.events import Happened, Unloaded, Why
from helexa.neuron.supervisor.room import (
    Fits,
    Leave,
    Never,
    Resident,
    Wait,
    overdue,
    room_for,
)
from helexa.protocol.errors import DoesNotFit
from helexa.protocol.ids import ModelId
from helexa.protocol.work import ModelState, Phase
from helexa.testing.fake_runtime import FakeRuntime
from helexa.util.sockets import Address

pytestmark = pytest.mark.anyio

CHAT = "/v1/chat/completions"
TOKEN = "t" * 43
OWN_DOOR = ApiDoor(Address("127.0.0.1", 0), TOKEN)


def ask(model: str, **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "hi"}], **more}


# --- the decision


def resident(name: str, size: int, *, idle_s: float = 100.0, **more: Any) -> Resident:
    facts = {"holds": size, "stayed_s": 1000.0, "is_idle": True, **more}
    return Resident(model=ModelId(name), idle_s=idle_s, **facts)


def fits_in(need: int, total: int, residents: list[Resident]) -> Fits:
    """Of one kind of memory, all of which the residents hold or leave."""

    def fits(gone: Sequence[Resident]) -> bool:
        return need <= total - sum(one.holds for one in residents if one not in gone)

    return fits


RESIDENTS = st.lists(
    st.builds(
        Resident,
        model=st.uuids().map(lambda one: ModelId(str(one))),
        holds=st.integers(1, 100),
        idle_s=st.floats(0, 1000),
        stayed_s=st.floats(0, 100),
        is_idle=st.booleans(),
    ),
    max_size=8,
    unique_by=lambda one: one.model,
)


@given(RESIDENTS, st.integers(1, 300), st.integers(0, 400))
def test_who_leaves_is_idle_and_has_stayed_and_nobody_leaves_in_vain(
    residents: list[Resident], need: int, total: int
) -> None:
    verdict = room_for(fits_in(need, total, residents), residents, stay_s=10)

    def free(gone: set[ModelId]) -> int:
        return total - sum(one.holds for one in residents if one.model not in gone)

    everybody = {one.model for one in residents}
    ready = {one.model for one in residents if one.is_idle and one.stayed_s >= 10}
    match verdict:
        case Leave(models=models):
            assert set(models) <= ready
            assert free(set(models)) >= need
            for model in models:
                assert free(set(models) - {model}) < need
        case Wait(seconds=seconds):
            assert free(ready) < need <= free(everybody)
            assert seconds is None or 0 < seconds <= 10
        case Never():
            assert free(everybody) < need


def test_the_longest_unused_leaves_first() -> None:
    residents = [resident("new", 50, idle_s=5), resident("old", 50, idle_s=500)]
    assert room_for(fits_in(40, 100, residents), residents, stay_s=0) == Leave((ModelId("old"),))


def test_small_ones_stay_where_a_large_one_has_to_leave_anyway() -> None:
    residents = [resident("small", 10, idle_s=500), resident("large", 90, idle_s=5)]
    assert room_for(fits_in(90, 100, residents), residents, stay_s=0) == Leave((ModelId("large"),))


def test_one_that_just_came_is_waited_for() -> None:
    residents = [resident("fresh", 90, stayed_s=4.0)]
    assert room_for(fits_in(50, 100, residents), residents, stay_s=10) == Wait(6.0)
    residents = [resident("busy", 90, is_idle=False)]
    assert room_for(fits_in(50, 100, residents), residents, stay_s=10) == Wait(None)


def test_what_others_on_the_machine_hold_is_not_had_by_unloading() -> None:
    residents = [resident("a", 20)]
    assert room_for(fits_in(50, 25, residents), residents, stay_s=0) == Never()


def test_only_those_idle_for_long_are_overdue() -> None:
    residents = [
        resident("long", 1, idle_s=61),
        resident("short", 1, idle_s=59),
        resident("busy", 1, idle_s=0, is_idle=False),
    ]
    assert overdue(residents, 60) == ("long",)


# --- the neuron


class Departures:
    """Who left and why, in order."""

    def __init__(self, live: Bench) -> None:
        self.seen: list[tuple[ModelId, Why]] = []
        live.roster.witness(self._look)

    def _look(self, happened: Happened) -> None:
        if isinstance(happened, Unloaded):
            self.seen.append((happened.model, happened.why))


SIZES = {"a": 600, "b": 600, "c": 300}


async def test_a_neuron_alone_serves_more_models_than_fit() -> None:
    fake = FakeRuntime()
    async with bench(fake, SIZES, memory_bytes=1000, door=OWN_DOOR, stay_s=0) as live:
        departures = Departures(live)
        for model in ("a", "b", "a", "c", "b"):
            assert (await live.post(CHAT, ask(model))).status == 200
            assert sum(live.roster.granted.values()) <= 1000
        metrics = (await live.get("/metrics")).content.decode()
    assert [model for model, _ in departures.seen[:2]] == ["a", "b"]
    assert {why for _, why in departures.seen[:3]} == {Why.EVICTED}
    assert 'helexa_neuron_unloads_total{model="a",reason="evicted"} 2.0' in metrics
    assert 'helexa_neuron_loads_total{model="b",outcome="ready"} 2.0' in metrics
    assert 'helexa_neuron_load_seconds_count{model="b"} 2.0' in metrics


async def test_a_person_who_loads_a_model_has_others_make_room() -> None:
    sizes = {"a": 600, "b": 600}
    async with bench(FakeRuntime(), sizes, memory_bytes=1000, door=OWN_DOOR, stay_s=0) as live:
        bearer = {"authorization": f"Bearer {TOKEN}"}
        for model in sizes:
            loaded = await live.post(f"/api/v1/models/{model}/load", b"", headers=bearer)
            assert loaded.json["state"] == "loaded"
        assert live.roster.capability("a").state is ModelState.UNLOADED


async def test_a_cortexs_request_displaces_nobody() -> None:
    async with bench(FakeRuntime(), {"a": 600, "b": 600}, memory_bytes=1000, stay_s=0) as live:
        await live.roster.load("a")
        refused = await live.post(CHAT, ask("b"))
        assert (refused.status, refused.error["code"]) == (507, DoesNotFit.code)
        assert live.roster.capability("a").state is ModelState.LOADED


async def test_an_operator_may_forbid_it() -> None:
    async with bench(
        FakeRuntime(), {"a": 600, "b": 600}, memory_bytes=1000, door=OWN_DOOR, make_room=False
    ) as live:
        await live.roster.load("a")
        assert (await live.post(CHAT, ask("b"))).status == 507


async def test_what_never_fits_displaces_nobody() -> None:
    sizes = {"a": 600, "b": 1100}
    async with bench(FakeRuntime(), sizes, memory_bytes=1000, door=OWN_DOOR, stay_s=0) as live:
        await live.roster.load("a")
        assert (await live.post(CHAT, ask("b"))).status == 507
        assert live.roster.capability("a").state is ModelState.LOADED


async def test_a_model_in_use_is_waited_for_and_a_stream_hears_that_it_is_awaited(
    journal: Journal, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    flags = {"a": ("--holds-after", "1", "--until", str(gate))}
    fake = FakeRuntime(flags=flags, journal=journal.path)
    async with bench(
        fake,
        {"a": 600, "b": 600},
        memory_bytes=1000,
        door=OWN_DOOR,
        stay_s=0,
        keepalive_s=0.02,
    ) as live:
        replies: dict[str, Any] = {}

        async def request(model: str) -> None:
            replies[model] = await live.post(CHAT, ask(model, stream=True))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(request, "a")
            await journal.heard("holding")
            tasks.start_soon(request, "b")
            with anyio.fail_after(PATIENCE_S):
                while not live.roster.progress():
                    await anyio.lowlevel.checkpoint()
            (waits,) = live.roster.progress()
            assert (waits.model, waits.progress.phase) == ("b", Phase.WAITING)
            await anyio.sleep(0.1)  # Some keepalives' time; nothing is asserted about it.
            gate.touch()
    assert replies["a"].events[-1] == replies["b"].events[-1] == "[DONE]"
    assert b": keepalive" in replies["b"].content


async def test_who_waits_for_room_and_leaves_takes_nothing_with_it(journal: Journal) -> None:
    fake = FakeRuntime(flags={"a": ("--holds-after", "1")}, journal=journal.path)
    async with (
        bench(fake, {"a": 600, "b": 600}, memory_bytes=1000, door=OWN_DOOR, stay_s=0) as live,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(live.post, CHAT, ask("a"))
        await journal.heard("holding")
        replica = await live.roster.replica("b")
        with anyio.CancelScope() as patience:
            async with anyio.create_task_group() as waiting:
                for _ in range(2):
                    waiting.start_soon(lambda: live.roster.engine(replica, displacing=True))
                await anyio.lowlevel.checkpoint()
                patience.cancel()
        assert live.roster.progress() == ()
        assert set(live.roster.granted) == {"a"}
        tasks.cancel_scope.cancel()


async def test_many_who_ask_for_models_that_do_not_fit_together_are_all_served() -> None:
    sizes = dict.fromkeys("abcd", 600)
    async with bench(FakeRuntime(), sizes, memory_bytes=1000, door=OWN_DOOR, stay_s=0) as live:
        statuses: list[int] = []

        async def request(model: str) -> None:
            statuses.append((await live.post(CHAT, ask(model))).status)

        async with anyio.create_task_group() as tasks:
            for model in "abcdabcd":
                tasks.start_soon(request, model)
    assert statuses == [200] * 8


async def test_a_model_that_nobody_uses_leaves_by_itself(journal: Journal) -> None:
    async with bench(FakeRuntime(), {"a": 1, "b": 1}, idle_timeout_s=0.05) as live:
        states = States(live.roster, "a")
        departures = Departures(live)
        await live.roster.load("a")
        await states.until(ModelState.UNLOADED)
        assert departures.seen == [("a", Why.IDLE)]
        replica = await live.roster.replica("b")
        async with replica.gate.present():
            await live.roster.load("b")
            await live.roster.load("a")
            await states.until(ModelState.UNLOADED)
            assert live.roster.capability("b").state is ModelState.LOADED
