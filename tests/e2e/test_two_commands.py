"""The two command lines that an operator types first, exactly as the README has them."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.e2e.processes import started
from tests.e2e.raw import ask
from tests.e2e.test_failures import CHAT, QUESTION, new_key

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


def test_the_two_seed_commands_serve_a_request(tmp_path: Path) -> None:
    """On any ports, since a test machine's own may be taken; the flags are the README's."""
    home = ("--home", str(tmp_path / "home"))
    cortex_line = (
        "cortex",
        *("--orchestrator-socket", "0.0.0.0:0"),
        *("--gateway-socket", "0.0.0.0:0"),
        *("--portal-socket", "0.0.0.0:0"),
    )
    neuron_line = (
        "neuron",
        *("--control-socket", "0.0.0.0:0"),
        *("--api-socket", "127.0.0.1:0"),
        *("--models-dir", str(tmp_path / "models")),
    )
    with started(*cortex_line, *home, cwd=tmp_path) as cortex:
        ticket = cortex.ready["ticket"]
        with started(*neuron_line, *home, "--cortex", ticket, cwd=tmp_path) as neuron:
            cortex.wait_event("neuron_registered")
            key = new_key(tmp_path)
            status, body = ask(cortex.ready["gateway_url"], CHAT, QUESTION, key=key)
            assert (status, body["choices"][0]["finish_reason"]) == (200, "stop")
            # The neuron's own API answers the same without any key on loopback.
            status, alone = ask(neuron.ready["api_url"], CHAT, QUESTION)
            assert status == 200
            assert alone["choices"][0]["message"] == body["choices"][0]["message"]


def test_a_neuron_alone_serves_its_own_api(tmp_path: Path) -> None:
    line = ("neuron", "--control-socket", "127.0.0.1:0", "--api-socket", "127.0.0.1:0")
    with started(*line, "--home", str(tmp_path / "home"), cwd=tmp_path) as neuron:
        status, body = ask(neuron.ready["api_url"], "/v1/models")
        assert status == 200
        assert {"helexa-demo", "helexa-demo-vision"} <= {one["id"] for one in body["data"]}
        status, body = ask(neuron.ready["api_url"], CHAT, QUESTION)
        assert status == 200


def test_a_cortex_without_roles_is_a_mesh_member(tmp_path: Path) -> None:
    with started("cortex", "--home", str(tmp_path / "home"), cwd=tmp_path) as cortex:
        assert cortex.ready["gateway_url"] is None
        assert cortex.ready["ticket"].startswith("helexa")
        assert cortex.stop() == 0
