"""Streams while nodes are killed under them: do they end, are they the same, how long is the gap.

    python -m benchmarks.survival [--streams 300] [--only CASE ...] [--seed N] [--out DIR]

Real processes on loopback: a cortex and three neurons, each of an operator of its own, with two
models that are the same demo model, one served deterministically. In each round a number of clients
stream the same moment, and the neuron that serves most of them is killed at a random token; it is
started again while the next round goes on. A case ends when so many streams were broken.

A second fleet is a cortex without neurons and three others that lend theirs, of which the one that
serves is killed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks import machine, report, survival_report
from benchmarks.survival_nodes import EXACT, USUAL, Cortex, Node, neuron, until_so
from benchmarks.survival_streams import Asking, Clients, Score, one_round, undisturbed
from helexa.util.upstream import Pool, Tcp

NODES = ("n1", "n2", "n3")
ROUNDS_PER_STREAM_MAX = 3
"""A round may come too late for its streams; so many are tried for each that is wanted."""


@dataclass(frozen=True)
class Case:
    name: str
    words: str
    asking: Asking
    at_once: int
    share: float
    """Of the streams that are asked for."""
    strike: str = "kill"
    """`kill` or `term` a node, `runtimes` below it, or `nothing`."""
    exact: bool = True
    """Whether all of them have to be the same to the byte."""
    lent: bool = False
    """Whether other operators' cortexes serve, and those are struck."""


ZERO, SEEDED = Asking(EXACT, 0.0), Asking(EXACT, 0.8, seed=11)
CASES = (
    Case("zero-1", "deterministic, temperature 0", ZERO, 1, 1.0),
    Case("seed-1", "deterministic, 0.8 with a seed", SEEDED, 1, 1 / 3),
    Case("zero-8", "deterministic, temperature 0", ZERO, 8, 1.0),
    Case("seed-8", "deterministic, 0.8 with a seed", SEEDED, 8, 1.0),
    Case("usual-1", "default settings, temperature 0", Asking(USUAL, 0.0), 1, 1 / 6, exact=False),
    Case("usual-8", "default settings, temperature 0", Asking(USUAL, 0.0), 8, 1.0, exact=False),
    Case(
        "alone-8", "the same, and nothing is killed", Asking(USUAL, 0.0), 8, 1 / 3, "nothing", False
    ),
    # No more: an engine that ends again and again is not started again for a while.
    Case("runtime-8", "its engines are killed", ZERO, 8, 1 / 25, "runtimes"),
    Case(
        "drain-8", "SIGTERM: it drains, and is gone before its streams end", ZERO, 8, 1 / 3, "term"
    ),
    Case("cortex-4", "another operator's cortex is killed", ZERO, 4, 1 / 10, lent=True),
)


class Farm:
    """Three nodes that can be struck, of which two serve at any time."""

    def __init__(self, cortex: Cortex, nodes: dict[str, Node]) -> None:
        self.cortex = cortex
        self.nodes = nodes
        self._returning: set[asyncio.Task[None]] = set()

    def strike(self, how: str, name: str) -> None:
        node = self.nodes[name]
        if how == "runtimes":
            node.kill_runtimes()
        else:
            node.send(signal.SIGKILL if how == "kill" else signal.SIGTERM)

    def bring_back(self, how: str, name: str) -> None:
        """Beside the next round; during this one a start would take the CPU of those measured."""
        self._spawn(self._served(name) if how == "runtimes" else self._again(self.nodes[name]))

    async def ready(self, *, all_of_them: bool = False) -> None:
        """Return when enough serve for another round."""
        wanted = len(self.nodes) if all_of_them else len(self.nodes) - 1
        while len(self._returning) > len(self.nodes) - wanted:
            done, _ = await asyncio.wait(self._returning, return_when=asyncio.FIRST_COMPLETED)
            for one in done:
                one.result()
        await until_so(lambda: len(self.cortex.loaded(EXACT)) >= wanted)

    async def _again(self, node: Node) -> None:
        await asyncio.to_thread(node.close)
        await asyncio.to_thread(node.start)
        await self._served(node.name)

    async def _served(self, name: str) -> None:
        await until_so(lambda: name in self.cortex.loaded(EXACT))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._returning.add(task)
        task.add_done_callback(self._returning.discard)


async def measured(case: Case, farm: Farm, clients: Clients, streams: int, seed: int) -> Score:
    score, draw = Score(), random.Random(seed)
    wanted = max(1, round(streams * case.share))

    struck: list[str] = []

    def strike(name: str) -> None:
        struck.append(name)
        if case.strike != "nothing":
            farm.strike(case.strike, name)

    await farm.ready(all_of_them=True)
    told = await undisturbed(clients, case.asking)
    for _ in range(wanted * ROUNDS_PER_STREAM_MAX):
        await farm.ready()
        await one_round(clients, farm.cortex, case.asking, case.at_once, strike, told, score, draw)
        if struck and case.strike != "nothing":
            farm.bring_back(case.strike, struck[-1])
        struck.clear()
        done = score.broken if case.strike != "nothing" else score.streams
        if done >= wanted:
            break
    return score


@contextlib.asynccontextmanager
async def own_fleet(folder: Path) -> AsyncIterator[tuple[Farm, Clients]]:
    """A cortex, and three operators' neurons that dialled it."""
    cortex = Cortex(folder, "cortex")
    async with _started(cortex) as (stack, clients):
        nodes = {name: neuron(folder, name, cortex, (EXACT, USUAL)) for name in NODES}
        for one in nodes.values():
            stack.callback(one.close)
            one.start()
        yield Farm(cortex, nodes), clients


@contextlib.asynccontextmanager
async def lent_fleet(folder: Path) -> AsyncIterator[tuple[Farm, Clients]]:
    """A cortex without neurons, and three operators' that lend theirs."""
    cortex = Cortex(folder, "asked")
    async with _started(cortex) as (stack, clients):
        lenders: dict[str, Node] = {}
        for name in NODES:
            one = lenders[name] = Cortex(folder, name)
            stack.callback(one.close)
            one.start()
            below = neuron(folder, f"of-{name}", one, (EXACT,))
            stack.callback(below.close)
            below.start()
            cortex.command("mesh", "join", str(one.facts["ticket"]))
            cortex.command("mesh", "trust", str(one.facts["node_id"]))
            one.command("mesh", "trust", str(cortex.facts["node_id"]))
        yield Farm(cortex, lenders), clients


@contextlib.asynccontextmanager
async def _started(
    cortex: Cortex,
) -> AsyncIterator[tuple[contextlib.ExitStack, Clients]]:
    with contextlib.ExitStack() as stack:
        stack.callback(cortex.close)
        cortex.start()
        key = cortex.command("keys", "create", "bench")["secret"]
        parts = urlsplit(cortex.facts["gateway_url"])
        async with Pool(Tcp(parts.hostname or "", parts.port or 0)).running() as pool:
            yield stack, Clients(pool, key)


async def run(cases: Sequence[Case], streams: int, seed: int) -> dict[str, Score]:
    found: dict[str, Score] = {}
    fleets: tuple[tuple[bool, Callable[[Path], Any]], ...] = (
        (False, own_fleet),
        (True, lent_fleet),
    )
    with tempfile.TemporaryDirectory(prefix="hx-") as folder:
        for lent, fleet in fleets:
            wanted = [case for case in cases if case.lent is lent]
            if not wanted:
                continue
            place = tempfile.mkdtemp(dir=folder)
            async with fleet(Path(place)) as (farm, clients):
                for case in wanted:
                    began_s = time.monotonic()
                    score = found[case.name] = await measured(case, farm, clients, streams, seed)
                    took_s = time.monotonic() - began_s
                    print(
                        f"{case.name}: {score.broken} broken of {score.streams} in {took_s:.0f} s, "
                        f"{score.ended} ended, {score.same} the same, {score.twice} twice, "
                        f"{score.errors[:2]}",
                        file=sys.stderr,
                        flush=True,
                    )
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=300)
    parser.add_argument("--only", nargs="*", default=[], help=", ".join(one.name for one in CASES))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, help="folder for survival.md, .svg and .json")
    args = parser.parse_args()
    facts = machine.describe()
    cases = [one for one in CASES if not args.only or one.name in args.only]
    scores = asyncio.run(run(cases, args.streams, args.seed))
    rows = survival_report.rows(cases, scores)
    page = survival_report.markdown(rows, facts, args.streams)
    print(page)
    if args.out is not None:
        report.write(
            args.out,
            {
                "survival.md": page,
                "survival.svg": survival_report.svg(rows),
                "survival.json": json.dumps(
                    {"machine": dict(facts), "cases": [one.raw for one in rows]}, indent=1
                )
                + "\n",
            },
        )
    return 0 if all(one.met for one in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
