"""Real helexa processes for end-to-end tests: started, watched by their events, ended by pid."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import psutil

T = TypeVar("T")

READY_WITHIN_S = 60.0
LOOK_EVERY_S = 0.1
ANY_PORTS = (
    *("--gateway-socket", "127.0.0.1:0"),
    *("--portal-socket", "127.0.0.1:0"),
    *("--orchestrator-socket", "127.0.0.1:0"),
)


UNSEEN = {"HELEXA_MESH_LAN": "false", "HELEXA_NEURON_LAN": "false"}
"""Tests run side by side, and the nodes of one are none of another's business."""


class Node:
    """One `helexa ...` process and the events it printed."""

    def __init__(
        self,
        arguments: list[str],
        *,
        cwd: Path,
        environment: Mapping[str, str] = UNSEEN,
        within: Sequence[str] = (),
    ) -> None:
        self.arguments = arguments
        self._log = (cwd / f"stderr-{arguments[0]}-{os.urandom(4).hex()}.log").open("w+b")
        self.process = subprocess.Popen(
            [*within, sys.executable, "-m", "helexa", *arguments, "--json"],
            cwd=cwd,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._log,
            # A terminal's Ctrl-C is sent by the test, to the one process it means.
            start_new_session=True,
        )
        self.events: list[dict[str, Any]] = []
        self._queue: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._queue.put(json.loads(line))
        self._queue.put(None)

    def wait_event(self, name: str, timeout_s: float = READY_WITHIN_S) -> dict[str, Any]:
        for event in self.events:
            if event.get("event") == name:
                return event
        while True:
            try:
                event = self._queue.get(timeout=timeout_s)
            except queue.Empty:
                raise AssertionError(f"no {name!r} event in {timeout_s} s\n{self.log()}") from None
            if event is None:
                raise AssertionError(f"{self.arguments} ended before {name!r}\n{self.log()}")
            self.events.append(event)
            if event.get("event") == name:
                return event

    def told(self, name: str) -> list[dict[str, Any]]:
        """Every event of that name until now."""
        while not self._queue.empty():
            event = self._queue.get()
            if event is None:
                break
            self.events.append(event)
        return [event for event in self.events if event.get("event") == name]

    @property
    def ready(self) -> dict[str, Any]:
        return self.wait_event("ready")

    def log(self) -> str:
        self._log.flush()
        return Path(self._log.name).read_text(errors="replace")[-6000:]

    def family(self) -> list[psutil.Process]:
        """This process and all that descend from it."""
        me = psutil.Process(self.process.pid)
        return [me, *me.children(recursive=True)]

    def send(self, number: int) -> None:
        os.kill(self.process.pid, number)

    def stop(self, number: int = signal.SIGTERM, timeout_s: float = 40.0) -> int:
        if self.process.poll() is None:
            self.send(number)
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.arguments} did not end\n{self.log()}") from None

    def close(self) -> None:
        if self.process.poll() is None:
            for process in reversed(self.family()):
                with_suppress_kill(process)
            self.process.wait(10)
        self._reader.join(5)
        if self.process.stdout is not None:
            self.process.stdout.close()
        self._log.close()


def helexa(*arguments: str, home: Path, timeout_s: float = 60.0) -> Any:
    """What a command answers about the nodes of that home, as JSON. A command that fails, fails."""
    done = subprocess.run(
        [sys.executable, "-m", "helexa", *arguments, "--home", str(home), "--json"],
        capture_output=True,
        timeout=timeout_s,
        check=False,
    )
    assert done.returncode == 0, f"{arguments}: {done.stderr.decode(errors='replace')}"
    return json.loads(done.stdout)


def until(
    look: Callable[[], T],
    enough: Callable[[T], bool] = bool,
    *,
    within_s: float = 30.0,
    missing: Callable[[], str] = str,
) -> T:
    """What `look` finds once it is `enough`; for what has no event to wait for.

    Fails with what it found last, and with what `missing` says.
    """
    deadline_s = time.monotonic() + within_s
    while not enough(found := look()):
        assert time.monotonic() < deadline_s, f"after {within_s:g} s: {found}\n{missing()}"
        time.sleep(LOOK_EVERY_S)
    return found


def with_suppress_kill(process: psutil.Process) -> None:
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return


def wait_gone(processes: list[psutil.Process], timeout_s: float = 15.0) -> None:
    """Fail with what is left when any of them still runs after `timeout_s`."""
    _, alive = psutil.wait_procs(processes, timeout=timeout_s)
    left = [one for one in alive if one.status() != psutil.STATUS_ZOMBIE]
    assert not left, f"still running: {[(one.pid, one.cmdline()) for one in left]}"


@contextmanager
def started(
    *arguments: str,
    cwd: Path,
    environment: Mapping[str, str] = UNSEEN,
    within: Sequence[str] = (),
) -> Iterator[Node]:
    """`environment` beside that of the tests; an empty one lets the node use the LAN.

    `within` is a command that becomes the one that follows it, such as `ip netns exec`.
    """
    node = Node(list(arguments), cwd=cwd, environment=environment, within=within)
    try:
        yield node
    finally:
        node.close()


def runtime_children(node: Node) -> list[psutil.Process]:
    """The runtime processes below `node`, whichever adapter started them."""
    return [one for one in node.family() if any("children" in word for word in one.cmdline())]
