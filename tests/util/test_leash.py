"""A leashed child ends with its parent, whatever ended the parent. Real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap

from helexa.util import leash


def _parent(body: str) -> subprocess.Popen[bytes]:
    """A process that starts leashed children and prints what the test waits for."""
    return subprocess.Popen(
        [sys.executable, "-c", "import signal, subprocess, sys, os\n" + textwrap.dedent(body)],
        stdout=subprocess.PIPE,
    )


def _await_end_of(pid: int) -> None:
    """Return when `pid` is gone; it is not our child, so the kernel's handle is waited on."""
    import select

    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        readable, _, _ = select.select([handle], [], [], 30)
        assert readable, f"process {pid} outlived its parent"
    finally:
        os.close(handle)


def test_a_child_ends_when_its_parent_is_killed() -> None:
    parent = _parent(
        """
        from helexa.util import leash
        child = subprocess.Popen(leash.command(["sh", "-c", "echo $$; sleep 600 & wait"]))
        child.wait()
        """
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    _await_end_of(pid)
    parent.stdout.close()


def test_the_leash_holds_across_a_new_session() -> None:
    parent = _parent(
        """
        from helexa.util import leash
        child = subprocess.Popen(
            leash.command(["sh", "-c", "echo $$; sleep 600 & wait"]), start_new_session=True
        )
        child.wait()
        """
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    _await_end_of(pid)
    parent.stdout.close()


def test_a_child_whose_parent_is_already_gone_does_not_start() -> None:
    command = leash.command(["echo", "started"], parent=1)
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == leash.GONE
    assert done.stdout == b""


def test_the_leashed_process_is_the_command_itself() -> None:
    done = subprocess.run(
        leash.command([sys.executable, "-c", "import os; print(os.getppid())"]),
        capture_output=True,
        check=True,
    )
    assert int(done.stdout) == os.getpid()


def test_a_missing_program_is_said_with_its_name() -> None:
    done = subprocess.run(leash.command(["/no/such/program"]), capture_output=True, check=False)
    assert done.returncode == leash.NOT_STARTED
    assert b"/no/such/program: No such file" in done.stderr


def test_terms_hold_for_the_command_and_for_what_it_starts() -> None:
    terms = {"core": "0", "umask": "077", "nice": "2"}
    done = subprocess.run(
        leash.command(["sh", "-c", "ulimit -c; umask; nice; sh -c umask"], terms=terms),
        capture_output=True,
        check=True,
        text=True,
    )
    assert done.stdout.split() == ["0", "0077", str(os.nice(0) + 2), "0077"]


def test_a_term_that_nobody_knows_starts_nothing() -> None:
    done = subprocess.run(
        leash.command(["echo", "started"], terms={"wings": "2"}), capture_output=True, check=False
    )
    assert done.returncode == leash.UNTERMED
    assert done.stdout == b""
