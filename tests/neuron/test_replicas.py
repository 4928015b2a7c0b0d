"""Replicas that fail in every way that a flag of the fake child knows."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import anyio
import pytest
from tests.neuron.bench import PATIENCE_S, Journal, bench, is_alive
from tests.neuron.states import States

from helexa.neuron.supervisor import appetite
from helexa.protocol.errors import DoesNotFit, Draining, HelexaError, ModelUnknown, RuntimeExited
from helexa.protocol.messages import ModelConfig
from helexa.protocol.work import ModelState
from helexa.testing.fake_runtime import FakeRuntime, Shelf

pytestmark = pytest.mark.anyio

MODEL = "m"


def runtime(journal: Journal | None, *flags: str, **more: Any) -> FakeRuntime:
    return FakeRuntime(flags={MODEL: flags}, journal=journal.path if journal else None, **more)


async def test_a_model_is_loaded_and_unloaded_and_each_state_is_told(journal: Journal) -> None:
    async with bench(runtime(journal), {MODEL: 1000}) as live:
        states = States(live.roster, MODEL)
        await live.roster.load(MODEL)
        assert live.roster.granted == {MODEL: 1000}
        pid = (await journal.heard("started"))["pid"]
        await live.roster.unload(MODEL, grace_s=5)
        assert live.roster.granted == {}
    assert states.seen[:5] == [
        ModelState.LOADING,
        ModelState.LOADED,
        ModelState.DRAINING,
        ModelState.UNLOADING,
        ModelState.UNLOADED,
    ]
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_a_load_after_an_unload_waits_for_the_new_child(
    journal: Journal, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    async with bench(runtime(journal, "--load-waits-for", str(gate)), {MODEL: 1000}) as live:
        for _ in range(3):
            await live.roster.load(MODEL)
            assert live.roster.capability(MODEL).state is ModelState.LOADED
            await live.roster.unload(MODEL, grace_s=5)
            assert (await live.roster.replica(MODEL)).engine is None


async def test_many_who_ask_at_once_share_one_start(journal: Journal, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    async with bench(runtime(journal, "--load-waits-for", str(gate)), {MODEL: 1}) as live:
        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(live.roster.load, MODEL)
            await journal.heard("started")
            gate.touch()
        replica = await live.roster.replica(MODEL)
        assert replica.state.launches == 1


async def test_a_replica_that_dies_while_loading_is_given_up_with_its_own_words() -> None:
    fake = runtime(None, "--say", "the disk is on fire", "--loading-dies", "3")
    async with bench(fake, {MODEL: 1}) as live:
        with anyio.fail_after(PATIENCE_S), pytest.raises(RuntimeExited, match="disk is on fire"):
            await live.roster.load(MODEL)
        capability = live.roster.capability(MODEL)
        assert capability.state is ModelState.FAILED
        assert "the disk is on fire" in capability.reason
        assert live.roster.granted == {}


async def test_a_load_error_that_no_repetition_mends_is_tried_once(journal: Journal) -> None:
    fake = runtime(journal, "--say", "ggml: out of memory", "--loading-dies", "1")
    async with bench(fake, {MODEL: 1}) as live:
        with anyio.fail_after(PATIENCE_S), pytest.raises(RuntimeExited, match="out of memory"):
            await live.roster.load(MODEL)
        replica = await live.roster.replica(MODEL)
        assert replica.state.launches == 1


async def test_a_crash_during_the_first_start_is_got_over(journal: Journal, tmp_path: Path) -> None:
    fake = runtime(journal, "--first-dies", str(tmp_path / "died"))
    async with bench(fake, {MODEL: 1}) as live:
        with anyio.fail_after(PATIENCE_S):
            await live.roster.load(MODEL)
        replica = await live.roster.replica(MODEL)
        assert replica.state.launches == 2
        assert replica.state.reason == ""


async def test_a_child_that_never_becomes_ready_is_ended_and_named(journal: Journal) -> None:
    fake = runtime(journal, "--never-ready", "--say", "still thinking", ready_within_s=2)
    async with bench(fake, {MODEL: 1}) as live:
        with anyio.fail_after(PATIENCE_S), pytest.raises(RuntimeExited) as caught:
            await live.roster.load(MODEL)
        assert "not ready within 2 s; last words: still thinking" in caught.value.message
        pid = (await journal.heard("started"))["pid"]
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_a_child_that_hangs_is_replaced_and_named(journal: Journal, tmp_path: Path) -> None:
    held = tmp_path / "held"
    fake = runtime(journal, "--hangs-with", str(held), live_every_s=0.02, live_within_s=0.2)
    async with bench(fake, {MODEL: 1}) as live:
        states = States(live.roster, MODEL)
        await live.roster.load(MODEL)
        first = (await journal.heard("started"))["pid"]
        held.touch()
        await states.until(ModelState.LOADING)
        said = live.roster.capability(MODEL)
        assert (said.reason_code, said.reason) == ("hangs", "it stopped answering")
        held.unlink()
        await states.until(ModelState.LOADED)
        assert (await journal.heard("started"))["pid"] != first
        assert live.roster.capability(MODEL).reason_code == ""


async def test_a_child_that_takes_far_too_much_is_ended_named_and_started_again(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(appetite, "limit_bytes", lambda granted, factor: 200 << 20)
    monkeypatch.setattr(appetite, "LOOK_EVERY_S", 0.02)
    grows = runtime(journal, "--grows-bytes", str(400 << 20), "--holds-after", "1")
    async with bench(grows, {MODEL: 1 << 20}) as live:
        states = States(live.roster, MODEL)
        await live.roster.load(MODEL)
        first = (await journal.heard("started"))["pid"]
        ask = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "stream": True}
        reply = await live.post("/v1/chat/completions", ask)
        assert reply.events[-1]["error"]["code"] == "runtime_exited"
        await states.until(ModelState.LOADED)
        assert (await journal.heard("started"))["pid"] != first
        assert ("overgrown", True) in {
            (code, "1.0 MiB were granted" in reason) for code, reason in states.reasons
        }


async def test_a_killed_child_is_back_by_itself(journal: Journal) -> None:
    async with bench(runtime(journal), {MODEL: 1}) as live:
        states = States(live.roster, MODEL)
        await live.roster.load(MODEL)
        pid = (await journal.heard("started"))["pid"]
        os.kill(pid, signal.SIGKILL)
        await states.until(ModelState.LOADING)
        await states.until(ModelState.LOADED)
        assert (await journal.heard("started"))["pid"] != pid


async def test_a_stop_during_a_load_leaves_nothing_running(
    journal: Journal, tmp_path: Path
) -> None:
    fake = runtime(journal, "--load-waits-for", str(tmp_path / "never"))
    refused: list[HelexaError] = []
    async with bench(fake, {MODEL: 1}) as live:

        async def load() -> None:
            try:
                await live.roster.load(MODEL)
            except HelexaError as error:
                refused.append(error)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(load)
            pid = (await journal.heard("started"))["pid"]
            await live.roster.unload(MODEL, grace_s=0)
        assert "was stopped" in refused[0].message
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
        assert live.roster.granted == {}


async def test_a_model_too_large_for_the_memory_is_refused_with_the_numbers() -> None:
    async with bench(runtime(None), {MODEL: 900 << 20}, memory_bytes=512 << 20) as live:
        with pytest.raises(DoesNotFit) as caught:
            await live.roster.load(MODEL)
        assert "900 MiB" in caught.value.message
        assert "512 MiB" in caught.value.message


async def test_what_is_granted_counts_against_the_next(journal: Journal) -> None:
    async with bench(runtime(journal), {MODEL: 600, "other": 600}, memory_bytes=1000) as live:
        await live.roster.load(MODEL)
        with pytest.raises(DoesNotFit) as caught:
            await live.roster.load("other")
        assert caught.value.free_bytes == 400
        await live.roster.unload(MODEL, grace_s=1)
        await live.roster.load("other")
        assert live.roster.granted == {"other": 600}


async def test_an_unload_lets_running_requests_end_and_refuses_new_ones(
    journal: Journal,
) -> None:
    async with bench(runtime(journal), {MODEL: 1}) as live:
        await live.roster.load(MODEL)
        replica = await live.roster.replica(MODEL)
        async with anyio.create_task_group() as tasks:
            async with replica.gate.present():
                states = States(live.roster, MODEL)
                tasks.start_soon(live.roster.unload, MODEL, PATIENCE_S)
                await states.until(ModelState.DRAINING)
                with pytest.raises(Draining):
                    await live.roster.replica(MODEL)
                assert replica.engine is not None
            await states.until(ModelState.UNLOADED)


async def test_a_drained_neuron_refuses_new_work_until_it_is_undrained() -> None:
    async with bench(runtime(None), {MODEL: 1}) as live:
        live.roster.drain(enabled=True)
        with pytest.raises(Draining):
            await live.roster.replica(MODEL)
        assert (await live.get("/readyz")).status == 503
        live.roster.drain(enabled=False)
        await live.roster.replica(MODEL)


async def test_a_new_configuration_holds_from_the_next_load_on(journal: Journal) -> None:
    async with bench(runtime(journal), {MODEL: 1}, slots=4) as live:
        await live.roster.load(MODEL)
        live.roster.configure(MODEL, ModelConfig(slots=2, context_tokens=256))
        assert live.roster.capability(MODEL).slots == 4
        await live.roster.unload(MODEL, grace_s=1)
        await live.roster.load(MODEL)
        assert live.roster.capability(MODEL).slots == 2
        assert live.roster.capability(MODEL).context_tokens == 256


async def test_an_unknown_name_is_nobody() -> None:
    async with bench(runtime(None), {MODEL: 1}) as live:
        for name in ("nobody", "../m", ""):
            with pytest.raises(ModelUnknown):
                await live.roster.replica(name)


async def test_a_child_that_logs_without_end_still_becomes_ready(journal: Journal) -> None:
    fake = runtime(journal, "--logs-bytes", str(64 << 20))
    async with bench(fake, {MODEL: 1}) as live:
        with anyio.fail_after(PATIENCE_S):
            await live.roster.load(MODEL)


async def test_the_workers_of_a_killed_child_do_not_outlive_it(journal: Journal) -> None:
    async with bench(runtime(journal, "--forks-worker"), {MODEL: 1}) as live:
        states = States(live.roster, MODEL)
        await live.roster.load(MODEL)
        first = await journal.heard("started")
        os.kill(first["pid"], signal.SIGKILL)
        await states.until(ModelState.LOADING)
        await states.until(ModelState.LOADED)
        assert not is_alive(first["worker"])


async def test_a_model_whose_file_is_gone_gives_its_memory_back(journal: Journal) -> None:
    async with bench(runtime(journal), {MODEL: 1000}) as live:
        await live.roster.load(MODEL)
        pid = (await journal.heard("started"))["pid"]
        shelf = live.roster.store
        assert isinstance(shelf, Shelf)
        shelf.remove(MODEL)
        with anyio.fail_after(PATIENCE_S):
            while live.roster.granted:
                await anyio.lowlevel.checkpoint()
        assert not is_alive(pid)
        with pytest.raises(ModelUnknown):
            await live.roster.replica(MODEL)


async def test_a_given_up_model_says_why_until_somebody_insists(
    journal: Journal, tmp_path: Path
) -> None:
    died = tmp_path / "died"
    fake = runtime(journal, "--say", "out of memory", "--first-dies", str(died))
    async with bench(fake, {MODEL: 1}) as live:
        with anyio.fail_after(PATIENCE_S):
            replica = await live.roster.replica(MODEL)
            for _ in range(2):
                with pytest.raises(RuntimeExited, match="out of memory"):
                    await live.roster.engine(replica)
            assert replica.state.launches == 1
            assert live.roster.granted == {}
            await live.roster.load(MODEL)
        assert live.roster.capability(MODEL).state is ModelState.LOADED
