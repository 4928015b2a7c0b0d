"""A while of every trouble at once, and then nothing of it may be left.

    ann: cortex, two neurons, all clients  --- cable ---  ben: cortex, one neuron

Neurons and runtimes are killed and started again, a neuron stands still, the cable between the
two operators is pulled, clients hang up and read slowly. `HELEXA_TEST_CHAOS_S` says for how long
(`make chaos`: a minute), `HELEXA_TEST_CHAOS_SEED` repeats a run's draws.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.e2e.chaos import Clients
from tests.e2e.processes import Node, runtime_children, started, until, with_suppress_kill
from tests.e2e.raw import asked
from tests.e2e.test_namespaces import ROLES, SOCKETS, Site
from tests.namespaces import network

from helexa.neuron.models.store import DEMO_FOLDER

CHAOS_S = float(os.environ.get("HELEXA_TEST_CHAOS_S", "12"))
SEED = int(os.environ.get("HELEXA_TEST_CHAOS_SEED") or random.randrange(1 << 16))
CLIENTS = 10
BETWEEN_S = (0.5, 1.5)
"""Quiet between two troubles."""
SETTLES_S = 60.0
RSS_GROWTH_BYTES = 24 << 20
"""Of allocators and caches that are bounded; a leak of streams at this rate is far more."""
TASKS_OF_A_LINK = {"tls": 12, "iroh": 15}
"""At most. Two cortexes that were parted may come back by another way, or by two."""
SHARED, BORROWED = "chaos-shared", "chaos-borrowed"
ADDRESSES = ("44.9.0.1", "44.9.0.2")

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(int(CHAOS_S) + 400)]


class Place:
    """Two operators, and what can be done to them."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        net = stack.enter_context(network())
        hosts = net.host("ann"), net.host("ben")
        self.ends = net.cable(*zip(hosts, (f"{one}/24" for one in ADDRESSES), strict=True))
        self.ann, self.ben = (Site(host, folder, stack) for host in hosts)
        self.neurons: dict[str, Node] = {}
        self.folder = folder
        self._stack = stack
        for site in (self.ann, self.ben):
            site.cortex = site.start("cortex", *ROLES, "--name", site.host.name)
        for name, site in (("one", self.ann), ("two", self.ann), ("far", self.ben)):
            models = folder / f"models-{name}"
            models.mkdir()
            for model in (SHARED,) if site is self.ann else (SHARED, BORROWED):
                shutil.copy(DEMO_FOLDER / "helexa-demo.gguf", models / f"{model}.gguf")
            self.start(name)
        ticket = self.ann.helexa("mesh", "ticket")["ticket"]
        assert self.ben.helexa("mesh", "join", ticket)["joined"]
        self.ann.peers("--wait", "1")
        self.ann.helexa("mesh", "trust", "ben")
        self.ben.helexa("mesh", "trust", "ann")
        self.ann.peers("--wait-offers", BORROWED)
        self.ann.key = self.ann.helexa("keys", "create", "test")["secret"]

    def site_of(self, name: str) -> Site:
        return self.ben if name == "far" else self.ann

    def start(self, name: str) -> None:
        site = self.site_of(name)
        node = self._stack.enter_context(
            started(
                *("neuron", *SOCKETS, "--no-demo-models", "--name", name),
                # A home belongs to one neuron, and ann has two.
                *("--home", str(self.folder / f"home-{name}")),
                *("--models-dir", str(self.folder / f"models-{name}")),
                *("--cortex", str(site.cortex.ready["ticket"])),
                cwd=self.folder,
                within=site.host.within(()),
            )
        )
        assert node.ready
        self.neurons[name] = node

    def kill_neuron(self, name: str) -> None:
        node = self.neurons[name]
        for process in reversed(node.family()):
            with_suppress_kill(process)
        node.process.wait(10)
        self.start(name)

    def kill_runtime(self, name: str) -> None:
        for child in runtime_children(self.neurons[name]):
            with_suppress_kill(child)

    def stand_still(self, name: str, for_s: float) -> None:
        """A neuron that is there and says nothing, longer than a report may be missing."""
        self.neurons[name].send(signal.SIGSTOP)
        time.sleep(for_s)
        self.neurons[name].send(signal.SIGCONT)

    def partition(self, for_s: float) -> None:
        self.ann.host.run("ip", "link", "set", self.ends[0], "down")
        time.sleep(for_s)
        self.ann.host.run("ip", "link", "set", self.ends[0], "up")

    # --- what it holds

    def counts(self) -> dict[str, float]:
        """What could leak, by whose and what."""
        found = {}
        for site in (self.ann, self.ben):
            numbers = self._numbers(site, str(site.cortex.ready["gateway_url"]))
            name = f"cortex {site.host.name}"
            found[f"{name} requests"] = numbers["helexa_gateway_in_flight"]
            of_links = sum(
                tasks * numbers[f'helexa_mesh_links{{transport="{transport}"}}']
                for transport, tasks in TASKS_OF_A_LINK.items()
            )
            found[f"{name} tasks"] = numbers["helexa_tasks"] - of_links
            found[f"{name} files"] = numbers["process_open_fds"]
            found[f"{name} rss"] = numbers["process_resident_memory_bytes"]
            connections = psutil.Process(site.cortex.process.pid).net_connections()
            clients = [one for one in connections if _is_clients(one, site)]
            found[f"{name} clients"] = float(len(clients))
        for name, node in self.neurons.items():
            numbers = self._numbers(self.site_of(name), str(node.ready["api_url"]))
            running = {key: value for key, value in numbers.items() if "neuron_running" in key}
            found[f"neuron {name} requests"] = sum(running.values())
            # One of each model is all that there may be, beside what watches over them.
            models = len(list((self.folder / f"models-{name}").iterdir()))
            found[f"neuron {name} superfluous children"] = max(
                len(runtime_children(node)) - models, 0.0
            )
        return found

    def _numbers(self, site: Site, url: str) -> Mapping[str, float]:
        with site.host.entered(), asked(url, "/metrics") as response:
            text = response.read().decode()
        return {
            match[1]: float(match[2])
            for match in re.finditer(r"^([a-z_]+(?:\{[^}]*\})?) (\S+)$", text, re.MULTILINE)
        }


def _is_clients(connection: Any, site: Site) -> bool:
    port = int(str(site.cortex.ready["gateway_url"]).rpartition(":")[2])
    return bool(connection.raddr) and connection.laddr.port == port


@contextmanager
def place(folder: Path) -> Iterator[Place]:
    with ExitStack() as stack:
        yield Place(folder, stack)


def troubles(here: Place, chance: random.Random) -> Callable[[], None]:
    """The next one, drawn."""
    own = chance.choice(("one", "two"))
    anyone = chance.choice(("one", "two", "far"))
    return chance.choice(
        (
            lambda: here.kill_neuron(own),
            lambda: here.kill_neuron("far"),
            lambda: here.kill_runtime(anyone),
            lambda: here.stand_still(own, 5.0),
            lambda: here.partition(chance.uniform(1, 6)),
        )
    )


def settled(here: Place, like: Mapping[str, float] | None = None) -> dict[str, float]:
    """The counts once nothing is under way; `like` those of before, where they are given."""

    found: dict[str, float] = {}

    def left() -> dict[str, float]:
        nonlocal found
        found = here.counts()
        return excess(found, like)

    until(left, lambda over: not over, within_s=SETTLES_S, missing=lambda: f"{found}")
    return found


def excess(found: Mapping[str, float], like: Mapping[str, float] | None) -> dict[str, float]:
    """What is there that should be gone."""
    over = {}
    for name, value in found.items():
        if name.endswith(("requests", "clients", "superfluous children")):
            allowed = 0.0
        elif like is None:
            continue
        elif name.endswith("rss"):
            allowed = like[name] + RSS_GROWTH_BYTES
        else:
            allowed = like[name]
        if value > allowed:
            over[name] = value - allowed
    return over


def served_again(here: Place) -> None:
    """Everything is back, and asked once more so that it is warm."""
    for model in (SHARED, BORROWED):
        until(lambda model=model: here.ann.ask(model)[0], lambda status: status == 200)
    until(lambda: here.ann.helexa("nodes", "ls"), _both_present, within_s=SETTLES_S)


def _both_present(listed: Any) -> bool:
    return [row["presence"] for row in listed["nodes"]] == ["present", "present"]


def test_nothing_is_left_after_a_while_of_every_trouble(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    with place(tmp_path) as here, ThreadPoolExecutor(1) as pool:
        clients = Clients(
            host=here.ann.host,
            url=str(here.ann.cortex.ready["gateway_url"]),
            key=here.ann.key,
            models=(SHARED, SHARED, BORROWED),
            seed=SEED,
            concurrency=CLIENTS,
        )
        # What is made once, at the first request of its kind, is no leak.
        served_again(here)
        stop = threading.Event()
        warming = pool.submit(clients.run, stop)
        time.sleep(2)
        stop.set()
        assert not warming.result(120).faults
        before = settled(here)

        stop = threading.Event()
        asking = pool.submit(clients.run, stop)
        end_s = time.monotonic() + CHAOS_S
        had = 0
        while time.monotonic() < end_s:
            time.sleep(chance.uniform(*BETWEEN_S))
            troubles(here, chance)()
            had += 1
        stop.set()
        seen = asking.result(180)
        print(f"seed {SEED}: {seen.asked} requests, {had} troubles: {dict(seen.outcomes)}")
        assert not seen.faults, (SEED, seen.faults[:10], dict(seen.outcomes))
        assert seen.outcomes["stream done"], dict(seen.outcomes)

        served_again(here)
        after = settled(here, before)
        for name in before:
            print(f"{name:30} {before[name]:14,.0f} {after[name]:14,.0f}")
