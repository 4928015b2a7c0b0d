"""The right model on the right neuron, with real processes and the real runtime.

Two neurons that have room for one model each, and three models: nobody loads by hand.
"""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.e2e.fleet import CHAT, Fleet, fleet, question_to, said
from tests.e2e.processes import runtime_children, until, wait_gone
from tests.e2e.raw import asked, events

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

MODELS = ("a", "b", "c")
QUICK = (
    "orchestrator.idle_timeout_s=2",
    "orchestrator.swap_after_s=0.5",
    "orchestrator.stay_s=0.2",
    "orchestrator.settle_s=1",
)
WORDS = "helexa is a federated AI fabric"


def test_three_models_are_served_by_two_neurons_that_fit_one_and_leave_when_idle(
    tmp_path: Path,
) -> None:
    with fleet(tmp_path, QUICK) as made:
        for name in ("left", "right"):
            made.start_neuron(name, MODELS)
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(made.chat, "abacbbcaabccab"))
        assert [status for status, _ in answers] == [200] * len(answers), answers
        assert all(said(body).startswith(WORDS) for _, body in answers)
        held = made.loaded()
        assert sum(map(len, held.values())) <= 2, "a neuron has room for one"
        until(made.loaded, lambda found: not found, missing=made.story)


def test_a_neuron_killed_under_load_is_replaced(tmp_path: Path) -> None:
    settings = (*QUICK, "orchestrator.idle_timeout_s=60")
    with fleet(tmp_path, settings) as made:
        for name in ("left", "right"):
            made.start_neuron(name, ("a",))
        assert made.chat("a")[0] == 200
        ((holder,),) = made.loaded().values()
        answers: list[int] = []

        def keep_asking() -> None:
            answers.extend(made.chat("a", max_tokens=200)[0] for _ in range(12))

        threads = [threading.Thread(target=keep_asking) for _ in range(3)]
        for thread in threads:
            thread.start()
        until(lambda: len(answers), lambda count: count >= 3)
        family = made.neurons[holder].family()
        made.neurons[holder].stop(9)
        wait_gone(family)
        for thread in threads:
            thread.join(60)
        # Plain requests had no byte of an answer yet, so they went on elsewhere.
        assert answers == [200] * 36
        ((other,),) = made.loaded().values()
        assert other != holder


def test_a_drained_neuron_finishes_its_streams_and_its_model_moves(tmp_path: Path) -> None:
    with fleet(tmp_path, (*QUICK, "orchestrator.idle_timeout_s=60")) as made:
        for name in ("left", "right"):
            made.start_neuron(name, ("a",))
        assert made.chat("a")[0] == 200
        ((holder,),) = made.loaded().values()
        endless = question_to("a", stream=True, ignore_eos=True, max_tokens=1500)
        with asked(made.url, CHAT, endless, key=made.key) as response:
            stream = events(response)
            next(stream)
            made.mark(holder, "drain")
            status, body = made.chat("a")
            assert status == 200, body
            payloads = list(stream)
        assert payloads[-1] == "[DONE]"
        assert sum('"content"' in one for one in payloads) > 1000
        states = until(
            made.states,
            lambda found: found[(holder, "a")] == "unloaded",
            missing=made.cortex.log,
        )
        assert "loaded" in states.values()


def test_a_cortex_killed_in_the_midst_finds_its_fleet_and_moves_nothing(tmp_path: Path) -> None:
    with fleet(tmp_path, (*QUICK, "orchestrator.idle_timeout_s=0")) as made:
        for name in ("left", "right"):
            made.start_neuron(name, MODELS)
        assert made.chat("a")[0] == 200
        assert made.chat("b")[0] == 200
        before = made.states()
        pids = {name: children_of(made, name) for name in made.neurons}
        made.cortex.stop(9)
        made.start_cortex()
        until(made.present, lambda found: len(found) == 2, missing=made.cortex.log)
        assert made.chat("a")[0] == 200
        assert made.chat("b")[0] == 200
        assert made.states() == before
        assert {name: children_of(made, name) for name in made.neurons} == pids


def children_of(made: Fleet, name: str) -> list[int]:
    return [one.pid for one in runtime_children(made.neurons[name])]


def test_a_request_that_may_not_wait_is_told_how_far_its_model_is(tmp_path: Path) -> None:
    with fleet(tmp_path, QUICK) as made:
        made.start_neuron("left", ("a",))
        headers = {"x-helexa-max-wait": "0"}
        with asked(made.url, CHAT, question_to("a"), key=made.key, headers=headers) as response:
            assert response.status == 503
            assert int(response.headers["retry-after"]) >= 1
            error = json.loads(response.read())["error"]
        assert error["code"] == "model_loading"
        assert error["progress"]["phase"] in ("waiting", "loading")
        assert set(error["progress"]) == {"phase", "bytes_done", "bytes_total", "eta_s"}
        assert made.chat("a")[0] == 200
