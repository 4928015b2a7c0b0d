"""A supervised child, tried with small real programs instead of a node."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest

from helexa.cli.entry import told
from helexa.cli.log_file import FILE_BYTES_MAX, log_file
from helexa.cli.member import Ended, Member

pytestmark = pytest.mark.anyio

SERVES = """
import json, os, signal, sys, time
print(json.dumps({"event": "ready", "pid": os.getpid(), "ticket": "t"}), flush=True)
print("not json", flush=True)
signal.pause()
"""


class Story:
    """A member, and what it told about itself."""

    def __init__(self, folder: Path, *programs: str, grace_s: float = 5.0) -> None:
        self.ended: list[Ended] = []
        self.again = anyio.Event()
        self.log_path = folder / "logs" / "node.log"
        self._programs = list(programs)
        self._grace_s = grace_s

    def argv(self) -> Sequence[str]:
        program = self._programs.pop(0) if len(self._programs) > 1 else self._programs[0]
        return [sys.executable, "-c", program]

    async def on_ready(self, _event: dict[str, Any]) -> None:
        self.again.set()

    def member(self, log: Any) -> Member:
        return Member(
            "cortex",
            self.argv,
            log,
            grace_s=self._grace_s,
            on_ready=self.on_ready,
            on_ended=self.ended.append,
        )


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


async def test_a_member_is_alive_inside_its_block_and_gone_after_it(tmp_path: Path) -> None:
    story = Story(tmp_path, SERVES)
    with log_file(story.log_path) as log:
        async with story.member(log).running() as member:
            pid = member.ready["pid"]
            assert member.pid == pid
            assert not is_gone(pid)
    assert is_gone(pid)
    assert story.ended == []


async def test_a_member_that_is_killed_comes_back(tmp_path: Path) -> None:
    story = Story(tmp_path, SERVES)
    with log_file(story.log_path) as log:
        async with story.member(log).running() as member:
            first = member.ready["pid"]
            os.kill(first, signal.SIGKILL)
            with anyio.fail_after(30):
                await story.again.wait()
            assert member.ready["pid"] not in (first, None)
    (ended,) = story.ended
    assert (ended.status, ended.served) == (-signal.SIGKILL, True)


async def test_a_member_that_dies_before_it_is_ready_is_explained_by_its_last_words(
    tmp_path: Path,
) -> None:
    story = Story(tmp_path, "import sys; sys.exit('the disk is full')")
    with log_file(story.log_path) as log, pytest.raises(BaseExceptionGroup) as failed:
        async with story.member(log).running():
            pytest.fail("it never served")
    lines = told(failed.value)
    assert lines[0].startswith("the cortex ended with status 1 before it was ready")
    assert lines[1:] == ["  the disk is full"]
    assert "the disk is full" in story.log_path.read_text()


async def test_a_restart_that_fails_is_tried_again(tmp_path: Path) -> None:
    story = Story(tmp_path, SERVES, "import sys; sys.exit('not yet')", SERVES)
    with log_file(story.log_path) as log:
        async with story.member(log).running() as member:
            os.kill(member.ready["pid"], signal.SIGKILL)
            with anyio.fail_after(30):
                await story.again.wait()
    assert [one.served for one in story.ended] == [True, False]
    assert list(story.ended[1].last_words) == ["not yet"]
    assert story.ended[1].again_in_s > 0


async def test_a_member_that_ignores_sigterm_is_killed_after_its_grace(tmp_path: Path) -> None:
    stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + SERVES
    story = Story(tmp_path, stubborn, grace_s=0.2)
    with log_file(story.log_path) as log:
        async with story.member(log).running() as member:
            pid = member.ready["pid"]
    assert is_gone(pid)


async def test_a_cancelled_start_leaves_no_child(tmp_path: Path) -> None:
    told_pid = tmp_path / "pid"
    story = Story(
        tmp_path,
        f"import os, signal; open({str(told_pid)!r}, 'w').write(str(os.getpid())); signal.pause()",
    )
    with log_file(story.log_path) as log:
        async with anyio.create_task_group() as tasks:

            async def start() -> None:
                async with story.member(log).running():
                    pytest.fail("it never said that it is ready")

            tasks.start_soon(start)
            while not (told_pid.exists() and told_pid.read_text()):  # noqa: ASYNC110 - a file
                await anyio.sleep(0.01)
            tasks.cancel_scope.cancel()
    assert is_gone(int(told_pid.read_text()))


def test_a_log_file_is_bounded_and_private(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "node.log"
    line = b"x" * 1023 + b"\n"
    with log_file(path) as log:
        for _ in range(FILE_BYTES_MAX // len(line) + 10):
            log.write(line)
        log.write(b"half a line")
        assert log.tail()[-1] == "half a line"
        log.new_chapter()
        assert log.tail() == []
    files = sorted(path.parent.iterdir())
    assert [one.name for one in files] == ["node.log", "node.log.1"]
    assert all(one.stat().st_size <= FILE_BYTES_MAX for one in files)
    assert all(one.stat().st_mode & 0o077 == 0 for one in files)


async def test_a_member_is_hung_up_on_once_it_serves_and_not_before(tmp_path: Path) -> None:
    heard = tmp_path / "heard"
    os.mkfifo(heard)
    hears = f"import signal; signal.signal(signal.SIGHUP, lambda *_: open({str(heard)!r}, 'w'))\n"
    story = Story(tmp_path, hears + SERVES.replace("signal.pause()", "time.sleep(60)"))
    with log_file(story.log_path) as log:
        member = story.member(log)
        member.hang_up()
        async with member.running():
            member.hang_up()
            with anyio.fail_after(30):
                # Opened for reading once the child opened it for writing.
                async with await anyio.open_file(heard) as line:
                    assert await line.read() == ""
        member.hang_up()
    assert story.ended == []
