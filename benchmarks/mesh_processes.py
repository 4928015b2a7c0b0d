"""Thirty-two cortexes as processes of this machine: how fast they agree, and on what.

    python -m benchmarks.mesh_processes [--nodes 32] [--idle-s 300] [--out FILE]

Each is a real `helexa cortex` on loopback with the timing preset that the flag
names, told one ticket to begin with. What they believe is read from the events
they print. One is killed (SIGKILL) and one is stopped (SIGSTOP); then nothing
happens for a while, in which nobody may be called dead.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.memory import Memory
from benchmarks.processes import rss_mb

START_WITHIN_S = 60.0


class Cortex:
    """One process and what it believes of the others, by its own events."""

    def __init__(self, home: Path, name: str, arguments: list[str], changed: threading.Condition):
        self.name = name
        self.node = ""
        self.ticket = ""
        self.states: dict[str, str] = {}
        self.told: list[tuple[float, str, str]] = []
        self._changed = changed
        self._log = (home.parent / f"{name}.log").open("wb")
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "helexa", "cortex", "--json"),
                *("--home", str(home), "--name", name),
                *("--mesh-socket", "127.0.0.1:0"),
                *arguments,
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._log,
            start_new_session=True,
        )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            event = json.loads(line)
            with self._changed:
                match event["event"]:
                    case "ready":
                        self.node, self.ticket = event["node_id"], event["ticket"]
                    case "member":
                        self.states[event["node_id"]] = event["state"]
                        self.told.append((time.monotonic(), event["node_id"], event["state"]))
                self._changed.notify_all()

    def send(self, number: int) -> None:
        os.kill(self.process.pid, number)

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGCONT)
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)
        self._log.close()


def wait_until(changed: threading.Condition, holds: Callable[[], bool], within_s: float) -> float:
    """Seconds until it held; raises TimeoutError."""
    began = time.monotonic()
    with changed:
        if not changed.wait_for(holds, within_s):
            raise TimeoutError
    return time.monotonic() - began


def measure(nodes: int, idle_s: float, preset: str, folder: Path) -> dict[str, object]:
    changed = threading.Condition()
    common = ["--set", f"mesh.preset={preset}"]
    cortexes: list[Cortex] = []

    def add(name: str, arguments: list[str]) -> Cortex:
        one = Cortex(folder / name, name, [*common, *arguments], changed)
        cortexes.append(one)
        return one

    def everybody_sees(node: str, state: str, among: list[Cortex]) -> bool:
        return all(one.states.get(node) == state for one in among if one.node != node)

    try:
        first = add("n00", [])
        wait_until(changed, lambda: bool(first.ticket), START_WITHIN_S)
        for number in range(1, nodes):
            add(f"n{number:02d}", ["--join", first.ticket])
        wait_until(changed, lambda: all(one.ticket for one in cortexes), START_WITHIN_S + nodes)
        ids = {one.node for one in cortexes}
        converged_s = wait_until(
            changed,
            lambda: all(
                sum(state == "alive" for state in one.states.values()) == nodes - 1
                for one in cortexes
            ),
            120,
        )
        time.sleep(10)
        memory = sorted(rss_mb(one.process.pid) for one in cortexes)
        share = sum(Memory.of(one.process.pid).pss_mb for one in cortexes) / nodes
        quiet_from = time.monotonic()
        time.sleep(idle_s)
        alarms = [
            (one.name, state)
            for one in cortexes
            for when, node, state in one.told
            if when > quiet_from and node in ids and state in ("dead", "left")
        ]
        cpu = [_cpu_s(one.process.pid) for one in cortexes]
        time.sleep(10)
        cpu_share = (
            sum(_cpu_s(one.process.pid) - before for one, before in zip(cortexes, cpu, strict=True))
            / 10
        )
        killed, stopped, *rest = cortexes[1:]
        alive = [first, *rest]
        killed.send(signal.SIGKILL)
        killed_s = _noticed(changed, lambda: everybody_sees(killed.node, "dead", [*alive, stopped]))
        stopped.send(signal.SIGSTOP)
        stopped_s = _noticed(changed, lambda: everybody_sees(stopped.node, "dead", alive))
        stopped.send(signal.SIGCONT)
        back_s = _noticed(changed, lambda: everybody_sees(stopped.node, "alive", alive))
        return {
            "nodes": nodes,
            "preset": preset,
            "converged_s": round(converged_s, 2),
            "sigkill_known_by_all_s": killed_s,
            "sigstop_known_by_all_s": stopped_s,
            "sigcont_back_for_all_s": back_s,
            "idle_s": idle_s,
            "false_alarms": len(alarms),
            "rss_mb_median": round(memory[len(memory) // 2], 1),
            "rss_mb_most": round(memory[-1], 1),
            "pss_mb_mean": round(share, 1),
            "cpu_of_all_idle_cores": round(cpu_share, 3),
        }
    finally:
        for one in cortexes:
            one.end()


def _noticed(changed: threading.Condition, holds: Callable[[], bool]) -> float | None:
    try:
        return round(wait_until(changed, holds, 60), 2)
    except TimeoutError:
        return None


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mesh_processes")
    parser.add_argument("--nodes", type=int, default=32)
    parser.add_argument("--idle-s", type=float, default=300.0)
    parser.add_argument("--preset", default="loopback")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="helexa-mesh-") as folder:
        figures = measure(args.nodes, args.idle_s, args.preset, Path(folder))
    text = json.dumps(figures, indent=2)
    print(text)
    if args.out:
        args.out.write_text(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
