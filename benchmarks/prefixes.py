"""What is read again although it was read before: three neurons, prompts that begin alike.

    python -m benchmarks.prefixes [--rounds 2] [--out FILE]

A cortex and three neurons over real links, the demonstration model in real engines, each
with four slots of 2,560 tokens. The policies take turns:

shared    twelve prompts of about 2,000 tokens, each asked eight times with another
          question behind it, in a random order, three at once, from empty caches. A
          neuron's caches hold fewer than the twelve.
unshared  different prompts of about 1,000 tokens, which nobody asks twice.
hot       one prompt that twelve clients ask at once, again and again.

The time to read a prompt is the engine's own figure (`timings.prompt_ms`). Round robin is
a policy of this benchmark alone.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import statistics
import struct
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from benchmarks import machine
from benchmarks.federated import DEMO, node
from helexa.cortex.app import Cortex, running
from helexa.cortex.orchestrator import policies
from helexa.cortex.orchestrator.scheduler import Candidate, Policy
from helexa.cortex.settings import CortexSettings, MeshSettings, OrchestratorSettings
from helexa.protocol.ids import ModelId
from helexa.protocol.routing import RouteHints
from helexa.util.sockets import Address
from helexa.util.upstream import Pool, Tcp

MODEL = ModelId("bench-chat")
NEURONS, SLOTS, CONTEXT = 3, 4, 2560
PROMPTS, REPEATS, TOKENS = 12, 8, 2_000
UNSHARED = 48
CLIENTS, HOT_CLIENTS, HOT_ASKED = 3, 12, 60
LESS_READING, WORSE_UNSHARED = 0.65, 0.03
_READY_WITHIN_S = 60.0


@dataclass
class RoundRobin:
    name: str = "round_robin"
    by_prefix: bool = False
    candidates_max: int = 8
    turn: int = 0

    def order(
        self,
        candidates: Sequence[Candidate],
        hints: RouteHints,  # noqa: ARG002
        random: Callable[[], float],  # noqa: ARG002
    ) -> Sequence[tuple[Candidate, str]]:
        self.turn += 1
        at = self.turn % len(candidates)
        return [(one, "its turn") for one in (*candidates[at:], *candidates[:at])]


@dataclass
class Asked:
    """What the engines said of one run."""

    read_ms: list[float] = field(default_factory=list)
    read_tokens: int = 0
    cached_tokens: int = 0
    first_byte_ms: list[float] = field(default_factory=list)
    seconds: float = 0.0

    def as_dict(self) -> dict[str, float]:
        return {
            "read_ms": round(sum(self.read_ms), 1),
            "read_tokens": self.read_tokens,
            "cached_tokens": self.cached_tokens,
            "first_byte_p50_ms": round(statistics.median(self.first_byte_ms), 1),
            "first_byte_mean_ms": round(statistics.fmean(self.first_byte_ms), 1),
            "seconds": round(self.seconds, 2),
        }


class Bench:
    def __init__(self, cortex: Cortex, client: Pool, key: str) -> None:
        self.cortex = cortex
        self._changed = anyio.Event()
        cortex.neurons.watch(self._tell)
        self._client = client
        self._headers = [(b"authorization", b"Bearer " + key.encode())]

    async def forget(self) -> None:
        """Empty caches on all neurons, and nothing remembered of them here."""
        neurons = self.cortex.neurons
        for one in list(neurons.view.neurons):
            await neurons.commands.unload(one, MODEL)
            await neurons.commands.load(one, MODEL)
        await self.until_loaded()

    async def until_loaded(self) -> None:
        with anyio.fail_after(_READY_WITHIN_S):
            while len(self.cortex.neurons.view.loaded.get(MODEL, ())) < NEURONS:
                await self._changed.wait()

    def _tell(self) -> None:
        changed, self._changed = self._changed, anyio.Event()
        changed.set()

    async def run(self, policy: Policy, prompts: Sequence[str], clients: int) -> Asked:
        self.cortex.neurons.policy = policy
        found, waiting = Asked(), iter(prompts)
        began = time.perf_counter()

        async def client() -> None:
            for prompt in waiting:
                await self._ask(prompt, found)

        async with anyio.create_task_group() as tasks:
            for _ in range(clients):
                tasks.start_soon(client)
        found.seconds = time.perf_counter() - began
        return found

    async def _ask(self, prompt: str, found: Asked, tokens: int = 1) -> None:
        system, _, question = prompt.partition("\0")
        body = {
            "model": MODEL,
            "messages": [
                {"role": "system", "content": system},
                {"role": "user", "content": question},
            ],
            "max_tokens": tokens,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        began = time.perf_counter()
        with await self._client.send(
            "POST", "/v1/chat/completions", self._headers, json.dumps(body).encode()
        ) as response:
            await response.ready(_READY_WITHIN_S)
            found.first_byte_ms.append((time.perf_counter() - began) * 1000)
            text = await response.read(1 << 20)
        timings = _timings(text)
        found.read_ms.append(timings["prompt_ms"])
        found.read_tokens += int(timings["prompt_n"])
        found.cached_tokens += int(timings["cache_n"])


def _timings(text: bytes) -> dict[str, float]:
    for event in text.split(b"\n\n"):
        if b'"timings"' in event:
            found: dict[str, float] = json.loads(event.removeprefix(b"data: "))["timings"]
            return found
    raise RuntimeError(f"an answer without timings: {text[:500]!r}")


# --- prompts

WORDS = "the of and to in is that it was for on are as with his they at be this from have or by"


def prompt(chance: random.Random, words: int) -> str:
    return " ".join(chance.choice(WORDS.split()) for _ in range(words))


def shared(chance: random.Random, words: int) -> list[str]:
    heads = [prompt(chance, words) for _ in range(PROMPTS)]
    asked = [f"{head}\0{chance.randrange(100)}?" for head in heads for _ in range(REPEATS)]
    chance.shuffle(asked)
    return asked


def unshared(chance: random.Random, words: int) -> list[str]:
    return [f"{prompt(chance, words)}\0and?" for _ in range(UNSHARED)]


# --- the fleet


@contextlib.asynccontextmanager
async def fleet(folder: Path) -> AsyncIterator[Bench]:
    models = folder / "models"
    models.mkdir()
    (models / f"{MODEL}.gguf").write_bytes(_with_context(DEMO.read_bytes(), CONTEXT))
    loopback = Address("127.0.0.1", 0)
    settings = CortexSettings(
        home=folder / "cortex",
        mesh_socket=loopback,
        gateway_socket=loopback,
        mesh=MeshSettings(lan=False, neurons="open"),
        orchestrator=OrchestratorSettings(provision=False),
    )
    with contextlib.ExitStack() as processes:
        async with running(settings) as cortex:
            for number in range(NEURONS):
                await anyio.to_thread.run_sync(
                    processes.enter_context, _neuron(folder, number, cortex.ticket)
                )
            assert cortex.gateway_url is not None
            port = int(cortex.gateway_url.rpartition(":")[2])
            key = (await cortex.keyring.opened()).create("bench").secret
            async with Pool(Tcp("127.0.0.1", port)).running() as client:
                bench = Bench(cortex, client, key)
                await bench.until_loaded()
                yield bench


def _neuron(folder: Path, number: int, ticket: str) -> Any:
    sizes = (f"slots={SLOTS}", f"context_tokens={CONTEXT}")
    return node(
        folder / f"n{number}.log",
        *("neuron", "--home", str(folder / f"n{number}"), "--name", f"n{number}"),
        *("--models-dir", str(folder / "models"), "--no-demo-models", "--cortex", ticket),
        *("--api-socket", "127.0.0.1:0", "--control-socket", "127.0.0.1:0"),
        *("--preload", MODEL),
        *(word for size in sizes for word in ("--set", f"neuron.{size}")),
    )


def _with_context(weights: bytes, tokens: int) -> bytes:
    """The demonstration model reads 2,048 tokens; what it would say behind them does not matter."""
    name = b"llama.context_length" + struct.pack("<I", 4)
    at = weights.index(name) + len(name)
    return weights[:at] + struct.pack("<I", tokens) + weights[at + 4 :]


async def _words_for(bench: Bench, tokens: int) -> int:
    """How many words make a prompt of so many tokens."""
    found = await bench.run(
        policies.named("least_loaded"), [prompt(random.Random(0), 500) + "\0and?"], 1
    )
    return tokens * 500 // (found.read_tokens + found.cached_tokens)


async def measure(rounds: int, say: Callable[[str], None]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="hx-") as folder:
        async with fleet(Path(folder)) as bench:
            words = await _words_for(bench, TOKENS)
            runs: dict[str, dict[str, list[dict[str, float]]]] = {
                "shared": {},
                "unshared": {},
                "hot": {},
            }
            for number in range(rounds):
                await _round(bench, number, words, runs, say)
    return {
        "neurons": NEURONS,
        "slots": SLOTS,
        "shared_prompts": PROMPTS,
        "repeats": REPEATS,
        "prompt_words": words,
        "runs": runs,
        "summary": summary(runs),
    }


async def _round(
    bench: Bench,
    number: int,
    words: int,
    runs: dict[str, dict[str, list[dict[str, float]]]],
    say: Callable[[str], None],
) -> None:
    both = [policies.named("least_loaded"), policies.named("prefix_affinity")]
    for policy in _turned([*both, RoundRobin()], number):
        await bench.forget()
        # The order of the prompts is the same for all policies of a round.
        asked = shared(random.Random(f"shared {number}"), words)
        found = (await bench.run(policy, asked, CLIENTS)).as_dict()
        runs["shared"].setdefault(policy.name, []).append(found)
        say(f"round {number + 1}, shared, {policy.name}: {found}")
    for policy in _turned(both, number):
        asked = unshared(random.Random(f"unshared {number} {policy.name}"), words // 2)
        found = (await bench.run(policy, asked, CLIENTS)).as_dict()
        runs["unshared"].setdefault(policy.name, []).append(found)
        say(f"round {number + 1}, unshared, {policy.name}: {found}")
    hot = prompt(random.Random(f"hot {number}"), words)
    found = await _hot(bench, both[1], hot)
    runs["hot"].setdefault(both[1].name, []).append(found)
    say(f"round {number + 1}, hot: {found}")


async def _hot(bench: Bench, policy: Policy, text: str) -> dict[str, float]:
    """One prompt of everybody: how many requests were on one neuron at most, of how many."""
    neurons, worst = bench.cortex.neurons, (0, 0)

    async def look() -> None:
        nonlocal worst
        while True:
            loads = list(neurons.in_flight.values())
            worst = max(worst, (max(loads, default=0), sum(loads)))
            await anyio.sleep(0.002)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(look)
        asked = [f"{text}\0{at}?" for at in range(HOT_ASKED)]
        found = await bench.run(policy, asked, HOT_CLIENTS)
        tasks.cancel_scope.cancel()
    return {**found.as_dict(), "most_on_one": worst[0], "then_in_flight": worst[1]}


def _turned(these: list[Policy], by: int) -> list[Policy]:
    at = by % len(these)
    return [*these[at:], *these[:at]]


def summary(runs: dict[str, dict[str, list[dict[str, float]]]]) -> dict[str, float]:
    """Medians of the ratios inside each round."""

    def ratio(case: str, ours: str, theirs: str, measure: str) -> float:
        pairs = zip(runs[case][ours], runs[case][theirs], strict=True)
        return statistics.median(one[measure] / other[measure] for one, other in pairs)

    return {
        "reading_time_below_round_robin": round(
            1 - ratio("shared", "prefix_affinity", "round_robin", "read_ms"), 3
        ),
        "tokens_read_below_round_robin": round(
            1 - ratio("shared", "prefix_affinity", "round_robin", "read_tokens"), 3
        ),
        "reading_time_below_least_loaded": round(
            1 - ratio("shared", "prefix_affinity", "least_loaded", "read_ms"), 3
        ),
        "unshared_seconds_to_least_loaded": round(
            ratio("unshared", "prefix_affinity", "least_loaded", "seconds"), 3
        ),
        "unshared_first_byte_to_least_loaded": round(
            ratio("unshared", "prefix_affinity", "least_loaded", "first_byte_mean_ms"), 3
        ),
        "unshared_reading_to_least_loaded": round(
            ratio("unshared", "prefix_affinity", "least_loaded", "read_ms"), 3
        ),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--out", type=Path, help="a file for the figures")
    args = parser.parse_args()
    facts = dict(machine.describe())
    found = anyio.run(measure, args.rounds, lambda text: print(text, file=sys.stderr))
    print(json.dumps(found["summary"], indent=1))
    print(
        f"wanted: reading time at least {LESS_READING:.0%} below round robin; without shared "
        f"prompts at most {WORSE_UNSHARED:.0%} worse than least_loaded"
    )
    if args.out is not None:
        args.out.write_text(json.dumps({"machine": facts, **found}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
