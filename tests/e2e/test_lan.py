"""Nodes that nobody introduced: the seed commands without a ticket, by real multicast DNS.

Tests that run beside one another share the network, so each has a realm of its own.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.processes import Node, helexa, started, until
from tests.e2e.raw import ask
from tests.e2e.test_failures import CHAT, QUESTION

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

NOT_LET_IN = "this cortex does not let you in"
NOT_YET = "this cortex's operator has to approve you first"


class Lan:
    """One machine's network, as far as nodes of one realm see it."""

    def __init__(self, folder: Path) -> None:
        realm = f"t{secrets.token_hex(6)}"
        self.folder = folder
        self.environment = {"HELEXA_MESH_REALM": realm, "HELEXA_NEURON_REALM": realm}

    def home(self, name: str) -> Path:
        return self.folder / name

    def cortex(self, *more: str, home: str = "home") -> Any:
        roles = (
            *("--orchestrator-socket", "127.0.0.1:0"),
            *("--gateway-socket", "127.0.0.1:0"),
            *("--mesh-socket", "0.0.0.0:0"),
        )
        return self._started("cortex", *roles, *more, "--home", str(self.home(home)))

    def neuron(self, home: str = "home") -> Any:
        sockets = ("--control-socket", "0.0.0.0:0", "--api-socket", "127.0.0.1:0")
        return self._started("neuron", *sockets, "--home", str(self.home(home)))

    def _started(self, *line: str) -> Any:
        return started(*line, cwd=self.folder, environment=self.environment)

    def mesh(self, *words: str, home: str = "home") -> Any:
        return helexa("mesh", *words, home=self.home(home))

    def key(self) -> str:
        return str(helexa("keys", "create", "test", home=self.home("home"))["secret"])


@pytest.fixture
def lan(tmp_path: Path) -> Lan:
    return Lan(tmp_path)


def answer_of(cortex: Node, key: str) -> tuple[int, Any]:
    return ask(cortex.ready["gateway_url"], CHAT, QUESTION, key=key)


def test_the_seed_commands_find_one_another_and_serve_a_request(lan: Lan) -> None:
    with lan.cortex() as cortex, lan.neuron() as neuron:
        registered = cortex.wait_event("neuron_registered")
        assert registered["node_id"] == neuron.ready["node_id"]
        status, body = answer_of(cortex, lan.key())
        assert (status, body["choices"][0]["finish_reason"]) == (200, "stop")


def test_a_neuron_that_was_there_first_finds_the_cortex_that_comes_and_the_one_that_returns(
    lan: Lan,
) -> None:
    with lan.neuron() as neuron:
        assert neuron.ready
        for _ in range(2):
            with lan.cortex() as cortex:
                cortex.wait_event("neuron_registered")
                assert cortex.stop() == 0


@pytest.mark.parametrize("mode", ["closed", "invite"])
def test_a_neuron_that_is_not_let_in_is_told_so_and_serves_nobody(lan: Lan, mode: str) -> None:
    with lan.cortex("--set", f"mesh.neurons={mode}") as cortex, lan.neuron() as neuron:
        assert cortex.ready
        assert neuron.ready
        until(neuron.log, lambda log: NOT_LET_IN in log)
        status, body = answer_of(cortex, lan.key())
        assert (status, body["error"]["code"]) == (503, "no_capacity")
        assert lan.mesh("pending")["pending"] == []


def test_a_neuron_waits_for_its_approval_and_can_be_shown_out_again(lan: Lan) -> None:
    with lan.cortex("--set", "mesh.neurons=approve") as cortex, lan.neuron() as neuron:
        assert cortex.ready
        key, node = lan.key(), neuron.ready["node_id"]
        (row,) = until(lambda: lan.mesh("pending")["pending"], missing=neuron.log)
        assert (row["node"], row["role"]) == (node, "neuron")
        until(neuron.log, lambda log: NOT_YET in log)
        assert answer_of(cortex, key)[0] == 503

        assert lan.mesh("approve", node[:12])["who"] == node
        assert cortex.wait_event("neuron_registered")["node_id"] == node
        assert lan.mesh("pending")["pending"] == []
        assert answer_of(cortex, key)[0] == 200

        assert lan.mesh("deny", node[:12])["trust"] == "denied"
        assert cortex.wait_event("neuron_left")["node_id"] == node
        until(neuron.log, lambda log: NOT_LET_IN in log)
        assert answer_of(cortex, key)[0] == 503


def test_a_neuron_that_nobody_was_asked_about_can_be_shown_out_too(lan: Lan) -> None:
    with lan.cortex() as cortex, lan.neuron() as neuron:
        assert cortex.ready
        node = cortex.wait_event("neuron_registered")["node_id"]
        assert lan.mesh("deny", node[:12]) == {"who": node, "trust": "denied", "closed": 1}
        cortex.wait_event("neuron_left")
        until(neuron.log, lambda log: NOT_LET_IN in log)


def test_two_cortexes_of_one_network_become_one_mesh(lan: Lan) -> None:
    with (
        lan.cortex("--name", "ann", home="ann") as ann,
        lan.cortex("--name", "ben", home="ben") as ben,
    ):
        for home, other in (("ann", ben), ("ben", ann)):
            (row,) = lan.mesh("peers", "--wait", "1", home=home)["peers"]
            assert (row["node"], row["state"]) == (other.ready["node_id"], "alive")
            assert row["trust"] == "stranger"


def test_a_node_of_another_realm_stays_unseen(lan: Lan) -> None:
    elsewhere = Lan(lan.folder)
    with lan.cortex() as cortex, elsewhere.neuron("other") as stranger, lan.neuron() as neuron:
        assert stranger.ready
        # Ours came last and was found: the other would have been by now.
        assert cortex.wait_event("neuron_registered")["node_id"] == neuron.ready["node_id"]
        assert "connected" not in stranger.log()
