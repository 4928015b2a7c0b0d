"""More models than fit: how often they are swapped and how long requests wait, with real processes.

    python -m benchmarks.swapping [--quick] [--out FILE]

A real cortex, real neurons and real loads of copies of the demo model. The same requests at the
same moments go to the gateway, which provisions, and to a front of this harness that serves first
come first served: a request goes to the neuron that will have its model by then; where none will,
the neuron least recently used unloads what it used least recently and loads it, and what comes
later waits behind. The wait of a request is from its moment to its first token.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from benchmarks import machine, traces
from benchmarks.processes import running
from helexa.neuron.models.store import DEMO_FOLDER

DEMO = DEMO_FOLDER / "helexa-demo.gguf"
SLOTS = 2
ROOM_MIB = {1: 110, 2: 190}
"""For so many replicas of the demo model with two slots, and not for one more."""
AT_ONCE = ("orchestrator.settle_s=0",)
"""The fleet is new: nobody has to come back."""
QUESTION = "What is helexa?"
START_WITHIN_S = 60.0
ENDS_WITHIN_S = 120.0
ORDERS_MAX = 20


@dataclass
class Trial:
    waits: list[float] = field(default_factory=list)
    loads: int = 0
    unloads: int = 0
    failed: int = 0
    seconds: float = 0.0

    def row(self, first_loads: int) -> dict[str, Any]:
        waits = sorted(self.waits)
        return {
            "requests": len(waits),
            "failed": self.failed,
            "swaps": max(0, self.loads - first_loads),
            "p50_s": round(waits[len(waits) // 2], 3),
            "p99_s": round(waits[min(len(waits) - 1, int(len(waits) * 0.99))], 3),
            "most_s": round(waits[-1], 3),
            "seconds": round(self.seconds, 1),
        }


class Http:
    """JSON to one address; a connection each, as clients without a pool have."""

    def __init__(self, url: str, token: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 0
        self._headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}

    def ask(self, method: str, path: str, body: object = None) -> Any:
        with self._answer(method, path, body) as response:
            raw = response.read()
            assert response.status < 300, (path, response.status, raw)
            return json.loads(raw)

    def first_token(self, body: object) -> bool:
        """Return at the first token, having read all; whether there was one."""
        with self._answer("POST", "/v1/chat/completions", body) as response:
            got = False
            self.first_s = 0.0
            while line := response.readline():
                if line.startswith(b"data: ") and b'"content"' in line and not got:
                    got, self.first_s = True, time.monotonic()
            return got and response.status == 200

    @contextlib.contextmanager
    def _answer(self, method: str, path: str, body: object) -> Iterator[http.client.HTTPResponse]:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=ENDS_WITHIN_S)
        try:
            payload = None if body is None else json.dumps(body).encode()
            connection.request(method, path, payload, self._headers)
            with connection.getresponse() as response:
                yield response
        finally:
            connection.close()


@dataclass
class Fleet:
    control_url: str
    control_token: str
    gateway_url: str
    key: str
    nodes: list[str]

    @property
    def control(self) -> Http:
        return Http(self.control_url, self.control_token)

    def chat(self, ask: traces.Ask) -> float | None:
        """When the first token came, on the monotonic clock."""
        client = Http(self.gateway_url, self.key)
        body = {
            "model": ask.model,
            "messages": [{"role": "user", "content": QUESTION}],
            "stream": True,
            "ignore_eos": True,
            "temperature": 0,
            "max_tokens": max(1, round(ask.service_s)),
        }
        return client.first_s if client.first_token(body) else None


@contextlib.contextmanager
def fleet(folder: Path, rooms: Sequence[int], models: Sequence[str], *settings: str) -> Any:
    home = folder / "home"
    program = (sys.executable, "-m", "helexa")
    cortex_argv = (
        *program,
        *("cortex", "--home", str(home), "--mesh-socket", "127.0.0.1:0"),
        *("--gateway-socket", "127.0.0.1:0", "--orchestrator-socket", "127.0.0.1:0"),
        *("--set", "mesh.lan=false", *(word for one in settings for word in ("--set", one))),
    )
    with contextlib.ExitStack() as stack:
        stack.enter_context(running(cortex_argv, folder / "cortex.log"))
        facts = _until(lambda: _json(home / "cortex" / "run.json"))
        token = (home / "cortex" / "admin.token").read_text().strip()
        made = subprocess.run(
            [*program, "keys", "create", "bench", "--json", "--home", str(home)],
            check=True,
            capture_output=True,
        )
        for number, room in enumerate(rooms):
            store = folder / f"models-{number}"
            store.mkdir(parents=True)
            for model in models:
                shutil.copy(DEMO, store / f"{model}.gguf")
            argv = (
                *program,
                *("neuron", "--home", str(folder / f"neuron-{number}")),
                *("--control-socket", "127.0.0.1:0", "--api-socket", "127.0.0.1:0"),
                *("--models-dir", str(store), "--cortex", facts["ticket"]),
                *("--set", f"neuron.name=n{number}", "--set", "neuron.demo_models=false"),
                *("--set", f"neuron.memory_limit={ROOM_MIB[room]}MiB"),
                *("--set", f"neuron.slots={SLOTS}"),
            )
            stack.enter_context(running(argv, folder / f"neuron-{number}.log"))
        found = Fleet(
            facts["orchestrator_url"],
            token,
            facts["gateway_url"],
            json.loads(made.stdout)["secret"],
            [],
        )
        nodes = _until(lambda: _present(found.control, len(rooms)))
        found.nodes[:] = nodes
        yield found


def planned(trace: Sequence[traces.Ask], fleet: Fleet) -> Trial:
    """The gateway serves them, and what it loads is counted from its own account."""
    trial = Trial()
    with counting(fleet, trial):
        _replay(trace, fleet, trial)
    return trial


def fifo(trace: Sequence[traces.Ask], fleet: Fleet, rooms: Sequence[int]) -> Trial:
    trial = Trial()
    lines = [_Line(node, room, fleet, trial) for node, room in zip(fleet.nodes, rooms, strict=True)]
    lock = threading.Lock()

    def ask(one: traces.Ask) -> float | None:
        with lock:
            line = next((each for each in lines if one.model in each.will_hold), None)
            if line is None:
                line = min(lines, key=lambda each: (each.full, each.last_use_s))
                line.swap_to(one.model)
            return line.enter(one)

    with ThreadPoolExecutor(len(lines)) as pool, contextlib.ExitStack() as stack:
        for line in lines:
            stack.callback(line.end)
            pool.submit(line.work)
        _replay(trace, fleet, trial, through=ask)
    return trial


class _Line:
    """One neuron's steps, in order. Requests run side by side; a swap waits for those before it."""

    def __init__(self, node: str, room: int, fleet: Fleet, trial: Trial) -> None:
        self.will_hold: dict[str, float] = {}
        self._node, self._room, self._fleet, self._trial = node, room, fleet, trial
        self._steps: deque[Any] = deque()
        self._news = threading.Condition()
        self._over = False

    @property
    def full(self) -> bool:
        return len(self.will_hold) >= self._room

    @property
    def last_use_s(self) -> float:
        return max(self.will_hold.values(), default=0.0)

    def swap_to(self, model: str) -> None:
        out = None
        if self.full:
            out = min(self.will_hold, key=lambda one: self.will_hold[one])
            del self.will_hold[out]
        self._put((out, model))

    def enter(self, ask: traces.Ask) -> Any:
        self.will_hold[ask.model] = time.monotonic()
        turn = (ask, threading.Event(), [])
        self._put(turn)
        return turn

    def _put(self, step: Any) -> None:
        with self._news:
            self._steps.append(step)
            self._news.notify()

    def end(self) -> None:
        with self._news:
            self._over = True
            self._news.notify()

    def work(self) -> None:
        under_way: list[threading.Thread] = []
        while True:
            with self._news:
                while not self._steps:
                    if self._over:
                        return
                    self._news.wait()
                step = self._steps.popleft()
            if isinstance(step[0], traces.Ask):
                thread = threading.Thread(target=self._serve, args=step)
                thread.start()
                under_way.append(thread)
                continue
            for thread in under_way:
                thread.join()
            under_way.clear()
            out, model = step
            if out is not None:
                self._order(out, "unload")
            self._trial.loads += 1
            self._order(model, "load")

    def _order(self, model: str, what: str) -> None:
        path = f"/api/v1/models/{quote(model)}/{what}"
        for last in (*(False,) * ORDERS_MAX, True):
            try:
                self._fleet.control.ask("POST", path, {"node": self._node})
            except AssertionError:
                # What left a moment ago may still be on its way out.
                if last:
                    raise
                time.sleep(0.02)
            else:
                break
        if what == "load":
            # A request that overtakes the news of the load would be sent to another neuron.
            _until(lambda: self._serves(model))

    def _serves(self, model: str) -> bool:
        rows = self._fleet.control.ask("GET", "/api/v1/placements")["placements"]
        return any(
            row["node"] == self._node and row["model"] == model and row["state"] == "loaded"
            for row in rows
        )

    def _serve(self, ask: traces.Ask, done: threading.Event, came: list[float | None]) -> None:
        try:
            came.append(self._fleet.chat(ask))
        finally:
            done.set()


def _replay(trace: Sequence[traces.Ask], fleet: Fleet, trial: Trial, through: Any = None) -> None:
    began_s = time.monotonic() + 0.5

    def one(ask: traces.Ask) -> None:
        due_s = began_s + ask.at_s
        time.sleep(max(0.0, due_s - time.monotonic()))
        if through is None:
            came_s = fleet.chat(ask)
        else:
            _, done, came = through(ask)
            done.wait(ENDS_WITHIN_S)
            came_s = came[0] if came else None
        if came_s is None:
            trial.failed += 1
        else:
            trial.waits.append(came_s - due_s)

    with ThreadPoolExecutor(len(trace)) as pool:
        list(pool.map(one, trace))
    trial.seconds = time.monotonic() - began_s


@contextlib.contextmanager
def counting(fleet: Fleet, trial: Trial) -> Iterator[None]:
    """Loads and unloads that neurons were told, by the stream of the cortex' own news."""
    parts = urlsplit(fleet.control_url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 0)
    headers = {"authorization": f"Bearer {fleet.control_token}"}
    connection.request("GET", "/api/v1/observe", headers=headers)
    socket_, response = connection.sock, connection.getresponse()

    def read() -> None:
        with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
            while line := response.readline():
                if line.startswith(b"data: ") and b'"provisioning_sent"' in line:
                    kind = json.loads(line[6:])["kind"]
                    trial.loads += kind == "load"
                    trial.unloads += kind == "unload"

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            socket_.shutdown(socket.SHUT_RDWR)
        thread.join()
        connection.close()


def _present(control: Http, count: int) -> list[str]:
    rows = sorted(control.ask("GET", "/api/v1/nodes")["nodes"], key=lambda row: row["name"])
    found = [row["node"] for row in rows if row["presence"] == "present"]
    return found if len(found) == count else []


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


def _until(look: Any) -> Any:
    deadline_s = time.monotonic() + START_WITHIN_S
    while not (found := look()):
        if time.monotonic() > deadline_s:
            raise RuntimeError("the fleet did not start")
        time.sleep(0.005)
    return found


@dataclass(frozen=True)
class Scene:
    name: str
    rooms: tuple[int, ...]
    models: tuple[str, ...]
    trace: tuple[traces.Ask, ...]


def scenes(*, quick: bool) -> list[Scene]:
    letters = ("A", "B", "C")
    twelve = tuple(f"m{number:02d}" for number in range(12))
    rounds = 4 if quick else 10
    return [
        *(
            Scene(
                f"A B A A C A B C, one each {pace_s:g} s",
                (1, 1),
                letters,
                traces.letters(pace_s, rounds=rounds, service_s=40),
            )
            for pace_s in ((0.05,) if quick else (0.03, 0.1))
        ),
        Scene(
            "Zipf, 12 models, 4 neurons",
            (1, 1, 2, 2),
            twelve,
            traces.zipf(twelve, per_s=25, seconds=6 if quick else 20, service_s=40),
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, help="a file for the figures")
    wanted = parser.parse_args()
    rows = []
    for scene in scenes(quick=wanted.quick):
        row: dict[str, Any] = {"scene": scene.name}
        for front in ("fifo", "planner"):
            with tempfile.TemporaryDirectory(prefix="helexa-bench-") as folder:
                provision = f"orchestrator.provision={'true' if front == 'planner' else 'false'}"
                with fleet(Path(folder), scene.rooms, scene.models, provision, *AT_ONCE) as made:
                    trial = (
                        planned(scene.trace, made)
                        if front == "planner"
                        else fifo(scene.trace, made, scene.rooms)
                    )
                    row[front] = trial.row(sum(scene.rooms))
            print(f"{scene.name:<40} {front:<8} {row[front]}", flush=True)
        row["swaps_ratio"] = round(row["planner"]["swaps"] / max(1, row["fifo"]["swaps"]), 2)
        row["p99_ratio"] = round(row["planner"]["p99_s"] / row["fifo"]["p99_s"], 2)
        print(f"{'':<40} swaps {row['swaps_ratio']}, p99 {row['p99_ratio']} of fifo", flush=True)
        rows.append(row)
    if wanted.out is not None:
        found = {"machine": dict(machine.describe()), "scenes": rows}
        wanted.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
