"""What a cortex keeps in memory, role by role, and what many on one machine take together.

    python -m benchmarks.memory [--together 16] [--out FILE]

RSS counts every page of a shared library once per process that looked at it; PSS
divides it among those processes, and so is what one more node takes from the
machine. Own is neither shared nor shareable: what the node itself wrote. The
second table is taken in one process, so a part that shares imports with an
earlier one shows only what it adds.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

SETTLED_S = 1.0

ROLES = {
    "a member of the mesh": (),
    "and orchestrator": ("orchestrator",),
    "and portal": ("orchestrator", "portal"),
    "and gateway": ("orchestrator", "portal", "gateway"),
}

PARTS = {
    "asyncio, uvloop, anyio, msgspec": "asyncio uvloop anyio msgspec",
    "command line and settings": "helexa.cli.entry helexa.cli.verbs.cortex",
    "keys (libsodium)": "helexa.mesh.identity",
    "sessions, fleet, policies": "helexa.cortex.app helexa.cortex.orchestrator.policies",
    "iroh's bindings": "helexa.mesh.transports.iroh",
    "the HTTP server (uvicorn)": "helexa.util.http_server",
    "the control API (starlette)": "helexa.cortex.orchestrator.api",
    "metrics (prometheus_client)": "helexa.util.metrics",
    "the portal (jinja2)": "helexa.cortex.portal.app",
    "the gateway": "helexa.cortex.gateway.app",
    "the database (sqlalchemy)": "helexa.cortex.accounts.keys",
}


@dataclass(frozen=True)
class Memory:
    rss_mb: float
    pss_mb: float
    own_mb: float

    @classmethod
    def of(cls, pid: int | str) -> Memory:
        mb = {}
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
            name, kib, _ = line.split()
            mb[name] = int(kib) * 1024 / 1e6
        return cls(mb["Rss:"], mb["Pss:"], mb["Anonymous:"])

    def beyond(self, other: Memory) -> Memory:
        return Memory(
            self.rss_mb - other.rss_mb, self.pss_mb - other.pss_mb, self.own_mb - other.own_mb
        )


@contextlib.contextmanager
def cortexes(count: int, roles: Sequence[str]) -> Iterator[list[int]]:
    """Process ids of cortexes that serve, each with a home and sockets of its own."""
    sockets = [f"--{role}-socket=127.0.0.1:0" for role in ("mesh", *roles)]
    with tempfile.TemporaryDirectory(prefix="hx-") as folder, contextlib.ExitStack() as stack:
        started = []
        for number in range(count):
            argv = [sys.executable, "-m", "helexa", "cortex", "--json", "--log-level", "error"]
            argv += ["--home", f"{folder}/{number}", *sockets]
            process = stack.enter_context(subprocess.Popen(argv, stdout=subprocess.PIPE, text=True))
            stack.callback(process.terminate)
            started.append(process)
        for process in started:
            assert process.stdout is not None
            if not any(json.loads(line)["event"] == "ready" for line in process.stdout):
                raise RuntimeError(f"a cortex ended with status {process.wait()}")
        time.sleep(SETTLED_S)
        yield [process.pid for process in started]


def of_cortexes(count: int, roles: Sequence[str]) -> Memory:
    """The medians over `count` of them that run at the same time."""
    with cortexes(count, roles) as pids:
        found = [Memory.of(pid) for pid in pids]
    return Memory(
        statistics.median(one.rss_mb for one in found),
        statistics.median(one.pss_mb for one in found),
        statistics.median(one.own_mb for one in found),
    )


def of_parts() -> list[tuple[str, Memory]]:
    """What each part of PARTS adds in a process that imports them in that order."""
    program = "import benchmarks.memory as m; m.import_parts()"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    return [(name, Memory(*values)) for name, values in json.loads(done.stdout)]


def import_parts() -> None:
    before, added = Memory.of("self"), []
    for name, modules in PARTS.items():
        for module in modules.split():
            importlib.import_module(module)
        now = Memory.of("self")
        added.append((name, astuple(now.beyond(before))))
        before = now
    print(json.dumps(added))


def table(head: str, rows: Sequence[tuple[str, Memory]]) -> str:
    lines = [f"| {head} | RSS | PSS | own |", "|---|---:|---:|---:|"]
    lines += [f"| {name} | {m.rss_mb:.1f} | {m.pss_mb:.1f} | {m.own_mb:.1f} |" for name, m in rows]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    parser.add_argument("--together", type=int, default=16, metavar="N", help="cortexes at once")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    alone = [(name, of_cortexes(1, roles)) for name, roles in ROLES.items()]
    many = f"one of {args.together} with an orchestrator"
    together = (many, of_cortexes(args.together, ["orchestrator"]))
    page = "\n\n".join(
        (
            table("a cortex, MB", [*alone, together]),
            table("importing adds, MB", of_parts()),
        )
    )
    print(page)
    if args.out:
        args.out.write_text(page + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
