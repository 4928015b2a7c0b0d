"""One file to four neurons from one origin of a fixed rate: apart, together, and after a kill.

    python -m benchmarks.pulls [--megabytes 200] [--rate-megabytes 40] [--out FILE]

All are processes of this machine: a hub that sends at most so much to all together, a cortex,
and four neurons on real links. First they pull while `orchestrator.share_pieces` is `nobody`,
then while it is `own`. At the end they pull another file together; when one of them has two
fifths of it, it is killed (SIGKILL) and started again. Its journal of pieces says what it
had, and what it fetched again.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks import machine
from benchmarks.chain import _ready
from helexa.testing import tiny_gguf

NEURONS: Final = 4
KILLED_AT: Final = 0.4
ORIGIN_MOST: Final = 1.1
WALL_MOST: Final = 0.5
WITHIN_S: Final = 300.0
_REPO: Final = "tests/all"


class Process:
    """One `python -m ...` that says a line when it serves."""

    def __init__(self, log: Path, *words: str) -> None:
        self._log = log
        self._words = words
        self.ready: dict[str, Any] = {}
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        with self._log.open("a") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *self._words],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,
            )
        if self._words[0] == "helexa":
            self.ready = _ready(self._process, self._log, self._words[1])
        else:
            self.ready = self._line()

    def ask(self) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self._line()

    def kill(self) -> None:
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(10)

    def end(self) -> None:
        process = self._process
        if process is None:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)

    def _line(self) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdout is not None
        found: dict[str, Any] = json.loads(self._process.stdout.readline())
        return found


class Fleet:
    """A cortex and its neurons."""

    def __init__(self, folder: Path, hub: str, share: str) -> None:
        self.folder = folder
        folder.mkdir()
        self.cortex = Process(
            folder / "cortex.log",
            *("helexa", "cortex", "--json", "--home", str(folder / "cortex"), "--no-provision"),
            *("--mesh-socket=127.0.0.1:0", "--orchestrator-socket=127.0.0.1:0"),
            *("--set", f"orchestrator.share_pieces={share}"),
        )
        self.cortex.start()
        self.neurons = [
            Process(
                folder / f"n{number}.log",
                *("helexa", "neuron", "--json", "--home", str(folder / f"n{number}")),
                *("--cortex", self.cortex.ready["ticket"], "--no-demo-models"),
                *("--name", f"n{number}", "--models-dir", str(self.models(number))),
                *("--api-socket=127.0.0.1:0", "--control-socket=127.0.0.1:0"),
                *("--set", f"neuron.hub={hub}", "--set", "neuron.disk_reserve=0"),
            )
            for number in range(NEURONS)
        ]
        for neuron in self.neurons:
            neuron.start()
        until(lambda: len(self.call("GET", "/api/v1/nodes")["nodes"]) == NEURONS)

    def models(self, number: int) -> Path:
        return self.folder / f"models{number}"

    def pull(self, name: str) -> None:
        """Begun on all."""
        nodes = [one.ready["node_id"] for one in self.neurons]
        wanted = {"nodes": nodes, "source": f"hf:{_REPO}", "files": [{"name": f"{name}.gguf"}]}
        self.call("POST", f"/api/v1/models/{name}/pull", wanted)

    def until_here(self, name: str) -> None:
        targets = [self.models(number) / f"{name}.gguf" for number in range(NEURONS)]
        until(lambda: all(target.exists() for target in targets))

    def call(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        token = (self.folder / "cortex/cortex/admin.token").read_text().strip()
        asked = urllib.request.Request(
            self.cortex.ready["orchestrator_url"] + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"authorization": f"Bearer {token}", "content-type": "application/json"},
        )
        with urllib.request.urlopen(asked, timeout=60) as answer:
            found: dict[str, Any] = json.loads(answer.read())
            return found

    def end(self) -> None:
        for one in (*self.neurons, self.cortex):
            one.end()


def until(holds: Callable[[], Any]) -> None:
    give_up_at = time.monotonic() + WITHIN_S
    while not holds():
        if time.monotonic() > give_up_at:
            raise TimeoutError
        time.sleep(0.02)


def journal(models: Path, name: str) -> list[tuple[int, bool]]:
    """Of one file: each piece as it came, or was lost (False)."""
    for path in models.glob(".pulls/*/*.pieces"):
        lines = path.read_text(errors="replace").split("\n")[:-1]
        if len(lines) > 2 and json.loads(lines[1])["name"] == f"{name}.gguf":
            return [
                (int(line.lstrip("-").split(" ")[0]), not line.startswith("-"))
                for line in lines[2:]
            ]
    return []


def again(before: Sequence[tuple[int, bool]], after: Sequence[tuple[int, bool]]) -> int:
    """Pieces that were there, and came once more."""
    had = {index for index, came in before if came}
    return sum(came and index in had for index, came in after[len(before) :])


@contextlib.contextmanager
def fleet(folder: Path, hub: Process, share: str) -> Iterator[Fleet]:
    made = Fleet(folder, hub.ready["url"], share)
    try:
        yield made
    finally:
        made.end()


def timed(one: Fleet, hub: Process, name: str) -> dict[str, float]:
    sent = hub.ask()["sent"].get(f"{name}.gguf", 0)
    began = time.monotonic()
    one.pull(name)
    one.until_here(name)
    wall_s = time.monotonic() - began
    size = (one.models(0) / f"{name}.gguf").stat().st_size
    return {
        "wall_s": round(wall_s, 2),
        "origin_ratio": round((hub.ask()["sent"][f"{name}.gguf"] - sent) / size, 4),
    }


def killed(one: Fleet, name: str, size: int) -> dict[str, float]:
    one.pull(name)
    pieces = -(-size // (4 << 20))
    until(lambda: len(journal(one.models(0), name)) >= KILLED_AT * pieces)
    one.neurons[0].kill()
    before = journal(one.models(0), name)
    one.neurons[0].start()
    one.until_here(name)
    after = journal(one.models(0), name)
    return {
        "verified_pieces_at_kill": len(before),
        "pieces": pieces,
        "pieces_fetched_again": again(before, after),
    }


def measure(megabytes: int, rate_megabytes: float, folder: Path) -> dict[str, Any]:
    files = folder / "files"
    files.mkdir()
    for seed, name in enumerate(("one", "two")):
        path = tiny_gguf.write(files / f"{name}.gguf", seed=seed + 1)
        with path.open("ab") as file:
            file.write(random.Random(seed).randbytes(megabytes * 10**6 - path.stat().st_size))
    hub = Process(
        folder / "hub.log",
        *("helexa.testing.hub", str(files), "--rate", str(rate_megabytes * 1e6)),
    )
    hub.start()
    size = megabytes * 10**6
    try:
        with fleet(folder / "apart", hub, "nobody") as apart:
            alone = timed(apart, hub, "one")
        with fleet(folder / "together", hub, "own") as together:
            shared = timed(together, hub, "one")
            sent = hub.ask()["sent"].get("two.gguf", 0)
            kill = killed(together, "two", size)
            kill["origin_ratio"] = round((hub.ask()["sent"]["two.gguf"] - sent) / size, 4)
    finally:
        hub.end()
    return {
        "neurons": NEURONS,
        "file_bytes": size,
        "origin_bytes_per_s": rate_megabytes * 1e6,
        "apart": alone,
        "together": shared,
        "wall_ratio": round(shared["wall_s"] / alone["wall_s"], 3),
        "killed": kill,
        "machine": dict(machine.describe()),
    }


def table(found: dict[str, Any]) -> str:
    apart, together, kill = found["apart"], found["together"], found["killed"]
    rows = [
        (
            "what the origin sent, of the file",
            f"at most {ORIGIN_MOST}",
            f"{together['origin_ratio']:.3f} (apart {apart['origin_ratio']:.2f})",
            together["origin_ratio"] <= ORIGIN_MOST,
        ),
        (
            "wall time, of four separate pulls",
            f"under {WALL_MOST}",
            f"{found['wall_ratio']:.2f} ({together['wall_s']:.1f} s of {apart['wall_s']:.1f} s)",
            found["wall_ratio"] < WALL_MOST,
        ),
        (
            "pieces fetched again after a kill",
            "0",
            f"{kill['pieces_fetched_again']} of {kill['verified_pieces_at_kill']} that were there",
            kill["pieces_fetched_again"] == 0,
        ),
    ]
    lines = ["| | wanted | measured | met |", "|---|---|---|---|"]
    lines += [
        f"| {what} | {aim} | {value} | {'yes' if met else 'no'} |" for what, aim, value, met in rows
    ]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pulls")
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--rate-megabytes", type=float, default=40.0)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="helexa-pulls-") as folder:
        found = measure(args.megabytes, args.rate_megabytes, Path(folder))
    print(table(found))
    if args.out:
        args.out.write_text(json.dumps(found, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
