"""How a node ends: real processes, real signals."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

NODE = """
import anyio, sys
from contextlib import asynccontextmanager
from helexa.util import lifetime

@asynccontextmanager
async def node():
    print("starting", flush=True)
    if "slow-start" in sys.argv:
        await anyio.sleep_forever()
    try:
        yield "live"
    finally:
        print("ending", flush=True)
        if "slow-end" in sys.argv:
            with anyio.CancelScope(shield=True):
                await anyio.sleep_forever()
        # A graceful end may wait: nothing has cancelled it.
        await anyio.sleep(0)
        print("ended", flush=True)

def ready(live):
    print("ready", flush=True)
    if "break" in sys.argv:
        raise ValueError("broken")

def hung_up(live):
    print("hung up", live, flush=True)

hear = hung_up if "hangup" in sys.argv else None
signum = lifetime.run(lambda: lifetime.until_told(node(), ready, hear))
print(signum.name, flush=True)
"""


@contextmanager
def running(*words: str, stdin: int = subprocess.DEVNULL) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(NODE), *words],
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Whoever runs the tests under `nohup` hands an ignored SIGHUP down.
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # noqa: PLW1509
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_ends_a_node_gracefully(signum: signal.Signals) -> None:
    with running() as node:
        assert [line(node), line(node)] == ["starting", "ready"]
        node.send_signal(signum)
        assert [line(node), line(node), line(node)] == ["ending", "ended", signum.name]
        assert node.wait() == 0


def test_the_second_signal_ends_the_process_at_once() -> None:
    with running("slow-end") as node:
        assert [line(node), line(node)] == ["starting", "ready"]
        node.send_signal(signal.SIGTERM)
        assert line(node) == "ending"
        node.send_signal(signal.SIGINT)
        assert node.wait() == 128 + signal.SIGINT


def test_a_signal_while_starting_cancels_the_start() -> None:
    with running("slow-start") as node:
        assert line(node) == "starting"
        node.send_signal(signal.SIGTERM)
        assert line(node) == "SIGTERM"
        assert node.wait() == 0


def test_what_the_node_raises_is_raised_after_its_end() -> None:
    with running("break") as node:
        out, errors = node.communicate()
        assert out.split() == ["starting", "ready", "ending", "ended"]
        assert "broken" in errors
        assert node.returncode == 1


def test_a_hangup_is_the_node_s_own_affair_where_it_has_a_use_for_it() -> None:
    with running("hangup") as node:
        assert [line(node), line(node)] == ["starting", "ready"]
        for _ in range(2):
            node.send_signal(signal.SIGHUP)
            assert line(node) == "hung up live"
        node.send_signal(signal.SIGTERM)
        assert [line(node), line(node), line(node)] == ["ending", "ended", "SIGTERM"]


def test_a_hangup_while_starting_is_not_heard() -> None:
    with running("hangup", "slow-start") as node:
        assert line(node) == "starting"
        node.send_signal(signal.SIGHUP)
        node.send_signal(signal.SIGTERM)
        assert line(node) == "SIGTERM"


def test_a_hangup_ends_a_node_that_has_no_use_for_it() -> None:
    with running() as node:
        assert [line(node), line(node)] == ["starting", "ready"]
        node.send_signal(signal.SIGHUP)
        assert node.wait() == -signal.SIGHUP


def test_a_node_ends_with_its_terminal_although_it_has_a_use_for_hangups() -> None:
    ours, its = pty.openpty()
    with running("hangup", stdin=its) as node:
        os.close(its)
        assert [line(node), line(node)] == ["starting", "ready"]
        node.send_signal(signal.SIGHUP)
        assert line(node) == "hung up live"
        os.close(ours)
        node.send_signal(signal.SIGHUP)
        assert [line(node), line(node), line(node)] == ["ending", "ended", "SIGHUP"]
        assert node.wait() == 0
