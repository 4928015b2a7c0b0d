"""How far a load is, when it may be done, and what is remembered of it."""

from __future__ import annotations

import os
from pathlib import Path

import anyio
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.neuron.bench import PATIENCE_S, Journal, bench

from helexa.neuron.supervisor.load_rates import (
    LoadWork,
    PastLoad,
    PhaseTimes,
    Rates,
    Taken,
    ThisLoad,
    expected,
    fitted,
    remaining_s,
)
from helexa.neuron.supervisor.load_times import REMEMBERED_MAX, LoadTimes
from helexa.neuron.supervisor.loading import PROGRAM_BYTES, Loading, taken_by, warm_share
from helexa.protocol.ids import ModelId
from helexa.protocol.work import Phase
from helexa.testing.fake_runtime import FakeRuntime

pytestmark = pytest.mark.anyio

MODEL = ModelId("m")
GB = 10**9
TRUTH = Rates(cold_s=0.7, warm_s=0.05, other_s=2.0, begin_s=0.5, begin_gb_s=0.1)
WORKS = st.builds(
    LoadWork, cold=st.integers(0, 40 * GB), warm=st.integers(0, 40 * GB), other=st.integers(0, GB)
)
SECONDS = st.floats(0, 1e4)
TIMES = st.builds(PhaseTimes, weights_s=SECONDS, other_s=SECONDS, begin_s=SECONDS)


def load(work: LoadWork, model: str = MODEL, how: str = "h") -> ThisLoad:
    return ThisLoad(model=model, how=how, work=work)


def past(work: LoadWork, took: PhaseTimes | float, model: str = MODEL) -> PastLoad:
    if isinstance(took, float):
        took = PhaseTimes(weights_s=took, other_s=0, begin_s=0)
    return PastLoad(load=load(work, model), took=took)


# --- what is learnt


def test_without_any_load_a_usual_disk_is_assumed() -> None:
    assert fitted([]).times(LoadWork(cold=2 * GB)).weights_s == 10


def test_the_speeds_of_disk_memory_and_engine_are_told_apart() -> None:
    loads = [
        past(work, TRUTH.times(work))
        for gb in (1, 2, 5, 9)
        for work in (
            LoadWork(cold=gb * GB, other=GB // 2),
            LoadWork(cold=0, warm=gb * GB, other=GB // 4),
            LoadWork(cold=gb * GB // 2, warm=gb * GB // 2, other=gb * GB),
        )
    ]
    found = fitted(loads)
    for work in (LoadWork(cold=20 * GB), LoadWork(cold=0, warm=20 * GB, other=3 * GB)):
        assert found.times(work).seconds == pytest.approx(TRUTH.times(work).seconds, rel=0.15)


def test_the_latest_loads_weigh_most() -> None:
    work = LoadWork(cold=10 * GB)
    slow_then_fast = [past(work, 60.0)] * 20 + [past(work, 10.0)] * 40
    assert fitted(slow_then_fast).times(work).weights_s == pytest.approx(10, rel=0.25)


@given(st.lists(st.builds(past, WORKS, TIMES), max_size=30), WORKS)
def test_no_history_makes_a_load_take_less_than_nothing_or_less_for_more(
    loads: list[PastLoad], work: LoadWork
) -> None:
    rates = fitted(loads)
    assert min(rates.times(LoadWork(cold=0)).begin_s, *_parts(rates.times(work))) >= 0
    more = LoadWork(cold=work.cold + GB, warm=work.warm, other=work.other)
    assert rates.times(more).seconds > rates.times(work).seconds
    assert min(_parts(expected(loads, rates, load(work)))) >= 0


def _parts(times: PhaseTimes) -> tuple[float, float, float]:
    return times.weights_s, times.other_s, times.begin_s


def test_a_model_that_always_takes_twice_as_long_is_known_for_it() -> None:
    usual = [past(LoadWork(cold=gb * GB), float(gb), f"m{gb}") for gb in range(1, 20)]
    odd = [past(LoadWork(cold=5 * GB), 10.0, "odd")] * 3
    rates = fitted(usual)
    work = LoadWork(cold=5 * GB)
    assert expected(usual + odd, rates, load(work, "odd")).weights_s == pytest.approx(10, rel=0.2)
    assert expected(usual, rates, load(work, "unseen")) == rates.times(work)
    # Found in memory it is quick all the same.
    warm = LoadWork(cold=0, warm=5 * GB)
    assert expected(usual + odd, rates, load(warm, "odd")).weights_s < 2


# --- what is left


def left(times: PhaseTimes, work: LoadWork, elapsed_s: float, at: Taken | None) -> float:
    return remaining_s(times, work, elapsed_s=elapsed_s, taken=at, full_since_s=None)


@given(WORKS, st.floats(0, 1))
def test_a_load_at_its_usual_pace_takes_what_is_left_of_the_usual_time(
    work: LoadWork, share: float
) -> None:
    times = TRUTH.times(work)
    at = Taken(weights=int(work.weights * share), other=int(work.other * share))
    filling_s = times.weights_s + times.other_s
    found = left(times, work, filling_s * share, at)
    assert found == pytest.approx(filling_s * (1 - share) + times.begin_s, rel=0.02, abs=0.05)


def test_a_load_that_is_slower_than_usual_is_expected_to_stay_so() -> None:
    times = PhaseTimes(weights_s=20, other_s=0, begin_s=1)
    half = Taken(weights=10 * GB, other=0)
    found = left(times, LoadWork(cold=20 * GB), 40, half)
    assert 25 < found < 45  # At its own pace 41 s, at the usual one 11 s.


def test_what_the_system_does_not_tell_is_reckoned_by_the_clock() -> None:
    times = PhaseTimes(weights_s=8, other_s=2, begin_s=1)
    assert left(times, LoadWork(cold=GB), 4, None) == pytest.approx(7)
    assert left(times, LoadWork(cold=GB), 40, None) > 0


def test_when_all_is_taken_in_only_the_engines_beginning_is_left() -> None:
    times = PhaseTimes(weights_s=8, other_s=2, begin_s=5)

    def full(since_s: float) -> float:
        work, at = LoadWork(cold=GB), Taken(weights=GB, other=0)
        return remaining_s(times, work, elapsed_s=99, taken=at, full_since_s=since_s)

    assert full(0) == 5
    assert full(3) == 2
    assert 0 < full(20) < 20  # Overdue: it is expected to go on for a while.


# --- what is seen


def test_mapped_and_read_weights_are_both_seen(tmp_path: Path) -> None:
    child = tmp_path / "7"
    child.mkdir()
    (child / "io").write_text("rchar: 2000000\nwchar: 5\n")
    mapped_kb = PROGRAM_BYTES // 1024 + 500_000
    (child / "status").write_text(f"Name:\tpython\nRssAnon:\t 1000 kB\nRssFile:\t {mapped_kb} kB\n")
    assert taken_by(7, tmp_path) == Taken(weights=512_000_000, other=1_024_000)
    (child / "io").write_text("rchar: 700000000\n")
    (child / "status").write_text("RssAnon:\t 900000 kB\nRssFile:\t 17000 kB\n")
    assert taken_by(7, tmp_path) == Taken(weights=700_000_000, other=221_600_000)
    assert taken_by(8, tmp_path) is None


def test_what_a_worker_loads_is_seen_to_load(tmp_path: Path) -> None:
    """A sandbox stands before the engine, and some engines load in a process of their own."""
    for pid, children, read in ((7, "8 9", 10), (8, "", 20), (9, "10", 30), (10, "", 4_000)):
        (tmp_path / f"{pid}/task/{pid}").mkdir(parents=True)
        (tmp_path / f"{pid}/task/{pid}/children").write_text(children)
        (tmp_path / f"{pid}/io").write_text(f"rchar: {read * 1_000}\n")
        (tmp_path / f"{pid}/status").write_text("RssAnon:\t 5000 kB\nRssFile:\t 900 kB\n")
    found = taken_by(7, tmp_path)
    assert found is not None
    assert found.weights == 4_000_000
    assert found.other > 0


def test_what_lies_in_the_page_cache_is_no_work_for_the_disk(tmp_path: Path) -> None:
    file = tmp_path / "w.gguf"
    file.write_bytes(os.urandom(1 << 22))
    assert warm_share(file) == 1.0
    with file.open("rb") as opened:
        os.fsync(opened.fileno())
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    assert warm_share(file) < 0.1
    assert warm_share(tmp_path / "none") == 0.0
    assert warm_share(tmp_path) == 0.0


class Child:
    """What /proc says of one, and the time."""

    def __init__(self) -> None:
        self.now = 0.0
        self.seen: Taken | None = None

    def loading(self, work: LoadWork) -> Loading:
        made = Loading(load(work), LoadTimes(), lambda: self.now, taken=lambda _pid: self.seen)
        made.pid = 1
        return made


def test_the_phases_of_a_load_are_told_apart() -> None:
    child = Child()
    one = child.loading(LoadWork(cold=1000, other=500))
    for at, weights, other in ((1, 400, 5), (3, 1000, 5), (4, 1000, 490), (5, 1000, 490)):
        child.now, child.seen = float(at), Taken(weights=weights, other=other)
        one.look()
    assert one.progress().bytes_done == one.progress().bytes_total == 1000
    child.now = 9.0
    assert one.ended().took == PhaseTimes(weights_s=3, other_s=1, begin_s=5)


def test_pages_that_are_given_back_do_not_undo_progress() -> None:
    child = Child()
    one = child.loading(LoadWork(cold=1000))
    assert one.progress().bytes_done == 0
    for weights in (600, 100):
        child.seen = Taken(weights=weights, other=0)
        one.look()
        assert one.progress().bytes_done == 600


# --- what is remembered


async def test_times_survive_a_restart_and_stay_bounded(tmp_path: Path) -> None:
    memory = tmp_path / "loads.json"
    times = LoadTimes(memory)
    work = LoadWork(cold=GB)
    for number in range(REMEMBERED_MAX + 5):
        await times.note(past(work, 2.0 + number))
    again = LoadTimes(memory)
    assert again.load_s(load(work)) == 2.0 + REMEMBERED_MAX + 4
    assert again.expected(load(work)) == times.expected(load(work))
    assert memory.read_bytes().count(b'"model"') == REMEMBERED_MAX
    other = load(work, how="another context")
    assert again.load_s(other) == again.expected(other).seconds


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        msgspec.json.encode([past(LoadWork(cold=-1), 5.0)]),
        msgspec.json.encode([past(LoadWork(cold=1), 1e300)]),
    ],
)
def test_a_memory_that_makes_no_sense_is_begun_anew(tmp_path: Path, content: bytes) -> None:
    memory = tmp_path / "loads.json"
    memory.write_bytes(content)
    this = load(LoadWork(cold=GB))
    assert LoadTimes(memory).expected(this) == LoadTimes().expected(this)


async def test_a_memory_that_cannot_be_written_is_no_reason_to_fail(tmp_path: Path) -> None:
    times = LoadTimes(tmp_path / "none" / "loads.json")
    await times.note(past(LoadWork(cold=1), 2.0))
    assert times.load_s(load(LoadWork(cold=1))) == 2.0


async def test_a_load_is_seen_while_it_goes_on_and_timed_when_it_ends(
    journal: Journal, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    flags = {MODEL: ("--load-waits-for", str(gate))}
    fake = FakeRuntime(flags=flags, journal=journal.path)
    async with bench(fake, {MODEL: 10_000}) as live:
        expected_s = live.roster.capability(MODEL).load_s
        assert expected_s > 0
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(live.roster.load, MODEL)
            await journal.heard("started")
            (seen,) = live.roster.progress()
            assert (seen.model, seen.progress.phase) == (MODEL, Phase.LOADING)
            assert seen.progress.bytes_total == 10_000
            assert seen.progress.eta_s is not None
            gate.touch()
        assert live.roster.progress() == ()
        with anyio.fail_after(PATIENCE_S):
            while live.roster.capability(MODEL).load_s == expected_s:
                await anyio.lowlevel.checkpoint()


async def test_a_load_that_fails_is_no_measure_of_one(journal: Journal) -> None:
    flags = {MODEL: ("--say", "out of memory", "--loading-dies", "1")}
    fake = FakeRuntime(flags=flags, journal=journal.path)
    async with bench(fake, {MODEL: 10_000}) as live:
        expected_s = live.roster.capability(MODEL).load_s
        with pytest.raises(Exception, match="out of memory"):
            await live.roster.load(MODEL)
        assert live.roster.progress() == ()
        assert live.roster.capability(MODEL).load_s == expected_s
