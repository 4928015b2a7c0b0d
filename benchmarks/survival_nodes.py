"""Cortexes and neurons that are killed and started again, for the measurement of survival."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks.processes import running, tree
from helexa.neuron.models.store import DEMO_FOLDER

DEMO = DEMO_FOLDER / "helexa-demo.gguf"
EXACT, USUAL = "exact", "usual"
"""The same weights, served deterministically and by the default settings."""
SLOTS = 8
WITHIN_S = 90.0
LOOK_EVERY_S = 0.05
PROGRAM = (sys.executable, "-m", "helexa")
CONFIG = f"[neuron.models.{EXACT}]\ndeterministic = true\n"


@dataclass
class Node:
    """One process, by the arguments that it is started with each time."""

    name: str
    argv: tuple[str, ...]
    log: Path
    stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = self.stack.enter_context(running(self.argv, self.log))

    def send(self, number: int) -> None:
        assert self.process is not None
        os.kill(self.process.pid, number)

    def kill_runtimes(self) -> None:
        """The engines below it, and not itself."""
        assert self.process is not None
        for pid in tree(self.process.pid)[1:]:
            with contextlib.suppress(OSError):
                if b"children" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    os.kill(pid, signal.SIGKILL)

    def close(self) -> None:
        self.stack.close()
        self.stack = contextlib.ExitStack()
        self.process = None


class Cortex(Node):
    """With its control API; its facts are those of its last start."""

    def __init__(self, folder: Path, name: str) -> None:
        self.home = folder / name
        argv = (
            *PROGRAM,
            *("cortex", "--home", str(self.home), "--name", name, "--mesh-socket", "127.0.0.1:0"),
            *("--gateway-socket", "127.0.0.1:0", "--orchestrator-socket", "127.0.0.1:0"),
            *("--set", "mesh.lan=false"),
        )
        super().__init__(name, argv, folder / f"{name}.log")
        self.facts: dict[str, Any] = {}

    def start(self) -> None:
        run = self.home / "cortex" / "run.json"
        run.unlink(missing_ok=True)
        super().start()
        self.facts = until(lambda: _json(run))

    def command(self, *words: str) -> Any:
        done = subprocess.run(
            [*PROGRAM, *words, "--json", "--home", str(self.home)], check=True, capture_output=True
        )
        return json.loads(done.stdout)

    def ask(self, path: str) -> Any:
        token = (self.home / "cortex" / "admin.token").read_text().strip()
        return json.loads(get(self.facts["orchestrator_url"] + path, token))

    def metric(self, line: str) -> float:
        """One number of the gateway's, by its name and labels."""
        for one in get(self.facts["gateway_url"] + "/metrics").decode().splitlines():
            if one.startswith(line + " "):
                return float(one.rpartition(" ")[2])
        return 0.0

    def loaded(self, model: str) -> set[str]:
        """The names of those who serve it, neurons or cortexes."""
        found = self.ask(f"/api/v1/explain?model={model}").get("candidates", ())
        return {one["name"] for one in found if one["ready"] and one["place"]}


def neuron(folder: Path, name: str, cortex: Cortex, models: tuple[str, ...]) -> Node:
    """With a home of its own, and so of an operator of its own."""
    store = folder / f"models-{name}"
    store.mkdir(parents=True, exist_ok=True)
    for model in models:
        shutil.copy(DEMO, store / f"{model}.gguf")
    config = folder / "neuron.toml"
    config.write_text(CONFIG)
    argv = (
        *PROGRAM,
        *("neuron", "--home", str(folder / f"home-{name}"), "--config", str(config)),
        *("--control-socket", "127.0.0.1:0", "--api-socket", "127.0.0.1:0"),
        *("--models-dir", str(store), "--cortex", str(cortex.facts["ticket"])),
        *("--set", f"neuron.name={name}", "--set", "neuron.demo_models=false"),
        *("--set", f"neuron.slots={SLOTS}", "--set", "neuron.lan=false"),
        *("--set", "neuron.shutdown_grace_s=0.05"),
        *(word for model in models for word in ("--preload", model)),
    )
    return Node(name, argv, folder / f"{name}.log")


def get(url: str, token: str = "") -> bytes:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
    try:
        query = f"?{parts.query}" if parts.query else ""
        headers = {"authorization": f"Bearer {token}"} if token else {}
        connection.request("GET", parts.path + query, headers=headers)
        return connection.getresponse().read()
    finally:
        connection.close()


def until(look: Callable[[], Any], within_s: float = WITHIN_S) -> Any:
    deadline_s = time.monotonic() + within_s
    while not (found := _tried(look)):
        if time.monotonic() > deadline_s:
            raise RuntimeError(f"nothing within {within_s:g} s")
        time.sleep(LOOK_EVERY_S)
    return found


async def until_so(look: Callable[[], Any]) -> Any:
    return await asyncio.to_thread(until, look)


def _tried(look: Callable[[], Any]) -> Any:
    try:
        return look()
    except (OSError, http.client.HTTPException, ValueError):
        return None


def _json(path: Path) -> Any:
    return json.loads(path.read_text()) if path.exists() else None
