"""What a client sees when a process dies with -9, and that everything returns by itself."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.processes import Node, runtime_children, started, wait_gone
from tests.e2e.raw import ask, asked, events

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

CHAT = "/v1/chat/completions"
QUESTION = {
    "model": "helexa-demo",
    "messages": [{"role": "user", "content": "What is helexa?"}],
    "temperature": 0,
}
# The demo model ends its answers; a test of a long stream must not let it.
ENDLESS = {**QUESTION, "stream": True, "ignore_eos": True, "max_tokens": 1800}


class Pair:
    """A cortex and a neuron as an operator starts them, each restartable on its own home."""

    def __init__(self, folder: Path, cortex: Node, key: str) -> None:
        self.folder = folder
        self.cortex = cortex
        self.key = key
        self.url: str = cortex.ready["gateway_url"]

    def chat(self) -> tuple[int, dict[str, object]]:
        return ask(self.url, CHAT, QUESTION, key=self.key)

    def neuron_arguments(self) -> tuple[str, ...]:
        return (
            "neuron",
            *("--home", str(self.folder / "home")),
            *("--control-socket", "127.0.0.1:0"),
            *("--api-socket", "127.0.0.1:0"),
            *("--models-dir", str(self.folder / "models")),
            *("--cortex", self.cortex.ready["ticket"]),
            *("--preload", "helexa-demo"),
        )


def cortex_arguments(folder: Path, *more: str) -> tuple[str, ...]:
    return (
        "cortex",
        *more,
        *("--home", str(folder / "home")),
        *("--mesh-socket", "127.0.0.1:0"),
        *("--gateway-socket", "127.0.0.1:0"),
        *("--orchestrator-socket", "127.0.0.1:0"),
    )


def new_key(folder: Path) -> str:
    home = str(folder / "home")
    done = subprocess.run(
        [sys.executable, "-m", "helexa", "keys", "create", "test", "--json", "--home", home],
        capture_output=True,
        check=True,
    )
    return str(json.loads(done.stdout)["secret"])


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with started(*cortex_arguments(tmp_path), cwd=tmp_path) as cortex:
        assert cortex.ready
        yield Pair(tmp_path, cortex, new_key(tmp_path))


def wait_answer(pair: Pair, status: int, within_s: float) -> dict[str, object]:
    """Ask until the gateway answers `status`; the last answer is the failure's message."""
    deadline = time.monotonic() + within_s
    while True:
        found, body = pair.chat()
        if found == status:
            return body
        assert time.monotonic() < deadline, (found, body)


def test_a_runtime_killed_in_a_stream_is_started_anew_and_goes_on_with_it(pair: Pair) -> None:
    with started(*pair.neuron_arguments(), cwd=pair.folder) as neuron:
        pair.cortex.wait_event("neuron_registered")
        wait_answer(pair, 200, 20)
        (child,) = runtime_children(neuron)
        payloads: list[str] = []
        with asked(pair.url, CHAT, ENDLESS, key=pair.key) as response:
            assert response.status == 200
            for payload in events(response):
                payloads.append(payload)
                if len(payloads) == 3:
                    child.kill()
        assert payloads[-1] == "[DONE]", payloads[-1]
        chunks = [json.loads(one) for one in payloads[:-1]]
        assert len({one["id"] for one in chunks}) == 1
        wait_answer(pair, 200, 20)
        (again,) = runtime_children(neuron)
        assert again.pid != child.pid


def test_who_wants_no_continuation_hears_that_the_runtime_exited(pair: Pair) -> None:
    with started(*pair.neuron_arguments(), cwd=pair.folder) as neuron:
        pair.cortex.wait_event("neuron_registered")
        wait_answer(pair, 200, 20)
        (child,) = runtime_children(neuron)
        payloads: list[str] = []
        off = {"x-helexa-resume": "off"}
        with asked(pair.url, CHAT, ENDLESS, key=pair.key, headers=off) as response:
            for payload in events(response):
                payloads.append(payload)
                if len(payloads) == 3:
                    child.kill()
        assert json.loads(payloads[-1])["error"]["code"] == "runtime_exited"
        assert "[DONE]" not in payloads


def test_a_killed_neuron_is_a_503_with_a_reason_until_it_returns(pair: Pair) -> None:
    with started(*pair.neuron_arguments(), cwd=pair.folder) as neuron:
        pair.cortex.wait_event("neuron_registered")
        wait_answer(pair, 200, 20)
        family = neuron.family()
        neuron.stop(9)
        wait_gone(family)
    body = wait_answer(pair, 503, 10)
    error = body["error"]
    assert isinstance(error, dict)
    assert error["code"] in ("no_capacity", "peer_lost")
    pair.cortex.wait_event("neuron_left", 15)
    error = wait_answer(pair, 503, 1)["error"]
    assert isinstance(error, dict)
    assert "gone" in error["message"]
    with started(*pair.neuron_arguments(), cwd=pair.folder):
        wait_answer(pair, 200, 30)


def test_a_neuron_finds_a_killed_cortex_again_by_itself(pair: Pair) -> None:
    with started(*pair.neuron_arguments(), cwd=pair.folder):
        pair.cortex.wait_event("neuron_registered")
        wait_answer(pair, 200, 20)
        node_id = pair.cortex.ready["node_id"]
        pair.cortex.stop(9)
        with started(*cortex_arguments(pair.folder), cwd=pair.folder) as cortex:
            assert cortex.ready["node_id"] == node_id
            cortex.wait_event("neuron_registered", 40)
            status, _ = ask(cortex.ready["gateway_url"], CHAT, QUESTION, key=pair.key)
            assert status == 200


def test_a_stream_under_way_outlives_a_sigterm_and_new_work_does_not_begin(pair: Pair) -> None:
    with started(*pair.neuron_arguments(), cwd=pair.folder):
        pair.cortex.wait_event("neuron_registered")
        wait_answer(pair, 200, 20)
        # Long enough to be under way, short enough for the grace on a busy machine.
        body = {**ENDLESS, "max_tokens": 400}
        with asked(pair.url, CHAT, body, key=pair.key) as response:
            stream = events(response)
            next(stream)
            pair.cortex.send(15)
            payloads = list(stream)
        assert payloads[-1] == "[DONE]"
        assert pair.cortex.stop(0) == 0
        with pytest.raises(ConnectionRefusedError):
            pair.chat()


def test_a_stream_that_outlasts_the_grace_ends_with_the_reason(tmp_path: Path) -> None:
    impatient = ("--set", "cortex.shutdown_grace_s=0.1")
    with started(*cortex_arguments(tmp_path, *impatient), cwd=tmp_path) as cortex:
        pair = Pair(tmp_path, cortex, new_key(tmp_path))
        with started(*pair.neuron_arguments(), cwd=tmp_path):
            cortex.wait_event("neuron_registered")
            wait_answer(pair, 200, 20)
            with asked(pair.url, CHAT, ENDLESS, key=pair.key) as response:
                stream = events(response)
                next(stream)
                cortex.send(15)
                payloads = list(stream)
            assert json.loads(payloads[-1])["error"]["code"] == "draining"
            assert cortex.stop(0) == 0
