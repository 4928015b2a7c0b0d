"""A child process and everything that it forked are gone by the end of the block."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import anyio
import pytest
from tests.neuron.bench import Journal, is_alive

from helexa.neuron.supervisor.process import TAIL_BYTES_MAX, child, inherited
from helexa.util import kept


def fake(folder: Path, journal: Journal, *flags: str) -> tuple[str, ...]:
    program = (sys.executable, "-I", "-m", "helexa.testing.runtime_child")
    return (*program, "--socket", str(folder / "s"), "--journal", str(journal.path), *flags)


PYTHON = (sys.executable, "-I", "-S", "-c")


@pytest.mark.anyio
async def test_the_exit_status_comes_with_the_last_words(tmp_path: Path) -> None:
    argv = (*PYTHON, "import sys; print('the cause', file=sys.stderr); sys.exit(3)")
    with anyio.fail_after(20):
        async with child(argv, {}, folder=str(tmp_path), grace_s=5) as started:
            assert await started.exited() == 3
            assert "the cause" in started.tail


@pytest.mark.anyio
async def test_a_child_that_logs_without_end_costs_no_memory(tmp_path: Path) -> None:
    argv = (*PYTHON, "import os\nfor _ in range(4000): os.write(2, b'x' * 9999 + b'\\n')")
    with anyio.fail_after(20):
        async with child(argv, {}, folder=str(tmp_path), grace_s=5) as started:
            assert await started.exited() == 0
            assert 0 < len(started.tail) <= TAIL_BYTES_MAX


@pytest.mark.anyio
async def test_a_child_that_ignores_sigterm_is_killed_after_the_grace(
    tmp_path: Path, journal: Journal
) -> None:
    with anyio.fail_after(20):
        argv = fake(tmp_path, journal, "--ignores-sigterm")
        async with child(argv, {}, folder=str(tmp_path), grace_s=0.2) as started:
            await journal.heard("started")
            pid = started.pid
    assert not is_alive(pid)
    await journal.heard("sigterm")


@pytest.mark.anyio
async def test_a_forked_worker_that_ignores_sigterm_is_gone_too(
    tmp_path: Path, journal: Journal
) -> None:
    with anyio.fail_after(20):
        argv = fake(tmp_path, journal, "--forks-worker")
        async with child(argv, {}, folder=str(tmp_path), grace_s=5):
            worker = (await journal.heard("started"))["worker"]
            assert is_alive(worker)
    assert not is_alive(worker)


@pytest.mark.anyio
async def test_an_exit_is_noticed_although_a_worker_holds_the_output_open(tmp_path: Path) -> None:
    argv = (
        *PYTHON,
        """
import os, signal
if os.fork() == 0:
    while True: signal.pause()
os.write(2, b'leaving')
os._exit(4)
""",
    )
    with anyio.fail_after(20):
        async with child(argv, {}, folder=str(tmp_path), grace_s=5) as started:
            assert await started.exited() == 4
            assert started.tail == "leaving"


@pytest.mark.anyio
async def test_a_cancelled_block_still_ends_its_child(tmp_path: Path) -> None:
    argv = (*PYTHON, "import signal\nwhile True: signal.pause()")
    pid = 0
    with anyio.fail_after(20):
        with anyio.CancelScope() as scope:
            async with child(argv, {}, folder=str(tmp_path), grace_s=5) as started:
                pid = started.pid
                scope.cancel()
                await anyio.sleep_forever()
    assert not is_alive(pid)


@pytest.mark.anyio
async def test_a_child_sees_nothing_of_the_neurons_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HELEXA_SECRET", "s3cret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret")
    argv = (*PYTHON, "import os; os.write(2, repr(sorted(os.environ)).encode())")
    with anyio.fail_after(20):
        async with child(argv, {"GIVEN": "1"}, folder=str(tmp_path), grace_s=5) as started:
            await started.exited()
            seen = set(eval(started.tail))
    # The C library's own additions aside.
    assert seen - {"LC_CTYPE"} <= {*inherited(os.environ), "GIVEN", kept.MARK, "TMPDIR"}
    assert "GIVEN" in seen


@pytest.mark.anyio
async def test_a_program_that_does_not_exist_says_its_name(tmp_path: Path) -> None:
    with anyio.fail_after(20):
        async with child(("/no/such/engine",), {}, folder=str(tmp_path), grace_s=1) as started:
            assert await started.exited() == 127
            assert "/no/such/engine" in started.tail


@pytest.mark.anyio
async def test_a_signalled_child_reports_the_signal(tmp_path: Path) -> None:
    argv = (*PYTHON, "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    with anyio.fail_after(20):
        async with child(argv, {}, folder=str(tmp_path), grace_s=1) as started:
            assert await started.exited() == -signal.SIGKILL


@pytest.mark.anyio
async def test_shared_memory_of_a_child_is_taken_away_behind_it(tmp_path: Path) -> None:
    """By a process of the child's own, which has to outlive it for that."""
    program = (
        "import time; from multiprocessing.shared_memory import SharedMemory\n"
        "made = SharedMemory(create=True, size=4096); print(made.name, flush=True)\n"
        "time.sleep(60)"
    )
    argv = (sys.executable, "-c", program)
    async with child(argv, {}, folder=str(tmp_path), grace_s=5.0) as started:
        with anyio.fail_after(20):
            while "\n" not in started.tail:  # noqa: ASYNC110 - its output is no event here
                await anyio.sleep(0.01)
        made = Path("/dev/shm") / started.tail.strip()
        assert made.exists()
    assert not made.exists()
