"""Marks: kept over restarts, and told to neurons as often as they need it."""

from __future__ import annotations

import json
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import anyio
import pytest
from tests.cortex.fleets import descriptor, node

from helexa.cortex.orchestrator.fleet import (
    FleetEvent,
    FleetView,
    Mark,
    NeuronLeft,
    NeuronRegistered,
    apply,
)
from helexa.cortex.orchestrator.marks import MARKS_FILE, MarksKept, Word, owed
from helexa.protocol.errors import PeerLost
from helexa.protocol.ids import NodeId
from helexa.util.home import HomeUnusable

pytestmark = pytest.mark.anyio

ONE = node(1)


class Fleet:
    """A fleet whose neurons take their words, unless they are deaf."""

    def __init__(self) -> None:
        self.view = FleetView()
        self.now_s = 0.0
        self.taken: list[tuple[NodeId, bool]] = []
        self.deaf: set[NodeId] = set()
        self.marks: MarksKept | None = None
        self._news = anyio.Event()

    def post(self, event: FleetEvent) -> None:
        self.view = apply(self.view, event)
        if self.marks is not None:
            self.marks.changed()

    async def drain(self, node: NodeId, *, enabled: bool) -> None:
        if node in self.deaf:
            raise PeerLost("It does not answer.")
        self.taken.append((node, enabled))
        self._news.set()

    async def took(self, *words: tuple[NodeId, bool]) -> None:
        with anyio.fail_after(5):
            while self.taken != list(words):
                self._news = anyio.Event()
                await self._news.wait()
        self.taken.clear()

    def comes(self, number: int = 1) -> None:
        self.now_s += 1
        self.post(
            NeuronRegistered(descriptor=descriptor(number), capabilities=(), now_s=self.now_s)
        )

    def goes(self, number: int = 1) -> None:
        self.now_s += 1
        self.post(NeuronLeft(node=node(number), reason="gone", now_s=self.now_s))


def kept(home: Path, fleet: Fleet) -> AbstractAsyncContextManager[MarksKept]:
    return MarksKept.running(home, fleet)


async def test_a_drained_neuron_is_told_at_once_and_again_whenever_it_registers(
    tmp_path: Path,
) -> None:
    fleet = Fleet()
    async with kept(tmp_path, fleet) as marks:
        fleet.marks = marks
        fleet.comes()
        await marks.set(ONE, Mark.DRAINED)
        await fleet.took((ONE, True))
        fleet.goes()
        fleet.comes()
        await fleet.took((ONE, True))


async def test_marks_outlive_the_cortex(tmp_path: Path) -> None:
    async with kept(tmp_path, Fleet()) as marks:
        await marks.set(ONE, Mark.DRAINED)
        await marks.set(node(2), Mark.CORDONED)
    fleet = Fleet()
    async with kept(tmp_path, fleet) as marks:
        fleet.marks = marks
        assert fleet.view.marks == {ONE: Mark.DRAINED, node(2): Mark.CORDONED}
        fleet.comes()
        fleet.comes(2)
        await fleet.took((ONE, True))


async def test_one_that_was_away_when_its_drain_ended_is_told_so_even_by_another_run(
    tmp_path: Path,
) -> None:
    async with kept(tmp_path, Fleet()) as marks:
        await marks.set(ONE, Mark.DRAINED)
        await marks.set(ONE, None)
    fleet = Fleet()
    async with kept(tmp_path, fleet) as marks:
        fleet.marks = marks
        fleet.comes()
        await fleet.took((ONE, False))
    assert json.loads((tmp_path / MARKS_FILE).read_text())["released"] == []


async def test_a_neuron_that_does_not_take_the_word_is_marked_all_the_same(tmp_path: Path) -> None:
    fleet = Fleet()
    async with kept(tmp_path, fleet) as marks:
        fleet.comes()
        fleet.deaf.add(ONE)
        await marks.set(ONE, Mark.DRAINED)
        assert fleet.view.neurons[ONE].draining
        assert owed(fleet.view, marks.released, marks.told) == (Word(ONE, True, 1.0),)


async def test_a_neuron_that_was_never_drained_here_is_told_nothing(tmp_path: Path) -> None:
    """It may be draining by another cortex's word, which is not ours to take back."""
    fleet = Fleet()
    async with kept(tmp_path, fleet) as marks:
        fleet.comes()
        await marks.set(ONE, Mark.CORDONED)
        await marks.set(ONE, None)
        assert owed(fleet.view, marks.released, marks.told) == ()
    assert fleet.taken == []


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        '{"version": 2, "marks": {}}',
        '{"version": 1, "marks": {"x": "drained"}}',
        f'{{"version": 1, "marks": {{"{ONE}": "asleep"}}}}',
    ],
)
async def test_a_file_that_is_damaged_refuses_the_start_and_says_what_to_do(
    tmp_path: Path, content: str
) -> None:
    (tmp_path / MARKS_FILE).write_text(content)
    with pytest.raises(HomeUnusable, match=r"marks.json .*helexa nodes"):
        async with kept(tmp_path, Fleet()):
            pass
    assert (tmp_path / MARKS_FILE).read_text() == content
