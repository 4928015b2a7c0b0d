"""The news of a cortex: what they say, how they are numbered, and what a slow reader gets."""

from __future__ import annotations

import json
import random
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.cortex.fleets import capability, descriptor, node

from helexa.cortex.orchestrator.fleet import (
    CapabilitiesAnnounced,
    FleetEvent,
    FleetView,
    HealthReported,
    Mark,
    NeuronLeft,
    NeuronMarked,
    NeuronRegistered,
    TimePassed,
    apply,
)
from helexa.cortex.orchestrator.news import CatalogueChanged, NeuronWent, News, RequestRouted
from helexa.cortex.orchestrator.observe import (
    KEPT_MAX,
    MISSED_MAX,
    QUEUE_MAX,
    WATCHERS_MAX,
    Item,
    Log,
)
from helexa.protocol.errors import Busy
from helexa.protocol.ids import ModelId
from helexa.protocol.work import Load, ModelProgress, ModelState, Phase, Progress, ReplicaLoad

pytestmark = pytest.mark.anyio

ONE = node(1)
LOADING, LOADED, UNLOADED = ModelState.LOADING, ModelState.LOADED, ModelState.UNLOADED


class Snap(News, frozen=True, kw_only=True, tag="snapshot"):
    """Stands for all that there is."""


class World:
    """A log over a fleet whose clock stands still until it is told otherwise."""

    def __init__(self, epoch: str = "e") -> None:
        self.now_s = 0.0
        self.view = FleetView()
        self.log = Log(epoch=epoch, monotonic=lambda: self.now_s, unix=lambda: 1_000 + self.now_s)

    def post(self, *events: FleetEvent) -> None:
        for event in events:
            before = self.view
            self.view = apply(before, event)
            self.log.fleet(before, self.view, event)

    def comes(self, *models: tuple[str, ModelState]) -> None:
        held = tuple(capability(model, state) for model, state in models)
        self.post(NeuronRegistered(descriptor=descriptor(1), capabilities=held, now_s=self.now_s))

    def has(self, *models: tuple[str, ModelState]) -> None:
        held = tuple(capability(model, state) for model, state in models)
        self.post(CapabilitiesAnnounced(node=ONE, capabilities=held, now_s=self.now_s))

    def beats(self, sequence: int, *progress: ModelProgress, **more: Any) -> None:
        load = Load(sequence=sequence, progress=progress, **more)
        self.post(HealthReported(node=ONE, load=load, now_s=self.now_s))


async def read(watcher: Any) -> list[dict[str, Any]]:
    with anyio.fail_after(1):
        return [said(item) for item in await watcher.read()]


def said(item: Item) -> dict[str, Any]:
    news = json.loads(item.data)
    assert (news["id"], news["event"]) == (item.id, item.event)
    return dict(news)


def words(news: list[dict[str, Any]]) -> list[str]:
    return [one["event"] for one in news]


async def test_whoever_starts_to_watch_begins_with_a_snapshot_and_goes_on_from_it() -> None:
    world = World()
    world.comes()
    with world.log.watching("", Snap) as watcher:
        (first,) = await read(watcher)
        assert (first["event"], first["id"], first["at_s"]) == ("snapshot", "e-1", 1_000.0)
        world.post(NeuronLeft(node=ONE, reason="bye", now_s=1))
        (left,) = await read(watcher)
        assert (left["event"], left["id"], left["reason"]) == ("neuron_removed", "e-2", "bye")


async def test_a_neuron_s_life_is_told_in_order() -> None:
    world = World()
    with world.log.watching("", Snap) as watcher:
        await read(watcher)
        world.comes(("m", UNLOADED))
        world.has(("m", LOADING))
        world.has(("m", LOADED), ("n", UNLOADED))
        world.has(("n", UNLOADED))
        world.post(NeuronMarked(node=ONE, mark=Mark.DRAINED))
        world.post(TimePassed(now_s=10, lost_after_s=2, forget_after_s=99))
        world.now_s = 11
        world.beats(1)
        world.post(NeuronLeft(node=ONE, reason="bye", now_s=12))
        news = await read(watcher)
    told = [
        (
            one["event"],
            *(str(one[key]) for key in ("model", "before", "state", "mark") if key in one),
        )
        for one in news
        if one["event"] != "neuron_heartbeat"
    ]
    assert told == [
        ("neuron_registered",),
        ("model_state_changed", "m", "absent", "unloaded"),
        ("model_state_changed", "m", "unloaded", "loading"),
        ("model_state_changed", "m", "loading", "loaded"),
        ("model_state_changed", "n", "absent", "unloaded"),
        ("model_state_changed", "m", "loaded", "absent"),
        ("neuron_marked", "drained"),
        ("neuron_presence",),
        ("neuron_presence",),
        ("neuron_removed",),
    ]


async def test_a_pull_and_a_load_tell_how_far_they_are_and_nothing_twice() -> None:
    def at(phase: Phase, done: int) -> ModelProgress:
        progress = Progress(phase=phase, bytes_done=done, bytes_total=10, eta_s=1.0)
        return ModelProgress(model=ModelId("m"), progress=progress, bytes_from_peers=2)

    world = World()
    world.comes()
    with world.log.watching("", Snap) as watcher:
        await read(watcher)
        world.beats(1, at(Phase.DOWNLOADING, 1))
        world.beats(2, at(Phase.DOWNLOADING, 1))
        world.beats(3, at(Phase.DOWNLOADING, 9))
        world.beats(4, at(Phase.LOADING, 3))
        news = [one for one in await read(watcher) if one["event"] != "neuron_heartbeat"]
    assert [(one["event"], one["progress"]["bytes_done"]) for one in news] == [
        ("pull_progress", 1),
        ("pull_progress", 9),
        ("load_progress", 3),
    ]
    assert news[0]["bytes_from_peers"] == 2


async def test_heartbeats_come_once_a_second_without_what_only_the_scheduler_reads() -> None:
    world = World()
    world.comes()
    replicas = (ReplicaLoad(model=ModelId("m"), running=1, prefixes=(1, 2, 3)),)
    with world.log.watching("", Snap) as watcher:
        await read(watcher)
        for sequence in range(1, 8):
            world.beats(sequence, replicas=replicas)
            world.now_s += 0.25
        news = await read(watcher)
    assert words(news) == ["neuron_heartbeat"] * 2
    assert news[0]["load"]["replicas"][0]["running"] == 1
    assert not news[0]["load"]["replicas"][0]["prefixes"]


async def test_passing_news_are_made_for_nobody_and_kept_for_nobody() -> None:
    world = World()
    world.log.emit(RequestRouted(model=ModelId("m"), node=ONE))
    assert world.log.now == "e-0"
    with world.log.watching("", Snap) as watcher:
        await read(watcher)
        world.log.emit(RequestRouted(model=ModelId("m"), node=ONE))
        assert words(await read(watcher)) == ["request_routed"]
        world.log.emit(CatalogueChanged(entries=1))
    with world.log.watching("e-0", Snap) as watcher:
        assert words(await read(watcher)) == ["catalogue_changed"]


@pytest.mark.parametrize(
    "since", ["", "e", "e-", "e-x", "e--1", "e-99", "f-1", "e-1-1", "e-\u0664"]
)
async def test_a_number_that_means_nothing_here_begins_with_a_snapshot(since: str) -> None:
    world = World()
    for _ in range(3):
        world.log.emit(CatalogueChanged())
    with world.log.watching(since, Snap) as watcher:
        assert words(await read(watcher)) == ["snapshot"]


async def test_a_gap_that_is_longer_than_what_is_kept_begins_with_a_snapshot() -> None:
    world = World()
    for _ in range(KEPT_MAX + 5):
        world.log.emit(CatalogueChanged())
    for since, first in ((4, "snapshot"), (KEPT_MAX + 4 - MISSED_MAX, "snapshot")):
        with world.log.watching(f"e-{since}", Snap) as watcher:
            assert words(await read(watcher)) == [first]
    with world.log.watching(f"e-{KEPT_MAX + 5 - MISSED_MAX}", Snap) as watcher:
        assert words(await read(watcher)) == ["catalogue_changed"] * MISSED_MAX


async def test_a_slow_reader_costs_a_bounded_queue_and_is_told_what_it_missed() -> None:
    world = World()
    with world.log.watching("", Snap) as watcher:
        await read(watcher)
        for _ in range(3 * QUEUE_MAX):
            world.log.emit(CatalogueChanged())
            assert len(watcher._queue) <= QUEUE_MAX
        news = await read(watcher)
        assert words(news) == ["lagged", "snapshot"]
        assert news[0]["missed"] == 3 * QUEUE_MAX
        world.log.emit(CatalogueChanged())
        assert words(await read(watcher)) == ["catalogue_changed"]


async def test_what_is_repeated_anyway_is_left_out_first() -> None:
    world = World()
    with world.log.watching("", Snap) as watcher:
        await read(watcher)
        for _ in range(2 * QUEUE_MAX):
            world.log.emit(RequestRouted(model=ModelId("m"), node=ONE))
        world.log.emit(CatalogueChanged())
        news = words(await read(watcher))
    assert news[-1] == "catalogue_changed"
    assert "lagged" not in news
    assert len(news) < QUEUE_MAX


def test_only_so_many_may_watch() -> None:
    world = World()
    watching = [world.log.watching("", Snap) for _ in range(WATCHERS_MAX)]
    for one in watching:
        one.__enter__()
    with pytest.raises(Busy):
        world.log.check_room()
    with pytest.raises(Busy), world.log.watching("", Snap):
        pass
    watching[0].__exit__(None, None, None)
    world.log.check_room()


@given(seed=st.integers(0, 2**32), breaks=st.lists(st.integers(0, 60), max_size=6))
def test_whoever_comes_back_with_its_last_number_misses_nothing(
    seed: int, breaks: list[int]
) -> None:
    """However a reader's links break, it sees each kept news once and in order."""
    world, draw = World(), random.Random(seed)
    seen: list[str] = []
    last = world.log.now
    for at in range(60):
        if at in breaks:
            with world.log.watching(last, Snap) as watcher:
                items = list(watcher._queue)
            seen += [item.id for item in items]
            last = items[-1].id if items else last
        if draw.random() < 0.7:
            world.log.emit(NeuronWent(node=ONE))
    with world.log.watching(last, Snap) as watcher:
        seen += [item.id for item in watcher._queue]
    assert seen == [f"e-{number}" for number in range(1, int(world.log.now[2:]) + 1)]
