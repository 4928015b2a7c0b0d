"""One greedy account beside nine others, at a real model: who gets how many tokens, and how soon.

    python -m benchmarks.fairness [--quick] [--out DIR]

A cortex and a neuron with llama.cpp and the demo model are started as an operator would. First
the model's pace is measured, while the tenth account asks for as much as it will: to refuse most
of that takes the same cores as the engine. Then nine accounts ask at random moments, each for
nine tenths of a tenth of that pace; then so again, with a tenth account that asks for twenty times
as much as each of them; and the same with `limits.fair` off, which is first come, first served.
Last, all ten have more to ask than they can get. The moments and sizes are the same in every
phase.

An account's fair share is what it asked for, or a tenth of what all got where that is less. Its
queue time is what the gateway says in `x-helexa-queue-ms`. "Alone" is the nine without the
greedy one: an account that is alone at a model waits for nobody but itself.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from benchmarks import fairness_report, machine
from benchmarks.processes import running
from helexa.neuron.models.store import DEMO_FOLDER
from helexa.util.upstream import Pool, Tcp

ROOT: Final = Path(__file__).parent.parent
DEMO: Final = DEMO_FOLDER / "helexa-demo.gguf"
OTHERS: Final = 9
GREED: Final = 20
SLOTS: Final = 4
LOAD: Final = 0.9
"""Of its fair share, what each of the nine asks for."""
MORE: Final = 2.5
"""The same where all ask for more than they can get, however the machine's pace changes."""
TOKENS: Final = (40, 120)
"""The least and the most of an answer."""
QUEUE_MAX: Final = 192
READY_WITHIN_S: Final = 60.0


@dataclass(frozen=True)
class Plan:
    pace_s: float
    phase_s: float
    tail_s: float
    """At the end of a phase; what is asked then would be answered too late, and is not counted."""
    rounds: int


FULL = Plan(pace_s=8, phase_s=18, tail_s=4, rounds=3)
QUICK = Plan(pace_s=3, phase_s=5, tail_s=1, rounds=1)


@dataclass
class Account:
    """What became of one account in one phase."""

    asked_tokens: int = 0
    asked: int = 0
    got_tokens: int = 0
    waits_ms: list[float] = field(default_factory=list)
    answers_ms: list[float] = field(default_factory=list)
    """From asked to answered, as the client saw it."""
    refused: int = 0

    def add(self, other: Account) -> None:
        """What became of it in one more phase."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)


@dataclass
class Node:
    host: str
    port: int
    keys: dict[str, str]


@contextlib.contextmanager
def deployed(folder: Path, accounts: Sequence[str], *settings: str) -> Iterator[Node]:
    """A cortex and a neuron that has the model loaded."""
    home = folder / "home"
    program = (sys.executable, "-m", "helexa")
    cortex = (
        *program,
        *("cortex", "--home", str(home), "--mesh-socket", "127.0.0.1:0"),
        *("--gateway-socket", "127.0.0.1:0", "--set", "mesh.lan=false"),
        *("--set", f"cortex.queue_max={QUEUE_MAX}"),
        *(word for one in settings for word in ("--set", one)),
    )
    with contextlib.ExitStack() as stack:
        stack.enter_context(running(cortex, folder / "cortex.log"))
        facts = _until(lambda: json.loads((home / "cortex" / "run.json").read_text()))
        keys = {}
        for name in accounts:
            made = subprocess.run(
                [*program, "keys", "create", name, "--account", name, "--home", str(home)],
                check=True,
                capture_output=True,
                text=True,
            )
            keys[name] = made.stdout.strip()
        models = folder / "models"
        models.mkdir()
        shutil.copy(DEMO, models / "helexa-demo.gguf")
        neuron = (
            *program,
            *("neuron", "--home", str(folder / "neuron"), "--cortex", facts["ticket"]),
            *("--control-socket", "127.0.0.1:0", "--models-dir", str(models)),
            *("--set", "neuron.demo_models=false", "--set", "neuron.lan=false"),
            *("--set", f"neuron.slots={SLOTS}", "--preload", "helexa-demo"),
        )
        stack.enter_context(running(neuron, folder / "neuron.log"))
        host, port = facts["gateway_url"].removeprefix("http://").rsplit(":", 1)
        node = Node(host, int(port), keys)
        _until(lambda: asyncio.run(_answers(node)))
        yield node


async def _answers(node: Node) -> bool:
    async with Pool(Tcp(node.host, node.port)).running() as pool:
        account = Account()
        await ask(pool, next(iter(node.keys.values())), 4, account)
        return account.got_tokens > 0


async def ask(pool: Pool, key: str, tokens: int, account: Account) -> None:
    body = {
        "model": "helexa-demo",
        "messages": [{"role": "user", "content": f"Tell me about number {random.random()}."}],
        "max_tokens": tokens,
        "ignore_eos": True,
    }
    headers = ((b"authorization", b"Bearer " + key.encode()),)
    account.asked += 1
    account.asked_tokens += tokens
    began_s = time.monotonic()
    with await pool.request(
        "POST", "/v1/chat/completions", headers, json.dumps(body).encode()
    ) as response:
        data = json.loads(await response.read(1 << 20))
        if response.status != 200:
            account.refused += 1
            return
        account.got_tokens += data["usage"]["completion_tokens"]
        account.waits_ms.append(float(response.header(b"x-helexa-queue-ms") or 0))
        account.answers_ms.append(round((time.monotonic() - began_s) * 1000))


async def pace(node: Node, plan: Plan) -> float:
    """Answered tokens a second beside a flood of requests, most of which are refused."""
    flood = GREED * LOAD * await _free_pace(node, plan) / (OTHERS + 1)
    flooded = replace(plan, phase_s=plan.pace_s, tail_s=0)
    found = await phase(node, flooded, {"greedy": flood}, seed=0)
    return found["greedy"].got_tokens / plan.pace_s


async def _free_pace(node: Node, plan: Plan) -> float:
    """The same without the flood."""
    account = Account()
    key = next(iter(node.keys.values()))
    chance = random.Random(1)
    ends_s = time.monotonic() + plan.pace_s

    async def one_after_the_other() -> None:
        while time.monotonic() < ends_s:
            await ask(pool, key, chance.randint(*TOKENS), account)

    began_s = time.monotonic()
    async with Pool(Tcp(node.host, node.port)).running() as pool:
        await asyncio.gather(*(one_after_the_other() for _ in range(2 * SLOTS)))
    return account.got_tokens / (time.monotonic() - began_s)


async def phase(node: Node, plan: Plan, rates: dict[str, float], seed: int) -> dict[str, Account]:
    """Each account asks for so many tokens a second, at moments of its own."""
    found = {name: Account() for name in rates}
    tasks: set[asyncio.Task[None]] = set()
    async with Pool(Tcp(node.host, node.port), connections_max=1_024).running() as pool:

        async def offer(name: str, tokens_per_s: float) -> None:
            chance = random.Random(f"{seed} {name}")
            mean = sum(TOKENS) / 2
            at_s = time.monotonic()
            ends_s = at_s + plan.phase_s
            while True:
                at_s += chance.expovariate(tokens_per_s / mean)
                tokens = chance.randint(*TOKENS)
                if at_s >= ends_s:
                    return
                await asyncio.sleep(max(at_s - time.monotonic(), 0))
                account = found[name] if at_s < ends_s - plan.tail_s else Account()
                task = asyncio.create_task(ask(pool, node.keys[name], tokens, account))
                tasks.add(task)
                task.add_done_callback(tasks.discard)

        await asyncio.gather(*(offer(name, rate) for name, rate in rates.items()))
        # What was got is what came in the time of the phase.
        at_end = {name: one.got_tokens for name, one in found.items()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for name, one in found.items():
        one.got_tokens = at_end[name]
    return found


def measure(plan: Plan, say: Any = print) -> dict[str, Any]:
    others = [f"account-{number}" for number in range(1, OTHERS + 1)]
    names = [*others, "greedy"]
    phases: dict[str, Any] = {}
    paces: dict[str, float] = {}
    for policy, settings in (("fair", ()), ("fifo", ("limits.fair=false",))):
        with (
            tempfile.TemporaryDirectory(prefix="helexa-fairness-") as folder,
            deployed(Path(folder), names, *settings) as node,
        ):
            rate = asyncio.run(pace(node, plan))
            paces[policy] = rate
            share = rate / len(names)
            say(f"{policy}: {rate:.0f} tokens/s")
            modest = dict.fromkeys(others, LOAD * share)
            crowd = {**modest, "greedy": GREED * LOAD * share}
            full = {**dict.fromkeys(others, MORE * share), "greedy": GREED * MORE * share}
            cases = {"alone": modest, "with greedy": crowd, "all ask for more": full}
            if policy == "fifo":
                del cases["alone"]
            # In turn, so that a machine that is slower for a while is so for all of them.
            for seed in range(plan.rounds):
                for name, rates in cases.items():
                    say(f"{policy}, round {seed + 1}: {name}")
                    found = asyncio.run(phase(node, plan, rates, seed))
                    accounts = phases.setdefault(f"{policy}, {name}", {"accounts": {}})["accounts"]
                    for key, one in found.items():
                        accounts.setdefault(key, Account()).add(one)
    for one in phases.values():
        one["accounts"] = {name: vars(account) for name, account in one["accounts"].items()}
    return {"tokens_per_s": paces, "slots": SLOTS, "phases": phases}


def _until(look: Any) -> Any:
    deadline_s = time.monotonic() + READY_WITHIN_S
    while True:
        try:
            if found := look():
                return found
        except (OSError, ValueError, KeyError):
            pass
        if time.monotonic() > deadline_s:
            raise RuntimeError("the nodes did not get ready in time")
        time.sleep(0.1)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fairness", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="short; for a look, not the record")
    parser.add_argument("--out", type=Path, help="folder; docs/benchmarks, or none with --quick")
    args = parser.parse_args()
    plan = QUICK if args.quick else FULL
    measured = measure(plan, say=lambda text: print(text, file=sys.stderr))
    page, met = fairness_report.markdown(measured, machine.describe())
    print(page)
    out = args.out or (None if args.quick else ROOT / "docs/benchmarks")
    if out is not None:
        (out / "fairness.md").write_text(page)
        (out / "fairness.svg").write_text(fairness_report.svg(measured))
        (out / "fairness.json").write_text(fairness_report.raw(measured))
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
