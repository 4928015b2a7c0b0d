"""How far a load is, when it may be done, and what is remembered of it."""

from __future__ import annotations

import os
from pathlib import Path

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.neuron.bench import PATIENCE_S, Journal, bench

from helexa.neuron.supervisor.load_rates import (
    LoadWork,
    PastLoad,
    Rates,
    Taken,
    fitted,
    like,
    remaining_s,
)
from helexa.neuron.supervisor.load_times import REMEMBERED_MAX, LoadTimes
from helexa.neuron.supervisor.loading import PROGRAM_BYTES, Loading, taken, warm_share
from helexa.protocol.ids import ModelId
from helexa.protocol.work import Phase
from helexa.testing.fake_runtime import FakeRuntime

pytestmark = pytest.mark.anyio

MODEL = ModelId("m")
GB = 10**9
TRUTH = Rates(0.5, 0.7, 0.05, 2.0)
WORKS = st.builds(
    LoadWork, cold=st.integers(0, 40 * GB), warm=st.integers(0, 40 * GB), other=st.integers(0, GB)
)


def past(work: LoadWork, seconds: float, model: str = MODEL, how: str = "h") -> PastLoad:
    return PastLoad(model=model, how=how, work=work, seconds=seconds)


# --- what is learnt


def test_without_any_load_a_usual_disk_is_assumed() -> None:
    assert fitted([]).seconds(LoadWork(cold=2 * GB)) == pytest.approx(10.4)


def test_the_speeds_of_disk_memory_and_context_are_told_apart() -> None:
    loads = [
        past(work, TRUTH.seconds(work))
        for gb in (1, 2, 5, 9)
        for work in (
            LoadWork(cold=gb * GB, other=GB // 2),
            LoadWork(cold=0, warm=gb * GB, other=GB // 4),
            LoadWork(cold=gb * GB // 2, warm=gb * GB // 2, other=gb * GB),
        )
    ]
    found = fitted(loads)
    for work in (LoadWork(cold=20 * GB), LoadWork(cold=0, warm=20 * GB, other=3 * GB)):
        assert found.seconds(work) == pytest.approx(TRUTH.seconds(work), rel=0.15)


def test_the_latest_loads_weigh_most() -> None:
    work = LoadWork(cold=10 * GB)
    slow_then_fast = [past(work, 60.0)] * 20 + [past(work, 10.0)] * 40
    assert fitted(slow_then_fast).seconds(work) == pytest.approx(10, rel=0.25)


@given(st.lists(st.builds(past, WORKS, st.floats(0.01, 1e4)), max_size=30), WORKS)
def test_no_history_makes_a_load_take_less_than_nothing_or_more_for_less(
    loads: list[PastLoad], work: LoadWork
) -> None:
    rates = fitted(loads)
    assert rates.seconds(LoadWork(cold=0)) > 0
    more = LoadWork(cold=work.cold + GB, warm=work.warm, other=work.other)
    assert rates.seconds(more) > rates.seconds(work)


def test_a_model_that_always_takes_twice_as_long_is_known_for_it() -> None:
    usual = [past(LoadWork(cold=gb * GB), float(gb), f"m{gb}") for gb in range(1, 20)]
    odd = [past(LoadWork(cold=5 * GB), 10.0, "odd")]
    rates = fitted(usual)
    assert like(usual + odd, rates, "odd", "h") == pytest.approx(2, rel=0.15)
    assert like(usual, rates, "unseen", "h") == 1


# --- what is left


@given(WORKS, st.floats(0, 1))
def test_a_load_at_its_usual_pace_takes_what_is_left_of_the_usual_time(
    work: LoadWork, share: float
) -> None:
    whole = TRUTH.seconds(work)
    begun = TRUTH.fixed_s / 2
    at = Taken(weights=int((work.cold + work.warm) * share), other=int(work.other * share))
    elapsed = begun + (whole - TRUTH.fixed_s) * share
    left = remaining_s(TRUTH, work, scale=1.0, elapsed_s=elapsed, taken=at)
    assert left == pytest.approx(whole - elapsed, rel=0.02, abs=0.05)


def test_a_load_that_is_slower_than_usual_is_expected_to_stay_so() -> None:
    work = LoadWork(cold=20 * GB)
    half = Taken(weights=10 * GB, other=0)
    left = remaining_s(Rates(0.1, 1.0, 0.1, 1.0), work, scale=1.0, elapsed_s=40, taken=half)
    assert 25 < left < 45  # At its own pace 40 s, at the usual one 10 s.


def test_what_the_system_does_not_tell_is_reckoned_by_the_clock() -> None:
    work = LoadWork(cold=10 * GB)
    rates = Rates(0.0, 1.0, 0.1, 1.0)
    assert remaining_s(rates, work, scale=1.0, elapsed_s=4, taken=None) == pytest.approx(6)
    assert remaining_s(rates, work, scale=1.0, elapsed_s=40, taken=None) > 0


# --- what is seen


def test_mapped_and_read_weights_are_both_seen(tmp_path: Path) -> None:
    child = tmp_path / "7"
    child.mkdir()
    (child / "io").write_text("rchar: 2000000\nwchar: 5\n")
    mapped_kb = PROGRAM_BYTES // 1024 + 500_000
    (child / "status").write_text(f"Name:\tpython\nRssAnon:\t 1000 kB\nRssFile:\t {mapped_kb} kB\n")
    assert taken(7, tmp_path) == Taken(weights=512_000_000, other=1_024_000)
    (child / "io").write_text("rchar: 700000000\n")
    (child / "status").write_text("RssAnon:\t 900000 kB\nRssFile:\t 20000 kB\n")
    assert taken(7, tmp_path) == Taken(weights=700_000_000, other=221_600_000)
    assert taken(8, tmp_path) is None


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


async def test_pages_that_are_given_back_do_not_undo_progress() -> None:
    now = 0.0
    loading = Loading(
        model=MODEL,
        how="h",
        work=LoadWork(cold=1 << 40),
        times=LoadTimes(),
        clock=lambda: now,
        begun_at=0.0,
        pid=os.getpid(),
    )
    seen = loading.progress()
    assert seen.bytes_total == 1 << 40
    assert loading.progress().bytes_done == seen.bytes_done
    now = 100.0
    assert loading.progress().bytes_done >= seen.bytes_done


# --- what is remembered


async def test_times_survive_a_restart_and_stay_bounded(tmp_path: Path) -> None:
    memory = tmp_path / "loads.json"
    times = LoadTimes(memory)
    work = LoadWork(cold=GB)
    for number in range(REMEMBERED_MAX + 5):
        await times.note(past(work, 2.0 + number))
    again = LoadTimes(memory)
    assert again.load_s(MODEL, "h", work) == 2.0 + REMEMBERED_MAX + 4
    assert again.rates == times.rates
    assert memory.read_bytes().count(b'"model"') == REMEMBERED_MAX
    assert again.load_s(MODEL, "another context", work) == again.rates.seconds(work)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b'[{"model":"m","how":"h","work":{"cold":-1},"seconds":5}]',
        b'[{"model":"m","how":"h","work":{"cold":1},"seconds":1e300}]',
    ],
)
def test_a_memory_that_makes_no_sense_is_begun_anew(tmp_path: Path, content: bytes) -> None:
    memory = tmp_path / "loads.json"
    memory.write_bytes(content)
    assert LoadTimes(memory).rates == fitted([])


async def test_a_memory_that_cannot_be_written_is_no_reason_to_fail(tmp_path: Path) -> None:
    times = LoadTimes(tmp_path / "none" / "loads.json")
    await times.note(past(LoadWork(cold=1), 2.0))
    assert times.load_s(MODEL, "h", LoadWork(cold=1)) == 2.0


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
