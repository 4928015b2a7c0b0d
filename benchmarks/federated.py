"""What another operator's cortex adds to the first token: client, A, B, neuron beside A alone.

    python -m benchmarks.federated [--asked 400] [--transport tls] [--out FILE]

Two cortexes of two operators with a neuron each, on loopback. The same question
goes in turn to A's own model and, through the same gateway, to B's; both are the
same demonstration model under two names.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.chain import _Asker, _body, _ready, _tcp

DEMO = Path(__file__).parents[1] / "src/helexa/neuron/models/demo/helexa-demo.gguf"
ADDED_MS_MAX = 4.0


def helexa(*words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "helexa", *words], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@contextlib.contextmanager
def node(log: Path, *words: str) -> Iterator[dict[str, Any]]:
    with log.open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "helexa", *words, "--json"],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    try:
        yield _ready(process, log, words[0])
    finally:
        process.terminate()
        process.wait(30)


@contextlib.contextmanager
def operator(folder: Path, name: str, transport: str) -> Iterator[tuple[Path, dict[str, Any]]]:
    """A cortex and a neuron that has one model, NAME-chat."""
    home = folder / name
    (home / "models").mkdir(parents=True)
    shutil.copy(DEMO, home / "models" / f"{name}-chat.gguf")
    sockets = [f"--{role}-socket=127.0.0.1:0" for role in ("mesh", "gateway", "orchestrator")]
    words = ("cortex", "--home", str(home), "--name", name, *sockets)
    over = ("--set", f"mesh.transports={transport}")
    with (
        node(folder / f"{name}.log", *words, *over) as cortex,
        node(
            folder / f"{name}-neuron.log",
            *("neuron", "--home", str(home), "--cortex", cortex["ticket"], "--no-demo-models"),
            *("--api-socket", "127.0.0.1:0", "--control-socket", "127.0.0.1:0"),
            *("--preload", f"{name}-chat", "--set", f"neuron.transports={transport}"),
        ),
    ):
        yield home, cortex


def measure(asked: int, transport: str) -> dict[str, Any]:
    with (
        tempfile.TemporaryDirectory(prefix="hx-") as folder,
        operator(Path(folder), "a", transport) as (home_a, a),
        operator(Path(folder), "b", transport) as (home_b, b),
    ):
        helexa("mesh", "join", a["ticket"], "--home", str(home_b))
        helexa("mesh", "trust", b["node_id"], "--home", str(home_a))
        helexa("mesh", "trust", a["node_id"], "--home", str(home_b))
        helexa("mesh", "peers", "--home", str(home_a), "--wait-offers", "b-chat")
        key = helexa("keys", "create", "bench", "--home", str(home_a))
        port = int(a["gateway_url"].rpartition(":")[2])
        ours, theirs = (
            _Asker(lambda: _tcp("127.0.0.1", port), _body(model), key, keep=True)
            for model in ("a-chat", "b-chat")
        )
        for _ in range(30):
            ours.first_token_ms()
            theirs.first_token_ms()
        local, remote = [], []
        for _ in range(asked):
            local.append(ours.first_token_ms())
            remote.append(theirs.first_token_ms())
    added = sorted(one - other for one, other in zip(remote, local, strict=True))
    return {
        "asked": asked,
        "transport": transport,
        "local_p50_ms": round(statistics.median(local), 3),
        "federated_p50_ms": round(statistics.median(remote), 3),
        "added_p50_ms": round(statistics.median(added), 3),
        "added_p99_ms": round(added[int(len(added) * 0.99)], 3),
        "aim_ms": ADDED_MS_MAX,
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.federated")
    parser.add_argument("--asked", type=int, default=400)
    parser.add_argument("--transport", default="tls")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    text = json.dumps(measure(args.asked, args.transport), indent=2)
    print(text)
    if args.out:
        args.out.write_text(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
