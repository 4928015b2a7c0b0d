"""What the neuron adds to its runtime: to the first token, to each chunk, to throughput.

    python -m benchmarks.overhead [--quick] [--out docs/benchmarks/overhead.json]

CPU is counted of a neuron in front of the upstream instrument, whose own costs next to
nothing. The rest is measured against the real llama.cpp, asked in turn through the neuron
and straight on its own socket, in the same minute and by the same client.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import instruments, machine, random_models
from benchmarks.processes import cpu_us, free_port, wait_for_port
from benchmarks.random_models import Shape
from helexa.neuron.models.store import DEMO_FOLDER

FIRST_TOKEN_MS_MAX = 1.0
CHUNK_US_MAX = 40.0
THROUGHPUT_SHARE_MIN = 0.97
STREAMS = (1, 8)
SHAPE = Shape(width=1024, layers=8, heads=16, heads_kv=4, vocabulary=8_192, format="q8_0")
"""Some 100 million parameters: a token takes milliseconds, as of a model that one would use."""
TOKENS = 96


@dataclass(frozen=True)
class Overhead:
    first_token_added_p50_ms: float
    first_token_direct_p50_ms: float
    us_chunk: float
    chunks_s: float
    tokens_s_direct: dict[int, float]
    tokens_s_through: dict[int, float]
    share: dict[int, float]
    """Of the direct throughput, by streams: the median of the rounds' ratios."""


def measure(*, quick: bool = False) -> Overhead:
    instruments.build()
    us_chunk, chunks_s = _per_chunk(seconds=5.0 if quick else 15.0)
    direct_ms, added_ms = _first_token(count=50 if quick else 400)
    rounds = 2 if quick else 7
    direct, through, share = _throughput(rounds)
    return Overhead(
        first_token_added_p50_ms=added_ms,
        first_token_direct_p50_ms=direct_ms,
        us_chunk=us_chunk,
        chunks_s=chunks_s,
        tokens_s_direct=direct,
        tokens_s_through=through,
        share=share,
    )


def rows(found: Overhead) -> list[str]:
    """The page's table."""
    share = min(found.share.values())
    aims = (
        (
            "added to the first token, p50",
            f"under {FIRST_TOKEN_MS_MAX:g} ms",
            f"{found.first_token_added_p50_ms:.2f} ms",
            found.first_token_added_p50_ms < FIRST_TOKEN_MS_MAX,
        ),
        (
            f"CPU of the neuron for each streamed chunk, {50} paced streams",
            f"under {CHUNK_US_MAX:g} us",
            f"{found.us_chunk:.1f} us",
            found.us_chunk < CHUNK_US_MAX,
        ),
        (
            f"llama.cpp's tokens/s through the neuron, {' and '.join(map(str, STREAMS))} streams",
            f"at least {THROUGHPUT_SHARE_MIN:.0%} of direct",
            " and ".join(f"{found.share[one]:.1%}" for one in STREAMS),
            share >= THROUGHPUT_SHARE_MIN,
        ),
    )
    table = ["| aim | wanted | measured | met |", "|---|---:|---:|---|"]
    return table + [
        f"| {words} | {wanted} | {measured} | {'yes' if met else 'no'} |"
        for words, wanted, measured, met in aims
    ]


@contextlib.contextmanager
def neuron(*words: str) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """Its port, its pid, and what it says of its child."""
    port = free_port()
    with tempfile.NamedTemporaryFile(suffix=".log") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.neuron_hop", str(port), *words],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            if not line:
                raise RuntimeError(Path(log.name).read_text()[-2000:])
            wait_for_port(port, process, Path(log.name))  # type: ignore[arg-type]
            yield port, process.pid, json.loads(line)
        finally:
            process.terminate()
            process.wait(30)


def _per_chunk(seconds: float) -> tuple[float, float]:
    with neuron("mock", str(instruments.BIN / "mock"), "64") as (port, pid, facts):
        instruments.streams(port, "", count=50, seconds=3.0)
        mock = int(facts["pid"])
        before, of_mock = cpu_us(pid), cpu_us(mock)
        result = instruments.streams(port, "", count=50, seconds=seconds)
        used = cpu_us(pid) - before - (cpu_us(mock) - of_mock)
        if result["errs"] or result["bad"]:
            raise RuntimeError(f"errors in the streams: {result}")
        return used / (result["chunks_s"] * seconds), float(result["chunks_s"])


def _first_token(count: int) -> tuple[float, float]:
    demo = str(DEMO_FOLDER / "helexa-demo.gguf")
    body = _body("helexa-demo", 2, "What is helexa?")
    with neuron("llama_cpp", demo) as (port, _, facts):
        places = (_unix(facts["child"]), _tcp(port))
        for _ in range(20):
            for dial in places:
                Stream(dial, body).run()
        direct, through = [], []
        for _ in range(count):
            direct.append(Stream(places[0], body).run()[0])
            through.append(Stream(places[1], body).run()[0])
    direct_ms = statistics.median(direct) * 1000
    return direct_ms, statistics.median(through) * 1000 - direct_ms


def _throughput(rounds: int) -> tuple[dict[int, float], dict[int, float], dict[int, float]]:
    direct: dict[int, list[float]] = {one: [] for one in STREAMS}
    through: dict[int, list[float]] = {one: [] for one in STREAMS}
    with tempfile.TemporaryDirectory(prefix="hx-") as folder:
        file = random_models.write(Path(folder) / "random.gguf", SHAPE)
        with neuron("llama_cpp", str(file), str(max(STREAMS))) as (port, _, facts):
            places = (_unix(facts["child"]), direct), (_tcp(port), through)
            for count in STREAMS:
                _tokens_s(places[0][0], count)
            for at in range(rounds):
                for count in STREAMS:
                    # The machine drifts: who goes first changes from round to round.
                    for dial, found in places if at % 2 == 0 else places[::-1]:
                        found[count].append(_tokens_s(dial, count))
    median = statistics.median
    return (
        {one: median(values) for one, values in direct.items()},
        {one: median(values) for one, values in through.items()},
        {
            one: median(a / b for a, b in zip(through[one], direct[one], strict=True))
            for one in STREAMS
        },
    )


def _tokens_s(dial: Callable[[], socket.socket], count: int) -> float:
    streams = [Stream(dial, _body("random", TOKENS, f"abc {at}")) for at in range(count)]
    began = time.perf_counter()
    threads = [threading.Thread(target=one.run) for one in streams]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    took = time.perf_counter() - began
    tokens = sum(one.tokens for one in streams)
    if tokens != count * TOKENS:
        raise RuntimeError(f"{tokens} of {count * TOKENS} tokens came")
    return tokens / took


class Stream:
    """One streamed chat, read as it comes and not parsed: the client should cost little."""

    def __init__(self, dial: Callable[[], socket.socket], body: bytes) -> None:
        self._dial = dial
        self._request = (
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n"
            b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
        )
        self.tokens = 0

    def run(self) -> tuple[float, float]:
        """Seconds to the first token and to the end."""
        with self._dial() as opened:
            began = time.perf_counter()
            first, heard = 0.0, b""
            opened.sendall(self._request)
            while b"[DONE]" not in heard[-64:]:
                data = opened.recv(1 << 16)
                if not data:
                    raise RuntimeError(f"cut off: {heard[-500:]!r}")
                heard += data
                if not first and b'"content":"' in heard:
                    first = time.perf_counter() - began
            took = time.perf_counter() - began
        if b" 200 " not in heard[:20]:
            raise RuntimeError(f"{heard[:500]!r}")
        marks = heard.rpartition(b'"completion_tokens":')[2][:8]
        self.tokens = int(marks.partition(b",")[0].partition(b"}")[0] or 0)
        return first, took


def _body(model: str, tokens: int, text: str) -> bytes:
    return json.dumps(
        {
            "model": model,
            "messages": [{"role": "user", "content": text}],
            "stream": True,
            "stream_options": {"include_usage": True},
            "max_tokens": tokens,
            "temperature": 0,
            "ignore_eos": True,
        }
    ).encode()


def _unix(label: str) -> Callable[[], socket.socket]:
    path = label.removeprefix("unix:")

    def dial() -> socket.socket:
        opened = socket.socket(socket.AF_UNIX)
        opened.connect(path)
        return opened

    return dial


def _tcp(port: int) -> Callable[[], socket.socket]:
    def dial() -> socket.socket:
        opened = socket.create_connection(("127.0.0.1", port))
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return opened

    return dial


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overhead", description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    facts = dict(machine.describe())
    found = measure(quick=args.quick)
    print("\n".join(rows(found)))
    print(json.dumps(asdict(found)))
    if args.out:
        args.out.write_text(json.dumps({"machine": facts, **asdict(found)}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    os.environ.setdefault("LC_ALL", "C")
    sys.exit(main())
