"""Nodes on hosts of their own: real addresses, a LAN, a NAT, and networks that break.

Each host is a network namespace with nothing but its own cables (`tests/namespaces.py`);
the nodes on it are real processes, and what a test asks is asked from that host.

    ann: cortex and neuron --+
    ben: cortex -------------+-- the public segment --- router (masquerades) --- ben's neuron

The public addresses are such that Python counts them as public, so nobody is near by.
"""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.processes import UNSEEN, Node, helexa, started, until
from tests.e2e.raw import ask, asked, events
from tests.e2e.test_failures import CHAT
from tests.namespaces import Host, network

from helexa.neuron.models.store import DEMO_FOLDER

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

ROLES = (
    *("--mesh-socket", "0.0.0.0:0"),
    *("--orchestrator-socket", "127.0.0.1:0"),
    *("--gateway-socket", "127.0.0.1:0"),
)
SOCKETS = ("--control-socket", "0.0.0.0:0", "--api-socket", "127.0.0.1:0")
ANN, BEN, ROUTER = "44.7.0.1", "44.7.0.2", "44.7.0.3"
HOME, HOME_GATE = "192.168.7.2", "192.168.7.1"


class Site:
    """One operator's folder, and the host that its cortex runs on."""

    def __init__(self, host: Host, folder: Path, stack: ExitStack) -> None:
        self.host = host
        self.home = folder / host.name
        self._stack = stack
        self.cortex: Node
        self.key = ""

    def start(self, *line: str, environment: dict[str, str] = UNSEEN) -> Node:
        """A node of this operator's, on the cortex' host."""
        return self._start(line, self.host.within(()), environment)

    def start_away(self, host: Host, *line: str, environment: dict[str, str] = UNSEEN) -> Node:
        """A neuron of this operator's on another host.

        Its own folder is a disk of that host's. On one disk the two nodes, which have one
        kernel, would meet at a Unix socket.
        """
        disk = self.home / "neuron"
        disk.mkdir(parents=True, exist_ok=True)
        mounted = ("sh", "-c", 'mount -t tmpfs none "$0" && exec "$@"', str(disk))
        return self._start(line, host.within(mounted), environment)

    def _start(self, line: Sequence[str], within: list[str], environment: dict[str, str]) -> Node:
        self.home.mkdir(exist_ok=True)
        line = (*line, "--home", str(self.home))
        node = self._stack.enter_context(
            started(*line, cwd=self.home, environment=environment, within=within)
        )
        assert node.ready
        return node

    def helexa(self, *words: str) -> Any:
        with self.host.entered():
            return helexa(*words, home=self.home)

    def states(self) -> list[str]:
        """What the cortex was told of the other one, from the first event on."""
        return [event["state"] for event in self.cortex.told("member")]

    def peers(self, *wait: str) -> list[dict[str, Any]]:
        return list(self.helexa("mesh", "peers", *wait)["peers"])

    def ask(self, model: str) -> tuple[int, Any]:
        """One request of a client beside the cortex: the answer's text, or why there is none."""
        with self.host.entered():
            url = self.cortex.ready["gateway_url"]
            status, body = ask(url, CHAT, question(model), key=self.key, timeout_s=30)
        if status == 200:
            return status, body["choices"][0]["message"]["content"]
        return status, body["error"]["message"]

    @contextmanager
    def streaming(self, model: str, **more: Any) -> Iterator[tuple[str | None, Iterator[str]]]:
        """Who serves it, and the payloads of a streamed answer."""
        body = {**question(model), "stream": True, **more}
        url = self.cortex.ready["gateway_url"]
        with self.host.entered(), asked(url, CHAT, body, key=self.key, timeout_s=30) as response:
            assert response.status == 200
            by = response.headers["x-helexa-served-by"] or ""
            yield by.partition("; via=")[2], events(response)


def question(model: str) -> dict[str, Any]:
    content = "What is helexa?"
    return {"model": model, "messages": [{"role": "user", "content": content}], "temperature": 0}


def test_the_seed_commands_on_two_hosts_of_one_lan_find_one_another(tmp_path: Path) -> None:
    with ExitStack() as stack:
        net = stack.enter_context(network())
        one, other = net.host("one"), net.host("other")
        net.switch("lan", (one, "192.168.9.1/24"), (other, "192.168.9.2/24"))
        site = Site(one, tmp_path, stack)
        neuron = site.start_away(other, "neuron", *SOCKETS, environment={})
        site.cortex = site.start("cortex", *ROLES, environment={})
        registered = site.cortex.wait_event("neuron_registered")
        assert registered["node_id"] == neuron.ready["node_id"]
        until(site.cortex.log, lambda log: "path=mesh" in log)
        site.key = site.helexa("keys", "create", "test")["secret"]
        status, text = site.ask("helexa-demo")
        assert status == 200
        assert "helexa" in text


class Federation:
    """Ann's cortex and neuron, Ben's cortex, and Ben's neuron at home behind a NAT.

    One for all tests of this file, each of which leaves it whole.
    """

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        net = stack.enter_context(network("nft"))
        hosts = net.host("ann"), net.host("ben"), net.router("router"), net.host("home")
        self.hosts = hosts
        ann, ben, router, home = hosts
        net.switch("segment", (ann, f"{ANN}/24"), (ben, f"{BEN}/24"), (router, f"{ROUTER}/24"))
        _, inner = net.cable((home, f"{HOME}/24"), (router, f"{HOME_GATE}/24"))
        home.run("ip", "route", "add", "default", "via", HOME_GATE)
        # Nothing that was not asked for comes in, and nobody outside has a route there either.
        router.run(
            "nft",
            f"""table ip nat {{
                chain leaving {{
                    type nat hook postrouting priority 100
                    oifname != {inner} masquerade
                }}
                chain passing {{
                    type filter hook forward priority 0; policy drop
                    iifname {inner} accept
                    ct state established,related accept
                }}
            }}""",
        )
        self.ann, self.ben = Site(ann, folder, stack), Site(ben, folder, stack)
        for site in (self.ann, self.ben):
            models = folder / site.host.name / "models"
            models.mkdir(parents=True)
            shutil.copy(DEMO_FOLDER / "helexa-demo.gguf", models / f"{site.host.name}-chat.gguf")
            site.cortex = site.start("cortex", *ROLES, "--name", site.host.name)
            site.key = site.helexa("keys", "create", "test")["secret"]
        neuron = ("neuron", *SOCKETS, "--no-demo-models", "--cortex")
        ticket = self.ann.helexa("mesh", "ticket")["ticket"]
        self.ann.start(*neuron, ticket)
        # Ben's cortex stands on the public segment, where neurons are not let in unasked.
        invite = self.ben.helexa("mesh", "ticket", "--invite", "--role", "neuron")["ticket"]
        self.ben.start_away(home, *neuron, invite)
        for site, path in ((self.ann, "path=unix"), (self.ben, "path=mesh")):
            site.cortex.wait_event("neuron_registered")
            until(site.cortex.log, lambda log, path=path: path in log)
        assert self.ben.helexa("mesh", "join", ticket)["joined"]
        self.ann.peers("--wait", "1")
        self.ann.helexa("mesh", "trust", "ben")
        self.ben.helexa("mesh", "trust", "ann")
        self.settle()

    def settle(self) -> None:
        """Both see the other, and what it lends; as they were before a test."""
        for site, other in ((self.ann, self.ben), (self.ben, self.ann)):
            (row,) = site.peers("--wait-offers", f"{other.host.name}-chat")
            assert (row["name"], row["state"]) == (other.host.name, "alive")

    @contextmanager
    def home_offline(self) -> Iterator[None]:
        """The router at home passes nothing on."""
        router = self.hosts[2]
        chain = "{ type filter hook forward priority -1 ; policy drop ; }"
        router.run("nft", "add", "table", "ip", "offline")
        router.run("nft", "add", "chain", "ip", "offline", "passing", chain)
        try:
            yield
        finally:
            router.run("nft", "delete", "table", "ip", "offline")

    @contextmanager
    def cut(self, *what: str) -> Iterator[None]:
        """Packets between the two cortexes vanish without a word, those that match `what`."""
        ann, ben, _, _ = self.hosts
        for host, other in ((ann, BEN), (ben, ANN)):
            host.run("nft", "add", "table", "ip", "cut")
            chain = "{ type filter hook input priority 0 ; }"
            host.run("nft", "add", "chain", "ip", "cut", "arriving", chain)
            rule = ("ip", "saddr", other, *what, "drop")
            host.run("nft", "add", "rule", "ip", "cut", "arriving", *rule)
        try:
            yield
        finally:
            for host in (ann, ben):
                host.run("nft", "delete", "table", "ip", "cut")


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    with ExitStack() as stack:
        yield Federation(stack, tmp_path_factory.mktemp("federation"))


def test_a_neuron_behind_a_nat_serves_the_client_of_another_cortex(federation: Federation) -> None:
    ann, ben = federation.ann, federation.ben
    with ben.host.entered(), pytest.raises(OSError, match="unreachable"):
        socket.create_connection((HOME, 1), timeout=5)
    status, text = ann.ask("ben-chat")
    assert status == 200, text
    assert "helexa" in text
    with ann.streaming("ben-chat") as (served_by, payloads):
        assert served_by == "ben"
        pieces = list(payloads)
    assert pieces[-1] == "[DONE]"
    assert len(pieces) > 3
    # The same model served at the cortex that its neuron dialled, and nothing in between.
    assert ben.ask("ben-chat") == (200, text)


def test_a_home_that_loses_its_line_is_told_of_and_served_again_when_it_is_back(
    federation: Federation,
) -> None:
    ann, ben = federation.ann, federation.ben
    with federation.home_offline():
        status, reason = until(
            lambda: ann.ask("ben-chat"), lambda answer: "has no neuron" in answer[1]
        )
        assert (status, ann.peers()[0]["withheld"]) == (503, ["ben-chat"])
        assert "cortex ben" in reason
        assert ben.ask("ben-chat")[0] == 503
    until(lambda: ann.ask("ben-chat"), lambda answer: answer[0] == 200)


def test_a_partition_leaves_each_side_its_own_and_heals_by_itself(federation: Federation) -> None:
    ann, ben = federation.ann, federation.ben
    before = [(site.states(), len(site.cortex.told("neuron_left"))) for site in (ann, ben)]
    with federation.cut():
        # The link still stands when this is asked, and nothing comes back over it.
        status, reason = ann.ask("ben-chat")
        assert status == 503
        assert "cortex ben" in reason
        for site in (ann, ben):
            assert site.ask(f"{site.host.name}-chat")[0] == 200
            until(lambda site=site: site.peers()[0]["state"], lambda state: state == "dead")
        status, reason = ann.ask("ben-chat")
        assert status == 503
        assert "cortex ben is gone for" in reason
        assert ben.ask("ben-chat")[0] == 200
    federation.settle()
    assert ann.ask("ben-chat")[0] == 200
    assert ben.ask("ann-chat")[0] == 200
    for site, (seen, lost) in zip((ann, ben), before, strict=True):
        assert len(site.peers()) == 1
        assert site.states()[len(seen) :] == ["suspect", "dead", "alive"]
        assert len(site.cortex.told("neuron_left")) == lost


def test_where_tcp_is_cut_the_link_falls_back_and_requests_go_on(federation: Federation) -> None:
    ann = federation.ann

    def over(transport: str) -> None:
        until(lambda: ann.peers()[0]["link"], lambda link: link == transport)

    if ann.peers()[0]["link"] == "iroh":
        # After trouble, or on a slow machine, the second choice may have been faster.
        with federation.cut("meta", "l4proto", "udp"):
            over("tls")
    with federation.cut("meta", "l4proto", "tcp"):
        over("iroh")
        until(lambda: ann.ask("ben-chat"), lambda answer: answer[0] == 200)
        until(lambda: ann.peers()[0]["state"], lambda state: state == "alive")
    federation.settle()
