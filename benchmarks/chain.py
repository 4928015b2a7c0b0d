"""The whole chain: what gateway and neuron add to the first token, and how long `helexa up` takes.

The same request goes in turn to the gateway and straight to the runtime's own
socket, which is found by looking at what the processes of `helexa up` listen on.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks.processes import tree

ADDED_MS_MAX = 2.0
UP_S_MAX = 5.0
UP_WITHIN_S = 120.0


@dataclass(frozen=True)
class Chain:
    asked: int
    direct_p50_ms: float
    gateway_p50_ms: float
    added_p50_ms: float
    added_p99_ms: float
    up_to_first_token_s: float

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


def measure(*, quick: bool) -> Chain:
    count = 50 if quick else 400
    with tempfile.TemporaryDirectory(prefix="hx-") as home:
        began = time.monotonic()
        with _up(Path(home)) as (ready, process):
            base = ready["base_url"].removeprefix("http://")
            host, _, port = base.partition("/")[0].rpartition(":")
            model = ready["models"][0]
            model = model if isinstance(model, str) else model["id"]
            body = _body(model)
            gateway = _Asker(lambda: _tcp(host, int(port)), body, ready["api_key"], keep=True)
            gateway.first_token_ms()
            up_s = time.monotonic() - began
            path = _runtime_socket(process.pid)
            # The engine closes after any answer.
            runtime = _Asker(lambda: _unix(path), body, "", keep=False)
            for _ in range(20):
                gateway.first_token_ms()
                runtime.first_token_ms()
            through, direct = [], []
            for _ in range(count):
                direct.append(runtime.first_token_ms())
                through.append(gateway.first_token_ms())
    added = sorted(one - other for one, other in zip(through, direct, strict=True))
    return Chain(
        asked=count,
        direct_p50_ms=statistics.median(direct),
        gateway_p50_ms=statistics.median(through),
        added_p50_ms=statistics.median(through) - statistics.median(direct),
        added_p99_ms=added[int(len(added) * 0.99)],
        up_to_first_token_s=up_s,
    )


def lines(chain: Chain) -> Sequence[str]:
    """The chain's part of the page."""
    asked = (
        f"First token of the demo model, {chain.asked} requests in turn (p50): "
        f"{chain.direct_p50_ms:.2f} ms straight from the runtime, "
        f"{chain.gateway_p50_ms:.2f} ms through gateway and neuron."
    )
    rows = (
        ("added to the first token, p50", ADDED_MS_MAX, "ms", chain.added_p50_ms),
        ("`helexa up` to the first token", UP_S_MAX, "s", chain.up_to_first_token_s),
    )
    head = ["", "## The whole chain", "", asked, ""]
    table = ["| aim | wanted | measured | met |", "|---|---:|---:|---|"]
    for words, bound, unit, value in rows:
        met = "yes" if value < bound else "no"
        table.append(f"| {words} | under {bound:g} {unit} | {value:.2f} {unit} | {met} |")
    return head + table


@contextlib.contextmanager
def _up(home: Path) -> Iterator[tuple[dict[str, Any], subprocess.Popen[str]]]:
    argv = [sys.executable, "-m", "helexa", "up", "--json", "--home", str(home)]
    for name in ("gateway", "portal", "orchestrator", "api"):
        argv += [f"--{name}-socket", "127.0.0.1:0"]
    log = home / "bench.log"
    with log.open("w") as errors:
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=errors, text=True)
    try:
        yield _ready(process, log), process
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _ready(process: subprocess.Popen[str], log: Path, role: str = "up") -> dict[str, Any]:
    assert process.stdout is not None
    for line in process.stdout:
        with contextlib.suppress(ValueError):
            event: dict[str, Any] = json.loads(line)
            if event.get("event") == "ready" and event.get("role", "up") == role:
                return event
    raise RuntimeError(f"`helexa {role}` ended:\n{log.read_text()[-3000:]}")


def _runtime_socket(pid: int) -> str:
    """The socket of the one process in the tree that answers as an engine and not as helexa."""
    for one in tree(pid):
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(one)
            if "children" not in " ".join(process.cmdline()):
                continue
            for connection in process.net_connections(kind="unix"):
                if connection.laddr and Path(str(connection.laddr)).is_socket():
                    return str(connection.laddr)
    raise RuntimeError("no runtime child with a Unix socket was found")


def _body(model: str) -> bytes:
    return json.dumps(
        {
            "model": model,
            "messages": [{"role": "user", "content": "What is helexa?"}],
            "stream": True,
            "max_tokens": 2,
            "temperature": 0,
        }
    ).encode()


def _tcp(host: str, port: int) -> socket.socket:
    opened = socket.create_connection((host, port))
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return opened


def _unix(path: str) -> socket.socket:
    opened = socket.socket(socket.AF_UNIX)
    opened.connect(path)
    return opened


class _Asker:
    """Connects outside the measured time; keeps the connection where the far side does."""

    def __init__(
        self, dial: Callable[[], socket.socket], body: bytes, key: str, *, keep: bool
    ) -> None:
        self._connection = http.client.HTTPConnection("localhost")
        self._dial = dial
        self._keep = keep
        self._body = body
        self._headers = {"content-type": "application/json", "authorization": f"Bearer {key}"}

    def first_token_ms(self) -> float:
        if not self._keep:
            self._connection.close()
        if self._connection.sock is None:
            self._connection.sock = self._dial()
        began = time.perf_counter()
        self._connection.request("POST", "/v1/chat/completions", self._body, self._headers)
        with self._connection.getresponse() as response:
            if response.status != 200:
                raise RuntimeError(f"{response.status}: {response.read()[:500]!r}")
            while line := response.readline():
                if b'"content":"' in line and b'"content":""' not in line:
                    break
            took = (time.perf_counter() - began) * 1000
            while response.readline():
                pass
        return took
