"""The instruments: an upstream that costs next to nothing, and two load generators.

`mock.c` is a fast OpenAI-shaped upstream and no model. Fields of the request steer
it: `max_tokens` is the number of SSE chunks, `seed` the microseconds between two,
and each chunk carries its send time. `sse.c` keeps a number of streams going and
measures their lag. `post.lua` is the load of `wrk`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
BIN = HERE.parent / "bin"

CHUNKS = 200
CHUNK_EVERY_US = 20_000


class Missing(Exception):
    """A program that the benchmark needs; says how to get it."""


def build() -> None:
    """Compile what is newer than its binary. Raises Missing."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise Missing("a C compiler (Debian: apt-get install gcc libc6-dev)")
    if shutil.which("wrk") is None:
        raise Missing("wrk (Debian: apt-get install wrk)")
    BIN.mkdir(exist_ok=True)
    for name in ("mock", "sse"):
        source, binary = HERE / f"{name}.c", BIN / name
        if not binary.exists() or binary.stat().st_mtime < source.stat().st_mtime:
            subprocess.run([compiler, "-O2", "-w", "-o", str(binary), str(source)], check=True)


def requests(
    port: int, key: str, *, connections: int, seconds: float, prompt_kb: int = 0
) -> dict[str, Any]:
    """A closed loop of chat requests that are not streamed; prompts of 400 bytes, or so many KB."""
    # The slowest peer needs seconds for 64 at once, which are no errors.
    load = ["-t1", f"-c{connections}", f"-d{seconds:.0f}s", "--timeout", "30s"]
    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    more = {"PROMPT_KB": str(prompt_kb)} if prompt_kb else {}
    return _run(["wrk", *load, "-s", str(HERE / "post.lua"), url], {"KEY": key, **more})


def streams(
    port: int, key: str, *, count: int, seconds: float, every_us: int = CHUNK_EVERY_US
) -> dict[str, Any]:
    """A closed loop of paced streams: what a model at 50 tokens a second looks like."""
    return _run(
        [str(BIN / "sse"), str(port), str(count), str(seconds), str(CHUNKS), str(every_us)],
        {"KEY": key},
    )


def _run(argv: list[str], more: dict[str, str]) -> dict[str, Any]:
    done = subprocess.run(
        argv,
        env={**os.environ, **more},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    lines = done.stdout.splitlines()
    if done.returncode or not lines or not lines[-1].startswith("{"):
        raise RuntimeError(f"{argv}: {done.stdout[-500:]} {done.stderr[-500:]}")
    result: dict[str, Any] = json.loads(lines[-1])
    return result
